"""Kills `orchestrator submit` at random points, again and again, and counts what came of it.

    python -m tests.faults.kill_points --n 10000 --seed 1

Each round is a sweep of some trials in several arrays on a pretended Slurm that misbehaves
(``fake_slurm/``). Submitters are killed at random points, from outside at random times, and by
sbatch itself; their spec is widened in between; sometimes two submit at once. Once a submit has
ended well, and again half a second later, every record is put side by side (``ledger.py``): each
trial stands in exactly one accepted array.

Submitters are forks of one warm process, so that a kill costs a tenth of a second. A round depends
on its seed alone, but for what the kernel's scheduler decides; ``--round SEED`` replays one.
"""

from __future__ import annotations

import argparse
import collections
import gc
import importlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from orchestrator.adapters import slurm_cli, sweep_lock
from orchestrator.usecases import settle
from tests.faults.kill_round import ROOT, Round, RoundFailed, Tally

RECHECK_AFTER_S = 0.5


def run_rounds(n_kills: int, seed: int, tally: Tally) -> None:
    """Run rounds until so many submitters were killed.

    Raises:
        RoundFailed: See ``Round``; its folder is kept.
    """
    for module in ("cli.submit", "adapters.executors.slurm"):
        importlib.import_module(f"orchestrator.{module}")  # once, not in each fork
    slurm_cli.SUBMIT_KILL_S = 0
    settle.POLL_S = 0.03
    sweep_lock.POLL_S = 0.02
    gc.collect()
    gc.freeze()  # so that forks do not copy what they never touch
    base = Path(tempfile.mkdtemp(prefix="kill-points-", dir=_fast_folder()))
    ended: collections.deque[tuple[float, Round]] = collections.deque()
    while tally.n_kills < n_kills:
        number = tally.n_rounds
        current = Round(base / str(number), seed + number, tally)
        current.run()
        current.check()
        ended.append((time.monotonic(), current))
        while ended and time.monotonic() - ended[0][0] > RECHECK_AFTER_S:
            _recheck(ended.popleft()[1])
    time.sleep(RECHECK_AFTER_S if ended else 0)
    for _, last in ended:
        _recheck(last)
    shutil.rmtree(base)


def _recheck(ended: Round) -> None:
    """Look again: what was still under way has come by now."""
    ended.check()
    shutil.rmtree(ended.folder)


def _fast_folder() -> str | None:
    """Where fsync costs nothing; a killed process's files survive there as well."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def run_processes(n_kills: int, seed: int, n_processes: int) -> Tally:
    """Run rounds in several processes: most of their time is waiting.

    Raises:
        RoundFailed: In one of them; the others are ended.
    """
    argv = [sys.executable, "-m", "tests.faults.kill_points", "--tally"]
    children = [
        subprocess.Popen(
            [*argv, "--n", str(-(-n_kills // n_processes)), "--seed", str(seed + 10**6 * number)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(n_processes)
    ]
    total = Tally()
    try:
        for child in children:
            answer, _ = child.communicate()
            if child.returncode != 0:
                raise RoundFailed(answer)
            total.add(json.loads(answer.splitlines()[-1]))
    finally:
        for child in children:
            child.kill()
            child.wait()
    return total


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns 1 if a round failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--n", type=int, default=1000, help="kills (default: 1000)")
    parser.add_argument("--seed", type=int, default=None, help="of the first round")
    parser.add_argument("--processes", type=int, default=1, help="at a time (default: 1)")
    parser.add_argument("--round", type=int, help="replay the round of this seed")
    parser.add_argument("--tally", action="store_true", help="print the counts as JSON")
    options = parser.parse_args(argv)
    seed = random.SystemRandom().randrange(10**8) if options.seed is None else options.seed
    seed = seed if options.round is None else options.round
    print(f"seed {seed}", flush=True)
    tally = Tally()
    began = time.monotonic()
    try:
        if options.processes > 1 and options.round is None:
            tally = run_processes(options.n, seed, options.processes)
        else:
            run_rounds(options.n if options.round is None else 1, seed, tally)
    except RoundFailed as error:
        print(error)
        return 1
    if options.tally:
        print(json.dumps(vars(tally)))
        return 0
    print(
        f"{tally.n_kills} kills of {tally.n_submits} submits in {tally.n_rounds} sweeps; "
        f"{tally.n_trials} trials, each in exactly one array; {time.monotonic() - began:.0f} s"
    )
    print(f"exit codes of the others: {dict(sorted(tally.codes.items()))}")
    print(f"kills by point: {dict(sorted(tally.kills.items()))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
