"""Checkpoint directories that are complete or invisible.

A checkpoint is written into a directory whose name starts with ``.tmp-``, flushed to disk, given
a ``COMPLETE.json`` that lists its files, and only then renamed to ``checkpoint-<step>``. A kill at
any instant leaves the older ones as they were. On the way back every file is checked against the
list; a damaged checkpoint is refused loudly and the one before it is used.

Large files (above ``MAX_WHOLE_BYTES``) are checked by size and by their first and last MiB, not
as a whole: re-reading 80 GB would eat the grace period of a preemption. Standard library only.
Only rank 0 calls this, on the compute node; the directory belongs to the trial, not to a job.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

COMPLETE = "COMPLETE.json"
PREFIX = "checkpoint-"
TEMPORARY = ".tmp-"
MAX_WHOLE_BYTES = 64 * 2**20
_PIECE_BYTES = 2**20


class CheckpointDamaged(Exception):
    """A checkpoint that must not be used; the text says why."""


def make_staging(output_dir: Path, step: int) -> Path:
    """Make an empty directory to write the checkpoint of ``step`` into."""
    staging = staging_path(output_dir, step)
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
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
        files[str(path.relative_to(written))] = [path.stat().st_size, checksum(path)]
    marker = written / COMPLETE
    marker.write_text(json.dumps({"step": step, **details, "files": files}, indent=1))
    _flush(marker)
    for directory, _, _ in os.walk(written):
        _flush(Path(directory))
    final = output_dir / f"{PREFIX}{step}"
    if final.exists():  # damaged, or of an attempt that did this step too
        _discard(final)
    os.rename(written, final)
    _flush(output_dir)
    return final


def find_newest(output_dir: Path) -> tuple[Path, int] | None:
    """Find the newest complete checkpoint and its step; say on standard error what is refused."""
    for step in reversed(list_steps(output_dir)):
        path = output_dir / f"{PREFIX}{step}"
        try:
            verify(path)
        except CheckpointDamaged as error:
            sys.stderr.write(f"REFUSED checkpoint {path}: {error}; trying the one before it\n")
        else:
            return path, step
    return None


def list_steps(output_dir: Path) -> list[int]:
    """List the steps of all checkpoints, damaged ones too, ascending."""
    try:
        names = os.listdir(output_dir)
    except FileNotFoundError:
        return []
    steps = (n.removeprefix(PREFIX) for n in names if n.startswith(PREFIX))
    return sorted(int(step) for step in steps if step.isdigit())


def verify(checkpoint: Path) -> None:
    """Check every file of a checkpoint against its list.

    Raises:
        CheckpointDamaged: No list, or a file that is missing, cut or changed.
    """
    try:
        files: dict[str, list[int]] = json.loads((checkpoint / COMPLETE).read_text())["files"]
    except FileNotFoundError:
        raise CheckpointDamaged(f"it has no {COMPLETE}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointDamaged(f"{COMPLETE} cannot be read: {error}") from None
    for name, (n_bytes, expected) in files.items():
        path = checkpoint / name
        if not path.is_file():
            raise CheckpointDamaged(f"{name} is missing")
        if path.stat().st_size != n_bytes:
            raise CheckpointDamaged(f"{name} has {path.stat().st_size} bytes, not {n_bytes}")
        if checksum(path) != expected:
            raise CheckpointDamaged(f"{name} has changed since it was written")


def rotate(output_dir: Path, keep: int) -> None:
    """Delete all but the newest ``keep`` checkpoints, and what killed attempts left behind."""
    for step in list_steps(output_dir)[:-keep]:
        _discard(output_dir / f"{PREFIX}{step}")
    for name in os.listdir(output_dir):
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
