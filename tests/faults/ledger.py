"""The union of all records of a sweep: the queue, the journal, the folders; and what is amiss.

Called by ``kill_points.py`` and by tests, once a submit has ended well. It reads the files by
itself, not by the code under test.
"""

from __future__ import annotations

import collections
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# The last line of the step layout in templates/base.sbatch.j2.
SCRIPT_END = 'exec "${attempt[@]}" --layout local -- "${program[@]}"\n'


@dataclass
class Ledger:
    """What all records say together."""

    arrays: dict[str, list[str]] = field(default_factory=dict)
    """Ids of the accepted arrays by token."""
    problems: list[str] = field(default_factory=list)
    """What contradicts the promise."""


def read_ledger(sweep: Path, jobs: Path, n_trials: int) -> Ledger:
    """Put the records of a sweep side by side.

    Args:
        sweep: Its folder.
        jobs: The pretended Slurm's accepted arrays.
        n_trials: How many trials its spec has.
    """
    queue = []
    for path in jobs.iterdir():
        words = path.read_text().split()
        if words:  # else a submission that was cut short
            queue.append((path.name, words[0], int(words[2]) - int(words[1]) + 1))
    return compare(sweep, queue, n_trials)


def compare(sweep: Path, queue: list[tuple[str, str, int]], n_trials: int) -> Ledger:
    """Compare a sweep's records with the queue, in which no array has ended.

    Args:
        sweep: Its folder.
        queue: Id, token and number of tasks of each accepted array.
        n_trials: How many trials its spec has.
    """
    ledger = Ledger()
    say = ledger.problems.append
    intents, job_ids, dead = _read_journal(sweep)
    for job_id, token, n_tasks in queue:
        ledger.arrays.setdefault(token, []).append(job_id)
        if token not in intents:
            say(f"array {job_id} [{token}] was submitted, and the journal does not know it")
        elif n_tasks != len(intents[token]):
            say(f"array {job_id} has {n_tasks} tasks, its intent {len(intents[token])} trials")
    for token in intents:
        ids = ledger.arrays.get(token, [])
        if token in dead and ids:
            say(f"array {token} was given up ({dead[token]}), and Slurm has it as {ids}")
        if token not in dead and [job_ids.get(token)] != ids:
            say(f"array {token} is {job_ids.get(token)} in the journal and {ids} in the queue")
    count: collections.Counter[str] = collections.Counter()
    for token, ids in ledger.arrays.items():
        tasks = (sweep / "arrays" / token / "tasks").read_text().splitlines()
        if tasks != intents.get(token):
            say(f"array {token}: `tasks` is not what the intent says")
        script = (sweep / "arrays" / token / "array.sbatch").read_text()
        if not script.endswith('>> "$trial_dir/log" 2>&1\n'):
            say(f"array {token}: its script is cut short")
        for name in tasks:
            count[name] += len(ids)
    for name, n_arrays in count.items():
        if n_arrays > 1:
            say(f"trial {name} was submitted {n_arrays} times")
        ledger.problems += _check_trial(sweep / "trials" / name)
    values = [json.loads((sweep / "trials" / name / "params.json").read_text()) for name in count]
    lost = set(range(1, n_trials + 1)) - {value["x"] for value in values}
    if lost:
        say(f"trials lost: x = {sorted(lost)}")
    if len(values) != n_trials:
        say(f"{len(values)} trials are queued, the spec has {n_trials}")
    return ledger


def _read_journal(sweep: Path) -> tuple[dict[str, list[str]], dict[str, str], dict[str, str]]:
    """Trials, id and end of each array, by token; cut lines are passed over."""
    intents: dict[str, list[str]] = {}
    job_ids: dict[str, str] = {}
    dead: dict[str, str] = {}
    for line in (sweep / "journal.jsonl").read_text().splitlines():
        try:
            entry: dict[str, Any] = json.loads(line)
        except ValueError:
            continue
        if entry["kind"] == "intent":
            intents[entry["token"]] = entry["trials"]
        elif entry["kind"] in ("submitted", "adopted"):
            job_ids[entry["token"]] = entry["job_id"]
        elif entry["kind"] in ("refused", "abandoned"):
            dead[entry["token"]] = entry["reason"]
    return intents, job_ids, dead


def _check_trial(trial: Path) -> list[str]:
    """A queued trial can start: both its files are whole."""
    problems = []
    try:
        if set(json.loads((trial / "params.json").read_text())) != {"x"}:
            problems.append(f"trial {trial.name}: other parameters")
    except (OSError, ValueError) as error:
        problems.append(f"trial {trial.name}: params.json: {error}")
    script = (trial / "trial.sbatch").read_text() if (trial / "trial.sbatch").exists() else ""
    if not script.startswith("#!/bin/bash\n") or not script.endswith(SCRIPT_END):
        problems.append(f"trial {trial.name}: trial.sbatch is cut short")
    return problems
