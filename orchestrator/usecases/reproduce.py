"""Running one trial again from its record, on this machine, and comparing the numbers.

Runs where the user types it. The trial's ``params.json`` and ``trial.sbatch`` are copied to
``reproductions/<trial>/<n>/trials/<trial>/`` and run with bash, as the script was made for: with
the snapshot of the code, the seed and the variables that it names. The trial itself, its result and
the journal stay as they are.

What it cannot bring back: another machine's hardware and libraries. What of the software differs
from what was recorded at submit is said.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.adapters import code_snapshot, code_state, software
from orchestrator.adapters.executors.local import LocalEvent, LocalExecutor, LocalTask
from orchestrator.adapters.journal import read_entries
from orchestrator.adapters.trial_dir import list_trials
from orchestrator.contract.errors import CorruptRecord, UserError
from orchestrator.contract.paths import SweepPaths, TrialPaths
from orchestrator.contract.records import read_record
from orchestrator.domain.frozen_code import name_some
from orchestrator.domain.metric_comparison import Compared, are_equal, compare_metrics
from orchestrator.domain.trial_choice import choose_trial

_CODE_LINE = re.compile(r"^# code: ([0-9a-f]+)$", re.MULTILINE)


@dataclass
class Reproduction:
    """A trial that was run again."""

    trial: str
    """Its directory name."""
    folder: str
    """The copy that was run; its log and metrics are there."""
    snapshot: str | None
    """The code that it ran; None for the live tree."""
    rows: list[Compared] = field(default_factory=list)
    """Its metrics beside the committed ones; empty if it has no result."""
    notes: list[str] = field(default_factory=list)
    """What is not as it was, a line each."""
    exit_code: int | None = None
    """Of the script; None if a person stopped it."""

    @property
    def is_equal(self) -> bool:
        """Whether all numbers that count are the same."""
        return self.exit_code == 0 and are_equal(self.rows)


def reproduce(
    sweep: SweepPaths,
    word: str,
    *,
    tolerance: float = 0.0,
    on_start: Callable[[Reproduction], None] = lambda _: None,
) -> Reproduction:
    """Run a trial again and compare.

    Args:
        sweep: Its sweep.
        word: Its number, its directory name, or the beginning of its hash.
        tolerance: The largest relative difference that still counts as equal.
        on_start: Called when the copy is made and about to run.

    Raises:
        UserError: No such trial, no result to compare with, or its code is gone.
        OSError: The copy cannot be made.
    """
    name = choose_trial(list_trials(sweep), word)
    trial = sweep.trial(name)
    result = _read_result(trial)
    with open(trial.script, encoding="utf-8", errors="surrogateescape") as file:
        match = _CODE_LINE.search(file.read())
    snapshot = match[1] if match else None
    notes = [*_code_notes(sweep, snapshot), *_attempt_notes(trial, result, snapshot)]
    copy = _copy_trial(sweep, trial)
    done = Reproduction(name, copy.root, snapshot, notes=notes)
    on_start(done)
    events: list[LocalEvent] = []
    executor = LocalExecutor(max_parallel=1)
    gpus = _number(_resources(trial, result).get("gpus"))
    codes = executor.run([LocalTask(copy, 1, gpus)], events.append)
    done.exit_code = codes.get(name)
    if done.exit_code == 0:
        again = read_record(copy.result)
        done.rows = compare_metrics(
            result.get("metrics") or {},
            again.get("metrics") or {},
            objective=_objective(sweep),
            tolerance=tolerance,
        )
    return done


def _read_result(trial: TrialPaths) -> dict[str, Any]:
    try:
        return read_record(trial.result)
    except FileNotFoundError:
        raise UserError(
            f"{trial.name} has no committed result to compare with; make explain tells why"
        ) from None


def _copy_trial(sweep: SweepPaths, trial: TrialPaths) -> TrialPaths:
    """Make a sweep of this one trial, in a folder of its own, with the code of the real one."""
    base = sweep.reproductions(trial.name)
    os.makedirs(base, mode=0o700, exist_ok=True)
    number = 1
    while True:
        root = f"{base}/{number}"
        try:
            os.mkdir(root, mode=0o700)
            break
        except FileExistsError:
            number += 1
    copy = TrialPaths(f"{root}/trials/{trial.name}")
    os.makedirs(copy.root, mode=0o700)
    if os.path.isdir(sweep.code):
        os.symlink("../../../code", f"{root}/code")
    for source, target in ((trial.params, copy.params), (trial.script, copy.script)):
        shutil.copyfile(source, target)
    return copy


def _code_notes(sweep: SweepPaths, snapshot: str | None) -> list[str]:
    """Say what of code and software is not as it was."""
    entries, _ = read_entries(sweep)
    records = [entry for _, entry in entries if entry.get("kind") == "code"]
    if snapshot is None:
        return ["it ran the live files, not a copy: they are run as they are now"] + (
            _commit_notes(sweep, records[-1]) if records else []
        )
    try:
        changed = code_snapshot.find_changes(sweep.code, snapshot)
    except FileNotFoundError:
        raise UserError(f"{sweep.code}/{snapshot}: the code that it ran is gone") from None
    notes = []
    if changed:
        notes.append(f"code/{snapshot} is not as it was copied: {name_some(changed)}")
    mine: Mapping[str, Any] = next(
        (r for r in reversed(records) if r.get("snapshot") == snapshot), {}
    )
    program = mine.get("program")
    if isinstance(program, Mapping):
        notes.append(f"{program.get('path')} lies outside the copied code: it is run as it is now")
    return [*notes, *_software_notes(sweep, str(mine.get("environment", "")))]


def _commit_notes(sweep: SweepPaths, record: Mapping[str, Any]) -> list[str]:
    try:
        folder = str(read_record(sweep.summary).get("workdir", ""))
    except (OSError, CorruptRecord):
        return []
    now, _ = code_state.describe_code(folder)
    was, then = str(record.get("commit", ""))[:12], str(now.get("commit", ""))[:12]
    if was and was != then:
        return [f"they were of commit {was}, and are of {then or 'none'} now"]
    return ["they had uncommitted changes then"] if record.get("dirty") else []


def _software_notes(sweep: SweepPaths, name: str) -> list[str]:
    try:
        then = read_record(software.software_path(sweep.code, name)) if name else None
    except (OSError, CorruptRecord):
        then = None
    if then is None:
        return ["which software it found was not recorded"]
    return [f"software differs: {words}" for words in _differences(then)]


def _differences(then: Mapping[str, Any]) -> list[str]:
    now = software.describe_software()
    words = [
        f"{key} {then.get(key)} then, {now[key]} now"
        for key in ("python", "implementation", "machine")
        if then.get(key) != now[key]
    ]
    before, after = dict(then.get("packages") or {}), now["packages"]
    words += [
        f"{name} {before.get(name, 'absent')} then, {after.get(name, 'absent')} now"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
    return words


def _attempt_notes(trial: TrialPaths, result: Mapping[str, Any], snapshot: str | None) -> list[str]:
    """Say so if the attempt that committed ran other code than the script names now."""
    ran = _resources(trial, result).get("code")
    if ran == snapshot:
        return []
    return [f"its result was made with code {ran or 'live'}, its script names {snapshot or 'live'}"]


def _resources(trial: TrialPaths, result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the attempt that committed had."""
    try:
        record = read_record(trial.attempt(int(result.get("attempt") or 0)))
        resources = record.get("resources")
    except (OSError, CorruptRecord, ValueError, TypeError):
        return {}
    return resources if isinstance(resources, Mapping) else {}


def _number(value: Any) -> int:
    return int(value) if isinstance(value, (int, float)) and value > 0 else 0


def _objective(sweep: SweepPaths) -> str | None:
    try:
        metric = read_record(sweep.summary).get("metric")
    except (OSError, CorruptRecord):
        return None
    return str(metric["name"]) if isinstance(metric, Mapping) and "name" in metric else None
