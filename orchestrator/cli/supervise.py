"""``orchestrator supervise``: look after a submitted sweep until every trial has ended."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from orchestrator.cli.arguments import find_sweep, make_parser, results_hint, show_path, split_words
from orchestrator.cli.json_output import print_json
from orchestrator.cli.submit import default_templates, release_words
from orchestrator.contract.errors import (
    EXIT_CHECKPOINTED,
    EXIT_OK,
    EXIT_TRIALS_FAILED,
    EXIT_TRY_AGAIN,
    SweepLocked,
    UserError,
)
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.states import TrialState
from orchestrator.domain.plain_text import one_line
from orchestrator.runtime.requeue import requeue_task
from orchestrator.usecases.supervise import (
    INTERVAL_S,
    Round,
    SuperviseOptions,
    read_frozen_spec,
    seconds_waiter,
    supervise,
)
from orchestrator.usecases.supervisor_job import submit_supervisor
from orchestrator.usecases.workspace import refuse_import

DESCRIPTION = """\
Look after a submitted sweep until every trial has ended: what was preempted,
lost its node, ran out of memory or time goes on; what cannot succeed is given
up, with its reason. Each round is what `make submit` does. It may be stopped
and started again at any time, here or elsewhere: it keeps nothing in memory.
"""
# Of decisions in one round; the rest is counted.
MAX_LINES = 10


def run(argv: Sequence[str]) -> int:
    """Run the command; exits 0 once all trials are done, 1 if some failed or the sweep paused."""
    options = _parse(argv)
    word, overrides = split_words(options.words)
    if overrides:
        raise UserError(f"supervise takes no overrides: {overrides[0]}; submit with them first")
    sweep = find_sweep(options.results, word)
    refuse_import(sweep)
    templates = options.templates or default_templates()
    if options.job:
        return _submit_job(sweep, templates, options)
    stops: list[int] = []
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, lambda signum, frame: stops.append(signum))
    how = SuperviseOptions(options.results, templates, options.interval, options.rounds)
    show, wait = _Show(sweep.name, options.json), seconds_waiter(lambda: bool(stops))
    try:
        last = _supervise_in_turn(sweep, how, show, wait)
    except KeyboardInterrupt:
        last, stops = None, [signal.SIGINT]
    if stops and (last is None or not last.is_over):
        return _leave(stops[0])
    assert last is not None
    if last.report is None:
        return EXIT_TRY_AGAIN
    where = results_hint(options.results, sweep)
    failed = last.report.states.get(TrialState.FAILED, 0)
    if last.is_over and not options.json and not last.report.paused:
        words = f" ({failed} failed: make status{where})" if failed else ""
        print(f"{sweep.name}: nothing left to do{words}; next: make collect{where}")
    return EXIT_TRIALS_FAILED if failed or last.report.paused else EXIT_OK


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("supervise", DESCRIPTION, "a spec or the name of a submitted sweep")
    parser.add_argument(
        "--templates", metavar="FOLDER", help="templates folder (default: templates)"
    )
    parser.add_argument(
        "--interval",
        type=float,
        default=INTERVAL_S,
        metavar="S",
        help=f"seconds between rounds (default: {INTERVAL_S:.0f})",
    )
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="stop after N rounds (default: when all has ended)"
    )
    parser.add_argument(
        "--job", action="store_true", help="do it in a one-CPU Slurm job, and return at once"
    )
    parser.add_argument("--partition", metavar="NAME", help="with --job: the profile to run on")
    options = parser.parse_intermixed_args(list(argv))
    if not options.interval >= 0:
        raise UserError(f"--interval {options.interval}: use seconds, such as 30")
    if options.rounds is not None and options.rounds < 1:
        raise UserError(f"--rounds {options.rounds}: use 1 or more")
    return options


def _supervise_in_turn(
    sweep: SweepPaths, how: SuperviseOptions, show: _Show, wait: Callable[[float], bool]
) -> Round | None:
    """Supervise; a job that finds somebody at it waits for its turn, a person is told."""
    while True:
        try:
            return supervise(sweep, how, show.tell, wait)
        except SweepLocked as error:
            if "SLURM_JOB_ID" not in os.environ:
                raise
            show.say(f"{error}; waiting")
        if wait(how.interval_s):
            return None


def _submit_job(sweep: SweepPaths, templates: str, options: argparse.Namespace) -> int:
    spec = read_frozen_spec(sweep)
    how = SuperviseOptions(options.results, templates, options.interval)
    job = submit_supervisor(sweep, spec, how, options.partition)
    if options.json:
        print_json(
            "supervise",
            {"job_id": job.job_id, "partition": job.partition, "is_new": job.is_new},
        )
        return EXIT_OK
    if job.is_new:
        print(f"{sweep.name}: supervised by job {job.job_id} on partition {job.partition}")
    else:
        print(f"{sweep.name}: job {job.job_id} supervises it already")
    print(f"  it writes to {show_path(job.log)}")
    return EXIT_OK


def _leave(number: int) -> int:
    """Leave because of a signal; a Slurm job has itself run again."""
    name = signal.Signals(number).name
    # A person's Ctrl-C, in an interactive allocation say, wants no job back.
    if number == signal.SIGINT or "SLURM_JOB_ID" not in os.environ:
        print("stopped; what is queued goes on. Go on with: make supervise", file=sys.stderr)
        return 128 + number
    print(f"stopped by {name}; requeue {requeue_task(os.environ)}", file=sys.stderr, flush=True)
    return EXIT_CHECKPOINTED


class _Show:
    """Prints a round when something changed."""

    def __init__(self, name: str, as_json: bool):
        self.name, self.as_json = name, as_json
        self._last = ""
        self._trouble = ""
        self._notes: list[str] = []

    def say(self, line: str) -> None:
        """Print a line unless it is the last one again."""
        if line != self._last:
            print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)
        self._last = line

    def tell(self, done: Round) -> None:
        if self.as_json:
            print_json("supervise", _as_json(self.name, done))
            return
        lines = self._trouble_lines(done)
        if done.report is not None:
            report = done.report
            counts = ", ".join(f"{n} {state.value}" for state, n in report.states.items())
            if counts != self._last or report.n_submitted:
                submitted = f"; submitted {report.n_submitted}" if report.n_submitted else ""
                lines.append(counts + submitted)
                self._last = counts
            told = [(n, d) for n, d in report.decisions.items() if d.reason]
            lines += [f"  {name}: {one_line(d.reason, 200)}" for name, d in told[:MAX_LINES]]
            if len(told) > MAX_LINES:
                lines.append(f"  ... and {len(told) - MAX_LINES} more (journal.jsonl has all)")
            lines += [f"  {words}" for words in release_words(report)]
            notes = [f"  warning: {one_line(text, 200)}" for text in report.warnings]
            if report.paused:
                notes.append(f"  paused: {one_line(report.paused, 200)}")
                notes.append("  mend it, then: make release")
            elif report.canary:
                notes.append(f"  canary: {report.canary}")
            if report.n_foreign_holds and not report.paused:
                n_held = report.n_foreign_holds
                notes.append(f"  {n_held} held by a person: scontrol release lets them go")
            lines += notes if notes != self._notes else []
            self._notes = notes
        for number, line in enumerate(lines):
            stamp = time.strftime("%H:%M:%S") if number == 0 else " " * 8
            print(f"{stamp}  {line}", flush=True)

    def _trouble_lines(self, done: Round) -> list[str]:
        trouble, before = done.trouble, self._trouble
        self._trouble = trouble
        if trouble and trouble != before:
            return [f"trouble, nothing is given up: {one_line(trouble, 300)}"]
        return ["it works again"] if before and not trouble else []


def _as_json(name: str, done: Round) -> dict[str, Any]:
    report = done.report
    return {
        "sweep": name,
        "trouble": done.trouble,
        "is_over": done.is_over,
        "states_before": None
        if report is None
        else {state.value: n for state, n in report.states.items()},
        "submitted": 0 if report is None else report.n_submitted,
        "paused": None if report is None else report.paused,
        "decisions": []
        if report is None
        else [
            {
                "trial": trial,
                "action": decision.action.value,
                "cause": decision.cause.value if decision.cause is not None else None,
                "reason": decision.reason,
            }
            for trial, decision in report.decisions.items()
        ],
        "warnings": [] if report is None else report.warnings,
    }
