"""What a submission freezes: the spec, what was made of it, and the code that its trials run.

Runs on the login node; called by ``usecases.submit``, which holds the sweep's lock.

The code is copied (``adapters/code_snapshot.py``), and the trials' scripts name the copy, so that
editing it while trials are queued changes nothing for them. A person's submission takes the code
as it is now; a supervisor's round goes on with the newest copy. Where the code cannot be copied,
trials run the live tree, as they do with ``code: live``, and a warning says so.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from orchestrator.adapters import code_snapshot, code_state, software
from orchestrator.adapters.code_snapshot import Snapshot
from orchestrator.adapters.journal import JournalWriter
from orchestrator.adapters.source_tree import (
    MAX_FILE_BYTES,
    Listing,
    TreeTooLarge,
    find_root,
    is_within,
    list_tree,
)
from orchestrator.contract.errors import UserError
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import dump_record
from orchestrator.domain.frozen_code import FrozenCode, changed_files, name_some, read_frozen
from orchestrator.domain.partition import PartitionProfile
from orchestrator.domain.relation_loader import seed_dependent
from orchestrator.domain.search_space import Choice, Constant
from orchestrator.domain.spec import SweepSpec
from orchestrator.runtime import durable
from orchestrator.usecases import workspace
from orchestrator.usecases.scripts import program_file, workdir

# Snapshots that are kept in any case; of more, those that no trial's script names are removed.
N_KEPT = 5
N_READERS = 8
# Programs there are the system's, which nobody edits.
_INSTALLED = ("/usr/", "/bin/", "/sbin/", "/opt/", "/nix/")
_CODE_LINE = re.compile(rb"^# code: ([0-9a-f]+)$", re.MULTILINE)


def freeze_spec(
    sweep: SweepPaths,
    spec: SweepSpec,
    varying: list[str],
    profile: PartitionProfile,
    cluster: str,
) -> None:
    """Record the spec and what was made of it."""
    durable.replace(sweep.spec, spec.source_text.encode("utf-8"))
    metric, more = spec.metric, spec.more_objectives
    several = [metric, *more] if metric is not None and more else []
    summary = {
        "name": spec.name,
        "spec": spec.file,
        "spec_path": os.path.abspath(spec.file),
        "overrides": list(spec.overrides),
        "metric": None if metric is None else {"name": metric.name, "goal": metric.goal},
        "objectives": [{"name": one.name, "goal": one.goal} for one in several],
        "parameters": varying,
        "seeded": bool(spec.seeds),
        "differs": sorted(seed_dependent(spec.derived)) if spec.seeds else [],
        "cluster": cluster,
        "partition": profile.name,
        "workdir": workdir(spec),
    }
    durable.replace(sweep.summary, dump_record(summary))


def record_code(
    sweep: SweepPaths,
    spec: SweepSpec,
    writer: JournalWriter,
    warnings: list[str],
    *,
    is_round: bool = False,
) -> FrozenCode | None:
    """Freeze the code that the trials submitted next run, and record which it is.

    Args:
        sweep: Whose lock the caller holds.
        spec: The sweep's spec.
        writer: Its journal.
        warnings: Takes what a person should know, a line each.
        is_round: Whether this is a supervisor's round, which goes on with the newest snapshot.

    Returns:
        The snapshot; None if the trials run the live tree.

    Raises:
        UserError: A round, and the snapshot is gone.
    """
    before = code_state.newest_entry(sweep)
    frozen = read_frozen(before)
    if is_round and frozen is not None:
        if not os.path.isdir(f"{sweep.code}/{frozen.name}"):
            raise UserError(
                f"{sweep.code}/{frozen.name}: the code that the trials run is gone; "
                "make submit takes it as it is now"
            )
        return frozen
    with ThreadPoolExecutor(1) as pool:  # git takes as long as copying does
        describing = pool.submit(code_state.describe_code, workdir(spec))
        snapshot = None
        if spec.code == "freeze" and not is_round:
            frozen, snapshot = _freeze(sweep, spec, warnings)
        record, diff = describing.result()
    if "refused" in record:
        warnings.append(f"git's commit is not recorded, git says: {record['refused']}")
    if snapshot is None:
        if diff:
            code_state.save_diff(sweep.code, str(record["commit"])[:12], diff)
        # Also without git: later rounds shall not go on with a snapshot of before.
        if record or read_frozen(before) is not None:
            writer.write("code", **record)
        return None
    assert frozen is not None
    if diff:
        code_state.save_diff(sweep.code, frozen.name, diff)
    environment = software.save_software(sweep.code, software.describe_software())
    writer.write(
        "code", **record, **frozen.as_entry(), **_outer_program(spec), environment=environment
    )
    _tell(sweep, spec, before, snapshot, frozen, warnings)
    collect_old_code(sweep, frozen.name)
    return frozen


def _freeze(
    sweep: SweepPaths, spec: SweepSpec, warnings: list[str]
) -> tuple[FrozenCode | None, Snapshot | None]:
    """Take a snapshot; where that cannot be, say why."""
    folder = os.path.realpath(workdir(spec))
    hint = "trials run the live files, so edit nothing while they are queued (code: live says so)"
    if not os.path.isdir(folder):
        warnings.append(f"{folder} is not on this machine, its code is not frozen: {hint}")
        return None, None
    if folder in (os.path.realpath(os.path.expanduser("~")), "/"):
        warnings.append(f"{folder} is no project's folder, it is not copied: {hint}")
        return None, None
    root, is_git = find_root(folder)
    tops = [(root, is_git)] if root == folder else [(root, is_git), (folder, is_git)]
    why = ""
    for top, by_git in tops:
        look = _looker(top, by_git, _not_code(sweep, top), os.path.realpath(spec.file))
        try:
            snapshot = code_snapshot.take_snapshot(sweep.code, f"{sweep.cache}/code.json", look)
        except TreeTooLarge as error:
            why = f"{error}; let git ignore what is no code"
            continue
        except OSError as error:
            if _is_ours(sweep, error):
                raise
            why = f"{error.filename or top}: {error.strerror}"
            continue
        subdir = os.path.relpath(folder, top)
        python_path = spec.env.get("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
        roots = software.find_import_roots(top, python_path, bool(spec.environment))
        return FrozenCode(snapshot.name, top, subdir, tuple(roots)), snapshot
    warnings.append(f"the code is not frozen, {why}: {hint}")
    return None, None


def _looker(top: str, is_git: bool, excluded: list[str], spec: str) -> Callable[[], Listing]:
    return lambda: list_tree(top, is_git, excluded, [spec])


def _not_code(sweep: SweepPaths, top: str) -> list[str]:
    """Name the folders of results in a tree; a results folder that holds the tree is no such."""
    results = os.path.realpath(os.path.dirname(sweep.root))
    if results != top and is_within(results, top):
        return [results]
    names = {*workspace.known_sweeps(results), sweep.name}
    return [f"{results}/{name}" for name in names]


def _is_ours(sweep: SweepPaths, error: OSError) -> bool:
    """Whether the snapshot could not be written, unlike a tree that could not be read."""
    names = [name for name in (error.filename, error.filename2) if isinstance(name, str)]
    return not names or any(is_within(os.path.abspath(name), sweep.root) for name in names)


def _outer_program(spec: SweepSpec) -> dict[str, Any]:
    """Return path and digest of a program that lies outside the tree."""
    path = program_file(spec)
    if path is None:
        return {}
    root, _ = find_root(workdir(spec))
    if is_within(os.path.realpath(path), root):
        return {}
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return {}
    return {"program": {"path": path, "sha256": digest}}


def _is_yaml(path: str) -> bool:
    return path.endswith((".yaml", ".yml"))


def _tell(
    sweep: SweepPaths,
    spec: SweepSpec,
    before: dict[str, Any],
    snapshot: Snapshot,
    frozen: FrozenCode,
    warnings: list[str],
) -> None:
    """Say what differs from the last submission, and what of the code is not frozen."""
    old = before.get("snapshot")
    if isinstance(old, str) and old != snapshot.name:
        files = code_snapshot.read_manifest(sweep.code, old)
        what = "unknown"
        if files is not None:
            # Specs of other sweeps change all the time, and are no code: last.
            changed = sorted(changed_files(files, snapshot.files), key=_is_yaml)
            what = name_some(changed)
        warnings.append(f"the code changed since the last submission: {what}")
    if snapshot.unsettled:
        warnings.append(f"changed while the code was copied: {name_some(snapshot.unsettled)}")
    if snapshot.large:
        limit = f"over {MAX_FILE_BYTES // 2**20} MB"
        warnings.append(f"{limit}, so not frozen but linked: {name_some(snapshot.large)}")
    outer = _outer_program(spec).get("program")
    if outer is not None and not outer["path"].startswith(_INSTALLED):
        warnings.append(f"{outer['path']} lies outside {frozen.root}: it is not frozen")
    for word in _escaping_words(spec, frozen):
        warnings.append(
            f"{word!r} lies outside {frozen.root}, whose copy the trials start in: write an "
            "absolute path, or code: live"
        )


def _escaping_words(spec: SweepSpec, frozen: FrozenCode) -> Iterator[str]:
    """Yield relative paths of the spec that lead out of the tree to something that is there."""
    folder = os.path.realpath(workdir(spec))
    words = [*(spec.command or ()), *spec.env.values()]
    for parameter in spec.parameters:
        if isinstance(parameter.domain, (Choice, Constant)):
            words += [value for value in parameter.domain.grid() or () if isinstance(value, str)]
    for word in dict.fromkeys(words):
        path = word.rpartition("=")[2]
        full = os.path.normpath(os.path.join(folder, path))
        if path.startswith("../") and not is_within(full, frozen.root) and os.path.exists(full):
            yield path


def collect_old_code(sweep: SweepPaths, newest: str) -> None:
    """Remove old snapshots that no script of a trial names; whoever is queued has such a script.

    Args:
        sweep: Whose lock the caller holds.
        newest: The snapshot that the trials submitted next run; their scripts may not exist yet.
    """
    old = [name for name in code_snapshot.list_snapshots(sweep.code) if name != newest]
    if len(old) < N_KEPT:
        return
    try:
        trials = os.listdir(sweep.trials)
        with ThreadPoolExecutor(N_READERS) as pool:
            used = set(pool.map(lambda trial: _named_code(sweep, trial), trials))
        if None in used:
            return  # a script that cannot be read may name any of them
        for name in old[: len(old) - N_KEPT + 1]:
            if name not in used:
                code_snapshot.remove_snapshot(sweep.code, name)
    except OSError:
        return  # there is time: the next submission tries again


def _named_code(sweep: SweepPaths, trial: str) -> str | None:
    """Return the snapshot that a trial's script names, empty if none, None if it is unreadable."""
    try:
        with open(sweep.trial(trial).script, "rb") as file:
            match = _CODE_LINE.search(file.read())
    except FileNotFoundError:
        return ""
    except OSError:
        return None
    return match[1].decode("ascii") if match else ""
