"""Checkpoint directories that are complete or invisible.

A checkpoint is written into a directory whose name starts with ``.tmp-``, flushed to disk, given
a ``COMPLETE.json`` that lists its files, and only then renamed to ``checkpoint-<step>``. A kill at
any instant leaves the older ones as they were. On the way back every file is checked against the
list; a damaged checkpoint is refused loudly and the one before it is used.

Large files (above ``MAX_WHOLE_BYTES``) are checked by size and by their first and last MiB, not
as a whole: re-reading 80 GB would eat the grace period of a preemption. Standard library only.
Runs on the compute node: rank 0 writes and decides, each rank flushes its node's files and checks
what it will read. The directory belongs to the trial, not to a job.

On disk there are at most the kept checkpoints (``--keep_checkpoints``, at least 2) and the one
that is being written.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from arguments import ArgumentMistake

from orchestrator.runtime import failpoint

COMPLETE = "COMPLETE.json"
PREFIX = "checkpoint-"
TEMPORARY = ".tmp-"
MAX_WHOLE_BYTES = 64 * 2**20
REFUSED = "REFUSED.txt"
_PIECE_BYTES = 2**20
_OF_ONE_RANK = re.compile(r"(?:^|/)(?:rng_state|progress)_(\d+)\.")


class CheckpointDamaged(Exception):
    """A checkpoint that must not be used; the text says why."""


class AgreedMistake(ArgumentMistake):
    """A user's mistake that all ranks know of; the first one says it."""


class CheckpointFailure(Exception):
    """The program must end with exit code 1 and this line; all ranks know of it."""


class SaveFailed(CheckpointFailure):
    """The last checkpoint of this attempt could not be written; older ones are as they were."""


class NoneUsable(CheckpointFailure):
    """There are checkpoints, and all of them were refused."""


class LoadFailed(CheckpointFailure):
    """A checkpoint that looked well does not load on this rank."""


def make_staging(output_dir: Path, step: int) -> Path:
    """Make an empty directory to write the checkpoint of ``step`` into.

    What killed attempts left behind goes first: there may be no room for both.
    """
    _clear_temporaries(output_dir)
    staging = staging_path(output_dir, step)
    staging.mkdir(parents=True)
    failpoint.reach("checkpoint.staging.after")
    return staging


def staging_path(output_dir: Path, step: int) -> Path:
    """Name the staging directory; the same on every rank."""
    return output_dir / f"{TEMPORARY}{PREFIX}{step}"


def publish(written: Path, output_dir: Path, step: int, details: dict[str, object]) -> Path:
    """Make a written checkpoint visible under its final name.

    Args:
        written: The directory with all its files, on the same file system as ``output_dir``.
        output_dir: Where checkpoints are.
        step: Optimizer steps done.
        details: Further entries of ``COMPLETE.json``.

    Returns:
        The final directory.
    """
    files = {}
    for path in _files(written):
        _flush(path)
        failpoint.reach("checkpoint.flush.after")
        files[str(path.relative_to(written))] = [path.stat().st_size, checksum(path)]
    marker = written / COMPLETE
    marker.write_text(json.dumps({"step": step, **details, "files": files}, indent=1))
    _flush(marker)
    for directory, _, _ in os.walk(written):
        _flush(Path(directory))
    failpoint.reach("checkpoint.marker.after")
    final = output_dir / f"{PREFIX}{step}"
    if final.exists():  # damaged, or of an attempt that did this step too
        _discard(final)
    os.rename(written, final)
    failpoint.reach("checkpoint.rename.after")
    _flush(output_dir)
    return final


def flush_share(written: Path, index: int, n_shares: int) -> None:
    """Bring every ``n_shares``-th file to disk, from the ``index``-th on.

    What a node holds back in memory only that node can flush: the ranks of each node go through
    all files together.

    Raises:
        OSError: The disk is full, or away: some file systems say so only now.
    """
    for path in list(_files(written))[index::n_shares]:
        _flush(path)


def find_newest(output_dir: Path, skip: Collection[int] = ()) -> tuple[Path, int] | None:
    """Find the newest complete checkpoint and its step; say on standard error what is refused.

    Args:
        output_dir: Where checkpoints are.
        skip: Steps that are refused already.
    """
    for step in reversed(list_steps(output_dir)):
        if step in skip:
            continue
        path = output_dir / f"{PREFIX}{step}"
        try:
            verify(path)
        except CheckpointDamaged as error:
            say_refused(path, str(error))
        else:
            return path, step
    return None


def say_refused(checkpoint: Path, reason: str) -> None:
    """Say on standard error that a checkpoint is passed over."""
    sys.stderr.write(f"REFUSED checkpoint {checkpoint}: {reason}; trying the one before it\n")


def refuse(checkpoint: Path, reason: str) -> None:
    """Mark a checkpoint so that no later attempt takes it; it stays to be looked at."""
    (checkpoint / REFUSED).write_text(reason + "\n")


def raise_if_any(output_dir: Path) -> None:
    """Refuse to start from nothing where checkpoints are, none of which can be used.

    Raises:
        NoneUsable: There are some.
    """
    n_refused = len(list_steps(output_dir))
    if n_refused:
        raise NoneUsable(
            f"{output_dir}: none of {n_refused} checkpoint(s) can be used, for the reasons above; "
            "to start again from nothing, move or delete them"
        )


def list_steps(output_dir: Path) -> list[int]:
    """List the steps of all checkpoints, damaged ones too, ascending."""
    try:
        names = os.listdir(output_dir)
    except FileNotFoundError:
        return []
    steps = (n.removeprefix(PREFIX) for n in names if n.startswith(PREFIX))
    return sorted(int(step) for step in steps if step.isdigit())


def read_marker(checkpoint: Path) -> dict[str, Any]:
    """Read ``COMPLETE.json``.

    Raises:
        CheckpointDamaged: It is not there, or is not what ``publish`` writes.
    """
    try:
        marker: dict[str, Any] = json.loads((checkpoint / COMPLETE).read_text())
        for n_bytes, expected in marker["files"].values():
            int(n_bytes), int(expected)
    except FileNotFoundError:
        raise CheckpointDamaged(f"it has no {COMPLETE}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointDamaged(f"{COMPLETE} cannot be read: {error}") from None
    return marker


def files_of_rank(checkpoint: Path, rank: int) -> list[str]:
    """Name the files that a rank reads: all but those that belong to one other rank.

    Raises:
        CheckpointDamaged: As ``read_marker``.
    """
    owners = ((name, _OF_ONE_RANK.search(name)) for name in read_marker(checkpoint)["files"])
    return [name for name, owner in owners if owner is None or int(owner[1]) == rank]


def verify(checkpoint: Path, rank: int | None = None) -> None:
    """Check the files of a checkpoint against its list.

    Args:
        checkpoint: Its directory.
        rank: Check only what this rank reads; None: everything.

    Raises:
        CheckpointDamaged: No list, or a file that is missing, cut or changed; or it was refused
            by an earlier attempt.
    """
    files: dict[str, list[int]] = read_marker(checkpoint)["files"]
    if (checkpoint / REFUSED).exists():
        raise CheckpointDamaged((checkpoint / REFUSED).read_text().strip())
    for name in files if rank is None else files_of_rank(checkpoint, rank):
        n_bytes, expected = files[name]
        path = checkpoint / name
        if not path.is_file():
            raise CheckpointDamaged(f"{name} is missing")
        if path.stat().st_size != n_bytes:
            raise CheckpointDamaged(f"{name} has {path.stat().st_size} bytes, not {n_bytes}")
        if checksum(path) != expected:
            raise CheckpointDamaged(f"{name} has changed since it was written")


def rotate(
    output_dir: Path, keep: int, refused: Collection[int] = (), protect: Collection[int] = ()
) -> None:
    """Delete all but the newest ``keep`` checkpoints, and what killed attempts left behind.

    Args:
        output_dir: Where checkpoints are.
        keep: Complete checkpoints to keep.
        refused: Steps of damaged ones: they go, and do not count as kept.
        protect: Steps whose checkpoints stay whatever their age.
    """
    steps = list_steps(output_dir)
    kept = [step for step in steps if step not in refused][-keep:]
    for step in steps:
        if step not in kept and step not in protect:
            _discard(output_dir / f"{PREFIX}{step}")
    _clear_temporaries(output_dir)


def _clear_temporaries(output_dir: Path) -> None:
    try:
        names = os.listdir(output_dir)
    except FileNotFoundError:
        return
    for name in names:
        if name.startswith(TEMPORARY):
            shutil.rmtree(output_dir / name, ignore_errors=True)


def checksum(path: Path) -> int:
    """CRC-32 of a file, or of the first and last MiB of a large one."""
    value = 0
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size > MAX_WHOLE_BYTES:
            value = zlib.crc32(file.read(_PIECE_BYTES))
            file.seek(-_PIECE_BYTES, os.SEEK_END)
        while piece := file.read(_PIECE_BYTES):
            value = zlib.crc32(piece, value)
    return value


def _discard(path: Path) -> None:
    """Delete a directory without it ever being visible in part."""
    doomed = path.parent / f"{TEMPORARY}delete-{path.name}"
    shutil.rmtree(doomed, ignore_errors=True)
    os.rename(path, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in sorted(directory.rglob("*")) if path.is_file())


def _flush(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
