"""Opening a file that somebody else may have put there, without being hurt by it.

Opens regular files only: links are not followed, pipes and devices not waited for, sizes checked
before reading. Does not parse. Called by ``trial_dir``, ``trial_log`` and ``ingest_cache``; runs on
the login node.
"""

from __future__ import annotations

import errno
import os
import stat

from orchestrator.contract.errors import CorruptRecord

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class UnusableFile(Exception):
    """A file that is there and cannot be used; the text says why."""


def read_file(path: str, max_bytes: int, *, tail: bool = False) -> tuple[bytes, os.stat_result]:
    """Read a regular file, or with ``tail`` its last ``max_bytes``.

    Raises:
        FileNotFoundError: There is no such file.
        UnusableFile: It is no regular file, too large, or cannot be read.
    """
    for is_last_try in (False, True):
        try:
            return _read_once(path, max_bytes, tail)
        except FileNotFoundError:
            raise
        except OSError as error:
            # NFS: the file was replaced between open and read; its name leads to the new one.
            if error.errno == errno.ESTALE and not is_last_try:
                continue
            raise UnusableFile(_why_not(error)) from None
    raise AssertionError("not reached")


def open_regular(path: str) -> int:
    """Open a regular file for reading.

    Returns:
        A file descriptor.

    Raises:
        FileNotFoundError: There is no such file.
        UnusableFile: It is no regular file, or cannot be opened.
    """
    try:
        fd = os.open(path, _OPEN)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnusableFile(_why_not(error)) from None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise UnusableFile(f"{name_kind(status.st_mode)}, not a file")
    return fd


def _why_not(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "a symbolic link; not followed"
    if error.errno == errno.ENXIO:
        return "a socket or pipe, not a file"
    return f"cannot be read: {error.strerror}"


def _read_once(path: str, max_bytes: int, tail: bool) -> tuple[bytes, os.stat_result]:
    fd = os.open(path, _OPEN)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise UnusableFile(f"{name_kind(status.st_mode)}, not a file")
        size = status.st_size
        if size > max_bytes:
            if not tail:
                raise UnusableFile(f"{size} bytes, more than {max_bytes} allowed")
            os.lseek(fd, size - max_bytes, os.SEEK_SET)
            size = max_bytes
        data = os.read(fd, size)
        while len(data) < size and (more := os.read(fd, size - len(data))):
            data += more
        return data, status
    finally:
        os.close(fd)


def name_kind(mode: int) -> str:
    """Say in words what kind of file a mode is of."""
    kinds = (
        (stat.S_ISREG, "a file"),
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
    )
    return next((words for is_kind, words in kinds if is_kind(mode)), "a device")


def open_own(path: str) -> int:
    """Open a file of ours for reading and appending, made if need be.

    Returns:
        A file descriptor.

    Raises:
        CorruptRecord: A pipe or device stands in its place.
        OSError: It cannot be opened; a symbolic link is refused with ELOOP.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        raise CorruptRecord(f"{path}: {name_kind(mode)}, not a file; remove it")
    return fd
