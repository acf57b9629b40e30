"""Reading an Optuna study from a journal file or a SQLite file.

Optuna itself reads them, from a copy: its storages create tables and locks beside what they open,
and a study that is being written to, or lies in a folder that is not ours, shall stay as it is. A
SQLite file is copied by SQLite's backup, so that a running study is read at one moment; one of an
older Optuna is brought up to date in the copy. Both hold JSON; nothing is unpickled.

Values are metrics, called as the study calls them (``metric_names``), else ``value`` or
``value_0, value_1, ...``; user attributes that are numbers, truth values or short texts are metrics
too. Intermediate values are the curve. Runs on the login node.
"""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import tempfile
from typing import TYPE_CHECKING, Any

from orchestrator.contract.errors import UserError
from orchestrator.contract.states import TrialState
from orchestrator.domain.imported_run import MAX_TEXT, Imported, ImportedRun
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.sweep_summary import MAXIMIZE, MINIMIZE

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

SQLITE_MAGIC = b"SQLite format 3\0"
MAX_SHOWN = 20
# What foreign bytes make of Optuna, SQLAlchemy and SQLite; anything else is a fault of ours.
_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, AssertionError, RuntimeError)


def is_journal(head: bytes) -> bool:
    """Whether a file's first line is one of an Optuna journal."""
    line = head.partition(b"\n")[0]
    return line.startswith(b"{") and b'"op_code"' in line and b'"worker_id"' in line


def read_study(path: str, data: bytes | None, study: str | None) -> Imported:
    """Read a study.

    Args:
        path: The file.
        data: The journal's bytes; None: it is a SQLite file.
        study: The study's name, needed where there are several.

    Raises:
        UserError: It cannot be read, or which study is meant is not said.
    """
    with tempfile.TemporaryDirectory(prefix="orchestrator-import-") as folder:
        copy = os.path.join(folder, "study")
        try:
            storage = _copy_sqlite(path, copy) if data is None else _copy_journal(data, copy)
            try:
                return _read(storage, study)
            finally:
                with contextlib.suppress(*_UNREADABLE):
                    storage.remove_session()
        except (*_UNREADABLE, sqlite3.Error, OSError) as error:
            raise UserError(f"Optuna cannot read it: {_first_line(error)}") from None


def _copy_journal(data: bytes, copy: str) -> BaseStorage:
    # Lazy: only an import of a study needs Optuna, which takes a second to load.
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    with open(copy, "xb") as file:
        file.write(data)
    return JournalStorage(JournalFileBackend(copy))


def _copy_sqlite(path: str, copy: str) -> BaseStorage:
    # Lazy, as above.
    import sqlalchemy.exc
    from optuna.storages import RDBStorage

    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    with (
        contextlib.closing(sqlite3.connect(f"file:{quoted}?mode=ro", uri=True)) as source,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
        tables = {row[0] for row in target.execute("select name from sqlite_master")}
    if "studies" not in tables:
        raise ValueError("it is a SQLite file without the tables of a study")
    try:
        storage = RDBStorage(f"sqlite:///{copy}", skip_compatibility_check=True)
        if storage.get_current_version() != storage.get_head_version():
            storage.upgrade()
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise ValueError(_first_line(error)) from None
    return storage


def _read(storage: BaseStorage, wanted: str | None) -> Imported:
    studies = {found.study_name: found for found in storage.get_all_studies()}
    shown = ", ".join(one_line(name, 40) for name in list(studies)[:MAX_SHOWN])
    if not studies:
        raise UserError("there is no study in it")
    if wanted is None and len(studies) > 1:
        raise UserError(
            f"{len(studies)} studies are in it; name one with ARGS='--study NAME': {shown}"
        )
    name = wanted if wanted is not None else next(iter(studies))
    if name not in studies:
        raise UserError(f"no study {one_line(name, 60)!r} in it; there are: {shown}")
    study = studies[name]
    directions = study.directions
    named = study.system_attrs.get("study:metric_names")
    names = ["value"] if len(directions) == 1 else [f"value_{i}" for i in range(len(directions))]
    if isinstance(named, list) and len(named) == len(directions):
        names = [str(item) for item in named]
    goals = [MAXIMIZE if direction.name == "MAXIMIZE" else MINIMIZE for direction in directions]
    trials = storage.get_all_trials(study._study_id, deepcopy=False)
    return Imported(
        f"Optuna study {one_line(name, 60)!r}",
        tuple(_run(trial, names) for trial in trials),
        objectives=tuple(zip(names, goals, strict=True)),
        study=name,
    )


def _run(trial: FrozenTrial, names: list[str]) -> ImportedRun:
    metrics: dict[str, Any] = {}
    for key, value in trial.user_attrs.items():
        if isinstance(value, (bool, int, float)):
            metrics[key] = value
        elif isinstance(value, str):
            metrics[key] = value[:MAX_TEXT]
    if trial.values is not None:
        metrics.update(zip(names, trial.values, strict=False))
    steps = sorted(trial.intermediate_values)
    state, reason = _state(trial, steps)
    wall_s = None
    if trial.datetime_start is not None and trial.datetime_complete is not None:
        wall_s = max(0.0, (trial.datetime_complete - trial.datetime_start).total_seconds())
    return ImportedRun(
        id=str(trial.number),
        params={name: _plain(value) for name, value in trial.params.items()},
        metrics=metrics,
        state=state,
        reason=reason,
        number=trial.number,
        # Optuna writes local times without their zone; astimezone takes them as this machine's.
        started_at=trial.datetime_start.astimezone() if trial.datetime_start is not None else None,
        wall_s=wall_s,
        last_step=steps[-1] if steps else None,
        curve=tuple({"step": step, names[0]: trial.intermediate_values[step]} for step in steps),
    )


def _state(trial: FrozenTrial, steps: list[int]) -> tuple[TrialState, str]:
    at = f" at step {steps[-1]}" if steps else ""
    if trial.state.name == "COMPLETE":
        return TrialState.DONE, ""
    if trial.state.name == "PRUNED":
        return TrialState.CANCELLED, f"pruned{at}"
    if trial.state.name == "FAIL":
        return TrialState.FAILED, f"failed{at}"
    return TrialState.UNKNOWN, f"{trial.state.name.lower()} when it was imported"


def _plain(value: Any) -> Any:
    """Return a parameter as a JSON value; a category may be anything that JSON holds."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _first_line(error: BaseException) -> str:
    return one_line(str(error).strip().partition("\n")[0], 300) or type(error).__name__
