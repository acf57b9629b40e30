"""Writing files so that a kill, a full disk or a lost reply leaves the old or the new, never half.

Used on compute nodes and, by the journal and the executors, on the login node. Safe on local
disks, NFS and Lustre: ``link(2)`` and ``rename(2)`` are atomic there, and an answer that NFS lost
is settled by comparing inodes.

A process that is killed leaves its temporary file, ``.<name>.<16 hexadecimal digits>.tmp``, which
nobody reads and ``adapters/leftovers.py`` collects.
"""

from __future__ import annotations

import os

from orchestrator.contract.file_errors import naming
from orchestrator.runtime import failpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# Readable by the owner alone: parameters may hold secrets, and other users share the cluster.
_MODE = 0o600
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write_new(path: str, data: bytes) -> None:
    """Create a file and bring it to disk; it must not exist.

    Raises:
        FileExistsError: There is such a file (or link) already.
        OSError: Disk full, no permission, ...; the partial file is removed.
    """
    with naming(path):
        _write_new(path, data)


def write_all(fd: int, data: bytes, name: str = "file.write.half") -> None:
    """Write all of ``data``; a nearly full disk takes a part of it, and says so the next time.

    Args:
        fd: An open file.
        data: What to write.
        name: The failpoint within.
    """
    view = memoryview(data)
    while view:
        view = view[failpoint.write(name, fd, view) :]


def replace(path: str, data: bytes) -> None:
    """Give a file new content, whole or not at all.

    Raises:
        OSError: It names ``path``, which is as it was. An NFS server whose reply was lost answers
            ENOENT for a rename that it did: the inode tells.
    """
    replace_all([(path, data)])


def replace_all(files: Sequence[tuple[str, bytes]]) -> None:
    """Give files of one directory new content: all are written aside before one is renamed.

    Raises:
        OSError: As ``replace``. A full disk leaves all of them as they were.
    """
    asides = [_aside(path) for path, _ in files]
    inodes = []
    try:
        for (path, data), temporary in zip(files, asides, strict=True):
            with naming(path):
                inodes.append(_write_new(temporary, data))
        for (path, _), temporary, inode in zip(files, asides, inodes, strict=True):
            with naming(path):
                failpoint.reach("durable.rename.before")
                _rename(temporary, path, inode)
                failpoint.reach("durable.rename.after")
    except OSError:
        for temporary in asides:
            _unlink(temporary)
        raise
    for directory in {os.path.dirname(path) for path, _ in files}:
        sync_directory(directory)


def _rename(temporary: str, path: str, ours: tuple[int, int]) -> None:
    try:
        os.rename(temporary, path)
    except FileNotFoundError:
        if _inode(path) != ours:
            raise


def publish(path: str, data: bytes) -> bool:
    """Create a file with its whole content by ``link(2)``; the first writer wins.

    Returns:
        True if this call created it, False if it was there before. An NFS server whose reply was
        lost answers EEXIST for our own link: the inode tells.
    """
    temporary = _aside(path)
    with naming(path):
        ours = _write_new(temporary, data)
        failpoint.reach("durable.link.before")
        try:
            try:
                os.link(temporary, path)
            except (FileExistsError, FileNotFoundError) as error:
                # What an NFS server answers to our own link, if its first reply was lost.
                if not _is_linked(temporary, path, ours):
                    if isinstance(error, FileNotFoundError):
                        raise
                    return False
            failpoint.reach("durable.link.after")
            sync_directory(os.path.dirname(path))
            return True
        finally:
            _unlink(temporary)
            failpoint.reach("durable.unlink.after")


def _is_linked(temporary: str, path: str, ours: tuple[int, int]) -> bool:
    """Tell whether ``path`` is our own file, whatever the server answered."""
    try:
        if os.lstat(temporary).st_nlink > 1:
            return True
    except FileNotFoundError:
        pass
    return _inode(path) == ours


def sync_directory(path: str) -> None:
    """Bring a directory's entries to disk, where the file system can."""
    fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError:
        pass  # some network file systems refuse fsync on directories; entries are synchronous there
    finally:
        os.close(fd)


def _write_new(path: str, data: bytes) -> tuple[int, int]:
    """Create a file; returns its device and inode."""
    failpoint.reach("durable.create.before")
    fd = os.open(path, _CREATE, _MODE)
    try:
        try:
            failpoint.reach("durable.create.after")
            write_all(fd, data, "durable.write.half")
            failpoint.reach("durable.fsync.before")
            os.fsync(fd)
            failpoint.reach("durable.fsync.after")
            status = os.fstat(fd)
        finally:
            os.close(fd)
    except OSError as error:
        _unlink(path)
        error.filename = error.filename or path  # of a full disk write(2) does not name the file
        raise
    return status.st_dev, status.st_ino


def _inode(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _unlink(temporary: str) -> None:
    try:
        os.unlink(temporary)
    except OSError:
        pass  # NFS lost the reply, or is away: adapters/leftovers.py collects it later


def _aside(path: str) -> str:
    # Random: a killed process leaves its file behind, and the next one in a container, or after
    # 32,768 others, has the same pid.
    directory, name = os.path.split(path)
    return os.path.join(directory, f".{name}.{os.urandom(8).hex()}.tmp")
