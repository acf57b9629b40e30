"""Where a sweep lives: its folder below the results folder, and the sweep used last.

Runs on the login node. The folder is private to its owner: parameters may be secret, and whoever
can write there can run code as the owner.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
from collections.abc import Iterator

from orchestrator.adapters.regular_file import UnusableFile, read_file
from orchestrator.contract.errors import CorruptRecord, UserError
from orchestrator.contract.file_errors import explain
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import dump_record, read_record
from orchestrator.runtime import durable, failpoint

LAST = ".last-sweep.json"
DEFAULT_SPEC = "sweeps/demo.yaml"


def open_sweep(results: str, name: str) -> SweepPaths:
    """Return the folder of an existing sweep.

    Raises:
        UserError: It does not exist or is closed to us, or another user could write there.
    """
    sweep = SweepPaths(os.path.join(os.path.abspath(results), name))
    if not _is_name(name) or not _is_folder(sweep.trials):
        known = known_sweeps(results)
        others = (
            f"; there are: {', '.join(known)}"
            if known
            else "; submit one first: make submit SWEEP=..."
        )
        raise UserError(f"no sweep {name!r} in {results}{others}")
    _check_private(sweep.root)
    return sweep


def create_sweep(results: str, name: str, *, is_import: bool = False) -> SweepPaths:
    """Return the folder of a sweep, made if need be, with mode 0700.

    Args:
        results: The results folder.
        name: The sweep's name.
        is_import: Whether it is for results of another tool, which share no folder with sweeps.

    Raises:
        UserError: Another user could write there, or it cannot be made, or it is of the other kind.
    """
    sweep = SweepPaths(os.path.join(os.path.abspath(results), name))
    if not is_import:
        refuse_import(sweep)
    elif os.path.lexists(sweep.trials) and not os.path.exists(sweep.imported):
        raise UserError(f"{sweep.root} is a sweep that was submitted; choose another --name")
    try:
        os.makedirs(results, mode=0o755, exist_ok=True)
        _check_above(sweep.root)
        if not os.path.isdir(sweep.root):
            with contextlib.suppress(FileExistsError):  # another submit made it just now
                os.mkdir(sweep.root, mode=0o700)
                failpoint.reach("sweep.mkdir.after")
        _check_private(sweep.root)
        for folder in (sweep.trials, sweep.arrays):
            os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError as error:
        words = explain(error)
        hint = "" if "RESULTS=" in words else "; name another RESULTS="
        raise UserError(f"{words}{hint}") from None
    return sweep


def refuse_import(sweep: SweepPaths) -> None:
    """Refuse to run anything in a folder of imported results: only what made them can.

    Raises:
        UserError: It is one.
    """
    if os.path.exists(sweep.imported):
        raise UserError(
            f"{sweep.root} holds imported results, of which nothing can be run here: run it where "
            "they were made, then import them again (make collect FROM=...), or give a sweep of "
            "your own another name:"
        )


def check_name(name: str) -> None:
    """Refuse what is no folder's name.

    Raises:
        UserError: It is none.
    """
    if not _is_name(name) or name.startswith(("-", ".")) or not name.isprintable():
        raise UserError(f"{name!r} is not allowed as a name; use letters, digits, '.', '_' and '-'")


def check_same_spec(sweep: SweepPaths, spec_file: str, spec_text: str) -> None:
    """Refuse to let two different specs of one name become one sweep.

    A spec that was edited, moved or copied goes on with its sweep; another one that is still there
    beside it does not.

    Raises:
        UserError: The sweep was made from another spec.
    """
    try:
        before = read_record(sweep.summary).get("spec_path")
        text, _ = read_file(sweep.spec, 2**23)
    except FileNotFoundError:
        return
    except UnusableFile as error:
        raise UserError(f"{sweep.spec}: {error}; remove it") from None
    is_same_text = text == spec_text.encode("utf-8")
    if not isinstance(before, str) or is_same_text:
        return
    try:
        is_same = os.path.samefile(before, spec_file)
    except OSError:
        return  # it was moved or removed, or the sweep was copied from another machine
    if not is_same:
        raise UserError(
            f"{spec_file}: the sweep {sweep.name} in {os.path.dirname(sweep.root)} was made from "
            f"{before}; give this one a name: of its own, or name another RESULTS="
        )


def group_warning(sweep: SweepPaths) -> str | None:
    """Warn of a folder above the sweep that a group of several people can write; None if none."""
    for folder, status in _above(sweep.root):
        if status.st_mode & stat.S_IWGRP and not _is_safe(status) and _is_shared(status.st_gid):
            return (
                f"{folder} can be written by its group, who could put a folder of theirs in the "
                f"place of yours: chmod g-w {folder}, or chmod +t {folder}"
            )
    return None


def known_sweeps(results: str) -> list[str]:
    """Names of the sweeps in a results folder."""
    try:
        names = sorted(os.listdir(results))
    except OSError:
        return []
    return [name for name in names if os.path.isdir(os.path.join(results, name, "trials"))]


def remember_sweep(results: str, name: str, spec_file: str) -> None:
    """Make this the sweep that commands without ``SWEEP=`` mean."""
    path = os.path.join(results, LAST)
    record = {"name": name, "spec": os.path.relpath(spec_file)}
    durable.replace(path, dump_record(record))


def last_sweep(results: str) -> dict[str, str] | None:
    """``name`` and ``spec`` of the sweep submitted last; None before the first.

    Raises:
        UserError: The file that says so is of another user, or says nothing of use.
    """
    path = os.path.join(results, LAST)
    try:
        owner = os.lstat(path).st_uid
        record = read_record(path)
    except FileNotFoundError:
        return None
    except CorruptRecord as error:
        raise UserError(f"{error}; name the sweep with SWEEP=, or remove this file") from None
    if owner != os.getuid():
        # Whoever wrote it would choose which program runs as us.
        raise UserError(f"{path} belongs to another user; name the sweep with SWEEP=")
    name, spec = record.get("name"), record.get("spec")
    if not isinstance(name, str) or not isinstance(spec, str) or not _is_name(name):
        raise UserError(f"{path}: names no sweep; name it with SWEEP=, or remove this file")
    return {"name": name, "spec": spec}


def is_other(results: str, sweep: SweepPaths) -> bool:
    """Tell whether commands without ``SWEEP=`` mean another sweep than this one, or none."""
    try:
        last = last_sweep(results)
    except UserError:
        return True
    return last is None or last["name"] != sweep.name


def word_for(sweep: SweepPaths) -> str:
    """Return the word that means a sweep to every command: its spec, else its name."""
    try:
        spec = read_record(sweep.summary).get("spec")
    except (OSError, CorruptRecord):
        spec = None
    # Only `make submit` needs the spec itself; all others are content with the name.
    return spec if isinstance(spec, str) and os.path.isfile(spec) else sweep.name


def _is_folder(path: str) -> bool:
    """Tell whether a folder is there: one that we may not look for is not known to be absent."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError as error:
        closed = os.path.dirname(path)
        while not os.path.exists(closed) and closed != os.path.dirname(closed):
            closed = os.path.dirname(closed)
        try:
            owner = pwd.getpwuid(os.stat(closed).st_uid).pw_name
        except (OSError, KeyError):
            raise UserError(explain(error)) from None
        raise UserError(
            f"{closed} is closed to you: it belongs to {owner} (ls -ld {closed}); ask {owner} to "
            "open it, or name another RESULTS="
        ) from None
    except OSError as error:
        raise UserError(explain(error)) from None


def _is_name(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


def _above(root: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the folders above a sweep's real place, and their status, from near to far."""
    folder = os.path.dirname(os.path.realpath(root))
    while True:
        with contextlib.suppress(OSError):
            yield folder, os.stat(folder)
        if folder == os.path.dirname(folder):
            return
        folder = os.path.dirname(folder)


def _check_above(root: str) -> None:
    """Refuse a place where anybody could swap our folder for theirs.

    A queued array runs what lies at the sweep's path when it starts: with a folder of somebody
    else there, it would run their scripts as us. The sticky bit, as on /tmp, prevents it.
    """
    for folder, status in _above(root):
        if status.st_mode & stat.S_IWOTH and not _is_safe(status):
            raise UserError(
                f"{folder} can be written by everybody, who could run code as you: "
                f"chmod o-w {folder}, or name another RESULTS="
            )


def _is_safe(status: os.stat_result) -> bool:
    return bool(status.st_mode & stat.S_ISVTX)


def _is_shared(gid: int) -> bool:
    """Whether a group may hold other people; a user's private group has no members but them."""
    try:
        group, me = grp.getgrgid(gid), pwd.getpwuid(os.getuid())
    except (KeyError, OSError):
        return True
    return group.gr_name != me.pw_name or bool(set(group.gr_mem) - {me.pw_name})


def _check_private(root: str) -> None:
    if os.lstat(root).st_uid != os.getuid() or os.stat(root).st_uid != os.getuid():
        raise UserError(f"{root} belongs to another user; name another RESULTS=")
    status = os.stat(root)
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UserError(
            f"{root} can be written by other users, who could run code as you: chmod go-w {root}"
        )
