"""Reading the ledgers of a storm: what every execution of every trial really did. Pure but for I/O.

The method is Jepsen's: each program writes down for itself that it started, what it did and that it
ended; afterwards the union of all that is compared with what the system claims.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Execution:
    """One execution of a trial's program, as it wrote it down."""

    trial: str
    """Directory name."""
    attempt: int
    """The attempt it was told to be."""
    began_at: float
    """First line, Unix time."""
    last_at: float
    """Last line, Unix time: it lived at least until then."""
    steps: tuple[int, ...]
    """Steps it did."""
    is_finished: bool
    """Whether it did all of them."""


@dataclass
class Verdict:
    """What a storm showed."""

    violations: list[str] = field(default_factory=list)
    """Broken promises; there must be none."""
    n_executions: int = 0
    """Programs started."""
    overlaps: list[str] = field(default_factory=list)
    """Copies of one trial that ran at the same time, which the cluster may cause; listed."""
    repeated: Counter[str] = field(default_factory=Counter)
    """Steps done again, by how the attempt ended that had done them first."""
    outcomes: Counter[str] = field(default_factory=Counter)
    """How attempts ended, as the records say."""
    n_steps: int = 0
    """Steps done in all."""


def read_executions(folder: Path) -> list[Execution]:
    """Read every ledger of a folder; a cut last line is passed over."""
    found = []
    for path in sorted(folder.iterdir()):
        trial, attempt, _ = path.name.split(".")
        lines = [line.split() for line in path.read_text().split("\n")[:-1]]
        if not lines:
            continue
        steps = tuple(int(line[2]) for line in lines if line[0] == "step")
        times = [float(line[1]) for line in lines]
        is_finished = lines[-1][0] == "end"
        found.append(Execution(trial, int(attempt), times[0], times[-1], steps, is_finished))
    return found


def judge(sweep: Path, ledgers: Path, n_trials: int, n_steps: int) -> Verdict:
    """Compare what ran with what was committed.

    Args:
        sweep: The sweep's folder.
        ledgers: The folder of the ledgers.
        n_trials: How many trials there must be.
        n_steps: Steps of each.
    """
    executions = read_executions(ledgers)
    verdict = Verdict(n_executions=len(executions))
    trials = sorted((sweep / "trials").iterdir())
    if len(trials) != n_trials:
        verdict.violations.append(f"{len(trials)} trials instead of {n_trials}")
    for trial in trials:
        mine = [e for e in executions if e.trial == trial.name]
        _judge_trial(trial, sorted(mine, key=lambda e: e.began_at), n_steps, verdict)
    _judge_journal(sweep, {trial.name for trial in trials}, verdict)
    return verdict


def _judge_trial(trial: Path, mine: list[Execution], n_steps: int, verdict: Verdict) -> None:
    name = trial.name
    records = _records(trial)
    outcomes = {number: record.get("outcome") for number, record in records.items()}
    verdict.outcomes.update(str(outcome or "without a word") for outcome in outcomes.values())
    committed = [number for number, outcome in outcomes.items() if outcome == "committed"]
    try:
        result = json.loads((trial / "result.json").read_text())
    except (OSError, ValueError) as error:
        verdict.violations.append(f"{name}: no result: {error}")
        return
    # Killed between the commit and the record of it, an attempt is committed by its result alone.
    if len(committed) > 1 or (committed and committed[0] != result["attempt"]):
        verdict.violations.append(f"{name}: committed by attempts {committed}")
    if not any(e.is_finished and e.attempt == result["attempt"] for e in mine):
        verdict.violations.append(f"{name}: its result comes from a program that did not end")
    curve = [json.loads(line)["step"] for line in (trial / "metrics.jsonl").open()]
    if curve != list(range(1, n_steps + 1)):
        verdict.violations.append(f"{name}: its curve is not 1..{n_steps}: {curve[:200]}")
    by_steps: dict[int, Execution] = {}
    for execution in mine:
        for step in execution.steps:
            verdict.n_steps += 1
            if step in by_steps:
                first = by_steps[step]
                verdict.repeated[str(outcomes.get(first.attempt) or "without a word")] += 1
            by_steps[step] = execution
    if set(by_steps) != set(range(1, n_steps + 1)):
        verdict.violations.append(f"{name}: steps were skipped")
    for before, after in itertools.pairwise(mine):
        if after.began_at < before.last_at:
            verdict.overlaps.append(
                f"{name}: attempts {before.attempt} and {after.attempt} ran together for "
                f"{before.last_at - after.began_at:.1f} s"
            )


def _judge_journal(sweep: Path, trials: set[str], verdict: Verdict) -> None:
    """Every submitted trial exists, and no intent is left open."""
    open_intents: dict[str, list[str]] = {}
    for line in (sweep / "journal.jsonl").read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # cut short by a kill
        if entry["kind"] == "intent":
            open_intents[entry["token"]] = entry["trials"]
            strangers = set(entry["trials"]) - trials
            if strangers:
                verdict.violations.append(f"submitted, but not there: {sorted(strangers)}")
        elif entry["kind"] in ("submitted", "adopted", "refused", "abandoned"):
            open_intents.pop(entry["token"], None)
    if open_intents:
        verdict.violations.append(f"never settled: {sorted(open_intents)}")


def _records(trial: Path) -> dict[int, dict[str, Any]]:
    found = {}
    for path in (trial / "attempts").glob("[0-9]*.json"):
        try:
            found[int(path.stem)] = json.loads(path.read_text())
        except ValueError:
            found[int(path.stem)] = {}
    return found
