"""What the early heartbeats cost the file server: operations of an attempt's first minute.

Two attempts run for a minute under ``strace``, at the same time: one as it is (heartbeats 1, 3, 7,
15 and 31 s after the claim), one with regular ones alone (30 s). Each call that names a file, and
each ``fstat``, ``getdents``, ``fsync`` and ``close``, counts as one operation, whether or not the
client's cache would answer it, so of reads these are upper bounds. The program is a small Python
one: it reads its parameters, and reports after 20 s. Needs strace; takes a minute.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
LASTS_S = 58.0
CALLS = "%file,getdents64,fstat,fsync,close"
PROGRAM = f"""
import json, os, time
json.load(open(os.environ["TRIAL_PARAMS"]))
time.sleep(20)
with open(os.environ["TRIAL_METRICS"], "a") as file:
    file.write('{{"loss": 1, "step": 1}}\\n')
time.sleep({LASTS_S - 20})
"""
VARIANTS = {
    "as it is": {},
    "regular ones alone": {"ORCHESTRATOR_FIRST_BEAT_S": "30"},
}
START, BEAT, LOOK, END = "start", "heartbeats", "looks for the first report", "end"
# Where files lie: the sweep and what `make setup` installs are on the shared file system, Python
# itself may be.
SWEEP, OURS, PYTHON, OTHER = "the sweep's folder", "the project and its .venv", "Python", "other"
_LINE = re.compile(r"(\d+) (\w+)\((.*)")
_NAMES = re.compile(r'"((?:[^"\\]|\\.)*)"|(?<=<)(/[^>]*)(?=>)')


def start(trial: Path, trace: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start an attempt under strace."""
    trial.mkdir(parents=True)
    (trial / "params.json").write_text('{"x": 1}')
    program = trial / "program.py"
    program.write_text(PROGRAM)
    attempt = ["-P", "-m", "orchestrator.runtime.attempt", "--trial-dir", str(trial), "--"]
    environ = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
    return subprocess.Popen(
        ["strace", "-f", "-y", "-s", "4096", "-e", f"trace={CALLS}", "-o", str(trace)]
        + [sys.executable, *attempt, sys.executable, str(program)],
        env={**environ, **env, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def place_of(path: str, trial: Path) -> str:
    """Tell on which part of the disk a path is."""
    if path.startswith(str(trial.parents[1])):
        return SWEEP
    if path.startswith(str(ROOT)):
        return OURS
    python = (f"{sys.base_prefix}/lib", f"{sys.base_prefix}/bin")
    return PYTHON if path.startswith(python) else OTHER


def count(trace: Path, trial: Path) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Count operations by phase and place; also list those of heartbeats, in order."""
    found: Counter[tuple[str, str]] = Counter()
    beats: list[str] = []
    attempt, program = None, None
    for line in trace.read_text(errors="replace").splitlines():
        match = _LINE.match(line)
        if program is not None and line.startswith(f"{program} +++"):
            program = "over"
        if match is None:
            continue
        pid, call, rest = match.groups()
        attempt = attempt or pid
        if program is None and call == "execve" and pid != attempt and "program.py" in rest:
            program = pid
        names = [a or b for a, b in _NAMES.findall(rest.rpartition(" = ")[0] or rest)]
        paths = [name for name in names if name.startswith("/")]
        if not paths:
            continue
        place = place_of(paths[-1], trial)
        if place == OTHER and paths[-1].startswith("/proc"):
            continue
        if program is None or pid == program:
            phase = START
        elif program == "over":
            phase = END
        else:
            phase = LOOK if "metrics" in paths[-1] else BEAT
            if phase == BEAT:
                beats.append(f"{call} {os.path.relpath(paths[-1], trial)}")
        found[phase, place] += 1
    return found, beats


def main() -> int:
    """Print operations of both variants side by side."""
    if shutil.which("strace") is None:
        print("strace is not installed")
        return 1
    with tempfile.TemporaryDirectory() as name:
        trials = {v: Path(name) / str(n) / "trials" / "00001-aa" for n, v in enumerate(VARIANTS)}
        traces = {v: trial.parent / "trace" for v, trial in trials.items()}
        running = [start(trials[v], traces[v], env) for v, env in VARIANTS.items()]
        for process in running:
            process.wait(LASTS_S + 120)
        counts = {v: count(traces[v], trials[v]) for v in VARIANTS}
    print(f"{'':<54}" + "".join(f"{v:>20}" for v in VARIANTS))
    for key in sorted(set().union(*(found for found, _ in counts.values()))):
        row = "".join(f"{found[key]:>20}" for found, _ in counts.values())
        print(f"{key[0] + ', ' + key[1]:<54}{row}")
    (beats, few) = (counts[v][1] for v in VARIANTS)
    n_early = len(beats) - len(few)
    first = next(iter(counts.values()))[0]
    for places in ((SWEEP,), (SWEEP, OURS), (SWEEP, OURS, PYTHON)):
        n = sum(first[START, place] for place in places)
        share = f"{100 * n_early / n:.1f} % of the start's {n}"
        print(f"early heartbeats: {n_early} operations, {share} on {', '.join(places)}")
    print("a regular heartbeat: " + ", ".join(few))
    return 0


if __name__ == "__main__":
    sys.exit(main())
