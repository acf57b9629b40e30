"""The code that trials run: its name, what changed between two of them. Pure."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CODE_MODES = ("freeze", "live")
# Digits of a snapshot's hash that name it.
N_DIGITS = 12
MAX_NAMED = 3


@dataclass(frozen=True)
class FrozenCode:
    """A snapshot of a program's tree, as the journal names it."""

    name: str
    """The first digits of the hash of all its files; its folder below ``code/``."""
    root: str
    """The live tree that it was taken of, absolute."""
    subdir: str = "."
    """Directory that programs start in, below the tree."""
    import_roots: tuple[str, ...] = ()
    """Folders below the tree that Python would otherwise import from the live one."""

    @property
    def workdir(self) -> str:
        """Directory that programs start in, relative to ``code/``."""
        return posixpath.normpath(posixpath.join(self.name, self.subdir))

    def as_entry(self) -> dict[str, Any]:
        """Return the fields of a journal's ``code`` entry."""
        return {
            "snapshot": self.name,
            "root": self.root,
            "subdir": self.subdir,
            "import_roots": list(self.import_roots),
        }


def read_frozen(entry: Mapping[str, Any]) -> FrozenCode | None:
    """Read a ``code`` entry; None where trials run the live tree, as all did once."""
    name, root = entry.get("snapshot"), entry.get("root")
    if not isinstance(name, str) or not isinstance(root, str) or not name.isalnum():
        return None
    roots = entry.get("import_roots") or ()
    subdir = str(entry.get("subdir") or ".")
    return FrozenCode(name, root, subdir, tuple(str(path) for path in roots))


def hash_tree(files: Mapping[str, Sequence[Any]]) -> str:
    """Hash a tree: its paths, contents, links and executable bits, whatever their order.

    Args:
        files: By path, what ``manifest`` files hold: kind, executable, digest or target, ...
    """
    total = hashlib.sha256()
    for path in sorted(files):
        kind, is_executable, content = files[path][:3]
        for part in (path, kind, "x" if is_executable else "", content):
            total.update(str(part).encode("utf-8", "surrogateescape") + b"\0")
    return total.hexdigest()


def changed_files(
    before: Mapping[str, Sequence[Any]], after: Mapping[str, Sequence[Any]]
) -> list[str]:
    """Return the paths that were added, removed or changed, sorted."""
    paths = {*before, *after}
    return sorted(path for path in paths if _content(before, path) != _content(after, path))


def _content(files: Mapping[str, Sequence[Any]], path: str) -> tuple[Any, ...] | None:
    return tuple(files[path][:3]) if path in files else None


def name_some(paths: Sequence[str]) -> str:
    """Return a count of files and the first names."""
    shown = ", ".join(paths[:MAX_NAMED]) + (", ..." if len(paths) > MAX_NAMED else "")
    return f"{len(paths)} file{'s' if len(paths) != 1 else ''} ({shown})"
