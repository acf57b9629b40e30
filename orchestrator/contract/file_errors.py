"""What an operating system's error means to a person: which file, what happened, what to do.

Used on login and compute nodes. Does not decide what happens next; ``may_pass`` tells which errors
are worth trying again.
"""

from __future__ import annotations

import errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_SERVER = (
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENOTCONN,
    errno.ECONNRESET,
    errno.ECONNREFUSED,
    errno.ESHUTDOWN,
    errno.EREMOTEIO if hasattr(errno, "EREMOTEIO") else errno.EIO,
)
_REMEDIES = {
    **dict.fromkeys(_SERVER, "the file server may be away; try again later"),
    errno.ENOSPC: "free some space or files there (df -h, df -i), then type the same again",
    errno.EDQUOT: "free some space or files of yours, or ask for more, then type the same again",
    errno.EROFS: "it is mounted read-only; wait until it is writable, or name another RESULTS=",
    errno.EACCES: "look at its owner and mode (ls -ld), or name another RESULTS=",
    errno.EPERM: "look at its owner and mode (ls -ld), or name another RESULTS=",
    errno.ELOOP: "a symbolic link stands there, and is not followed; remove it",
    errno.ENAMETOOLONG: "choose a shorter name or folder",
    errno.EMFILE: "too many files are open; raise ulimit -n",
}


class naming:  # noqa: N801  (reads like a statement: with naming(path))
    """Let an ``OSError`` within name this file: errors of an open file name none.

    A class, not a generator: ten thousand array tasks need not import contextlib for it.
    """

    def __init__(self, path: str):
        """Name the file at ``path``."""
        self._path = path

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Name the file in the error that passes by."""
        if isinstance(error, OSError):
            error.filename, error.filename2 = self._path, None


def explain(error: OSError) -> str:
    """Say in one line which file, what happened and what to do."""
    words = error.strerror or str(error) or type(error).__name__
    if error.filename:
        name = error.filename
        words = f"{name.decode('utf-8', 'replace') if isinstance(name, bytes) else name}: {words}"
    remedy = _REMEDIES.get(error.errno or 0)
    return f"{words}; {remedy}" if remedy else words


def is_server_away(error: OSError) -> bool:
    """Tell whether the file server did not do its part: nothing is wrong with the file."""
    return error.errno in _SERVER


def may_pass(error: OSError) -> bool:
    """Tell whether the same call may succeed after a while: space is freed, a server comes back."""
    return error.errno in _NO_SPACE or is_server_away(error) or error.errno == errno.EROFS
