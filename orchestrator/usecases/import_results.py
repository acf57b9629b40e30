"""Taking over results that something else made, as a folder that reads like a sweep's.

Runs on the login node. What the source is, is seen in the file itself: an Optuna journal or SQLite
study, a table (CSV: W&B's runs table, or any other), JSON (W&B's ``api.runs``, or any other), or a
folder of JSON files. Nothing of it is executed or unpickled, and it is not written to.

The same source may be imported again, with what is new in it; trials keep their numbers. A sweep
that was submitted here is never touched, and nothing can be submitted to what was imported.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from orchestrator.adapters import sweep_lock
from orchestrator.adapters.import_folder import (
    ImportFolder,
    number_runs,
    read_import,
    write_import,
)
from orchestrator.adapters.importers.json_files import read_folder, read_json_file
from orchestrator.adapters.importers.optuna_study import SQLITE_MAGIC, is_journal, read_study
from orchestrator.adapters.importers.wandb_export import read_table
from orchestrator.adapters.regular_file import UnusableFile, read_file
from orchestrator.contract.errors import UserError
from orchestrator.contract.paths import SweepPaths
from orchestrator.domain.imported_run import (
    SEED,
    Imported,
    RecordRules,
    choose_objectives,
    recognise_seed,
    tell_unused,
    varying_params,
)
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.spec_loader import safe_name
from orchestrator.domain.spec_tree import nearest
from orchestrator.usecases import workspace

MAX_FILE_BYTES = 512 * 2**20
_HEAD_BYTES = 4096


@dataclass(frozen=True)
class ImportOptions:
    """What a person said about the source."""

    name: str | None = None
    """The folder's name; None: the file's."""
    objectives: tuple[tuple[str, str], ...] = ()
    """Names and goals; empty: as the source says."""
    params: tuple[str, ...] = ()
    """Names of parameters, where the source does not tell them from metrics."""
    study: str | None = None
    """Which study of several."""


@dataclass(frozen=True)
class Import:
    """What became of it."""

    sweep: SweepPaths
    """The folder."""
    kind: str
    """What the source is, for people."""
    n_runs: int
    """Runs that are trials now."""
    problems: tuple[str, ...]
    """What could not be used."""
    notes: tuple[str, ...]
    """What was decided about the runs, for people."""


def import_results(results: str, source: str, options: ImportOptions) -> Import:
    """Read results of another tool into ``<results>/<name>``.

    Args:
        results: The results folder.
        source: A file or folder.
        options: What a person said about it.

    Raises:
        UserError: It cannot be read, it does not say what is needed and nobody else did, or a sweep
            of our own has that name.
    """
    # Not every shell expands the ~ of FROM=~/x; a link that a person names is meant.
    path = os.path.realpath(os.path.expanduser(source))
    name = options.name or _name_of(path)
    before = _look(results, name, path, options)
    if before is not None:
        options = replace(options, params=options.params or before.params)
        if options.study is None and before.source == path:
            options = replace(options, study=before.study)
    try:
        found = _read(path, options)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    if before is not None and before.study not in (None, found.study):
        _refuse_other(results, name, f"the study {one_line(before.study or '', 60)!r}", options)
    _check(source, found, options)
    runs, seed_name = recognise_seed(found.runs)
    previous = before.objectives if before is not None else ()
    try:
        objectives = choose_objectives(found, options.objectives, previous)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    sweep = workspace.create_sweep(results, name, is_import=True)
    about = ImportFolder(
        source=path,
        kind=found.kind,
        objectives=objectives,
        params=options.params,
        study=found.study,
        numbers=number_runs(runs, before.numbers if before is not None else {}),
    )
    varying = varying_params(runs)
    summary = {
        "name": name,
        "imported_from": path,
        "metric": {"name": objectives[0][0], "goal": objectives[0][1]},
        "objectives": [{"name": name_, "goal": goal} for name_, goal in objectives],
        "parameters": varying,
        "seeded": seed_name is not None,
    }
    with sweep_lock.hold(sweep):
        write_import(sweep, about, runs, summary, datetime.now(UTC))
    notes = []
    if seed_name is not None:
        notes.append(f"{one_line(seed_name, 60)} numbers repeats")
    problems = (*found.problems, *tell_unused(runs))
    return Import(sweep, found.kind, len(runs), problems, tuple(notes))


def _look(results: str, name: str, path: str, options: ImportOptions) -> ImportFolder | None:
    """Return what is known from an earlier import of the same source."""
    workspace.check_name(name)
    sweep = SweepPaths(os.path.join(os.path.abspath(results), name))
    before = read_import(sweep)
    if before is None:
        return None
    if before.source != path:
        _refuse_other(results, name, before.source, options)
    return before


def _refuse_other(results: str, name: str, was: str, options: ImportOptions) -> None:
    """Refuse to replace what was imported from elsewhere, unless a person named the folder."""
    if options.name is None:
        raise UserError(
            f"{os.path.join(os.path.abspath(results), name)} was imported from {was}; give this "
            f"one a name: ARGS='--name NAME', or ARGS='--name {name}' to put it in its place"
        )


def _read(path: str, options: ImportOptions) -> Imported:
    """Find out what a source is, and read it."""
    rules = RecordRules(options.params)
    if os.path.isdir(path):
        return read_folder(path, rules)
    head = _head(path)
    if head.startswith(SQLITE_MAGIC):
        return read_study(path, None, options.study)
    try:
        data, _ = read_file(path, MAX_FILE_BYTES)
    except (UnusableFile, FileNotFoundError) as error:
        raise UserError(str(error)) from None
    if is_journal(data[:_HEAD_BYTES]):
        return read_study(path, data, options.study)
    if options.study is not None:
        raise UserError("--study is for Optuna studies, and this is none")
    if not data.strip():
        raise UserError("empty")
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
        return read_json_file(path, data, rules)
    if b"\0" in data[:_HEAD_BYTES]:
        raise UserError("neither a study, nor a table (CSV), nor JSON")
    return read_table(data, rules)


def _head(path: str) -> bytes:
    """Return the beginning of a file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise UserError("there is no such file or folder") from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}") from None
    try:
        return os.read(fd, _HEAD_BYTES)
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}") from None
    finally:
        os.close(fd)


def _check(source: str, found: Imported, options: ImportOptions) -> None:
    """Refuse what cannot be ranked: no run, or parameters that nobody told from metrics."""
    problem = f"; {found.problems[0]}" if found.problems else ""
    if not found.runs:
        raise UserError(f"{source}: there is no run in it that can be used{problem}")
    names = dict.fromkeys(name for run in found.runs for name in run.params)
    for name in options.params:
        if name not in names:
            there = dict.fromkeys(name for run in found.runs for name in run.metrics)
            raise UserError(
                f"{source}: --param: no run has {one_line(name, 60)!r}; {nearest(name, there)}"
                f"there are: {', '.join(one_line(other, 40) for other in list(there)[:20])}"
            )
    if found.needs_params and not set(names) - {SEED}:
        seed = f"; {SEED} is one already" if SEED in names else ""
        raise UserError(
            f"{source}: it does not tell parameters from metrics; name the parameters: "
            f"ARGS='--param NAME --param NAME'; there are: {found.needs_params}{seed}"
        )


def _name_of(path: str) -> str:
    stem = os.path.basename(path.rstrip("/"))
    if not os.path.isdir(path):
        stem = stem.rpartition(".")[0] or stem
    name = safe_name(stem)
    if not name:
        raise UserError(f"{path}: its name makes no folder's name; give one: ARGS='--name NAME'")
    return name


def describe_import(done: Import) -> Sequence[str]:
    """Say in a line or two what was imported."""
    several = "s" if done.n_runs != 1 else ""
    lines = [f"{done.kind}: {done.n_runs:,} run{several} imported"]
    return [*lines, *(f"  {note}" for note in done.notes)]
