"""Which files are a program's code: listing its tree, with git's help where there is git.

Runs on the login node; reads only. In a git repository the whole repository counts, since programs
reach for ``../lib``: what is tracked, and what is not but is not ignored either. Without git, or
where the repository ignores the directory, it is the directory itself.

What is no code is linked to, so that its relative paths go on working: what git ignores (data,
environments, outputs), files over ``MAX_FILE_BYTES`` and files that cannot be read. Caches, git's
own folder and the results folder are neither copied nor linked.

Not covered: sockets, pipes and devices.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from orchestrator.contract.errors import OrchestratorError

MAX_FILES = 20_000
MAX_FILE_BYTES = 50 * 2**20
MAX_TREE_BYTES = 512 * 2**20
TIMEOUT_S = 20.0
# Neither copied nor linked: made anew by whoever needs them.
SKIPPED = ("__pycache__", ".git", ".hg", ".svn", ".mypy_cache", ".pytest_cache", ".ruff_cache")
SKIPPED_ENDS = (".pyc", ".pyo")
# Linked, also where nobody ignores them: environments and what tracking tools write.
LINKED = (".venv", "venv", "node_modules", ".tox", ".nox", "wandb", "mlruns", "lightning_logs")


class TreeTooLarge(OrchestratorError):
    """The tree has more files or bytes than are copied for a sweep."""


class Entry(NamedTuple):
    """One path of a tree."""

    kind: str
    """``file``, ``link`` or ``dir`` (an empty one)."""
    is_executable: bool = False
    """Of a file: whether its owner may execute it."""
    stamp: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Of a file: size, mtime and ctime in nanoseconds, inode: they tell whether it changed."""
    target: str = ""
    """Of a link: where it points, relative within the tree and absolute out of it."""


@dataclass
class Listing:
    """A tree as it was at one moment."""

    root: str
    """Its top, absolute and without links."""
    entries: dict[str, Entry] = field(default_factory=dict)
    """What is copied, by path below the root; undecodable bytes as Python's surrogates."""
    outside: dict[str, str] = field(default_factory=dict)
    """What is linked, by path: the absolute place of the original."""
    large: list[str] = field(default_factory=list)
    """Paths of ``outside`` that are there for their size."""
    n_bytes: int = 0
    """Size of all files."""


def find_root(workdir: str) -> tuple[str, bool]:
    """Return the top of the tree that a directory belongs to, and whether git lists it."""
    folder = os.path.realpath(workdir)
    answer = run_git(folder, "rev-parse", "--show-toplevel")
    top = os.path.realpath(os.fsdecode(answer.rstrip(b"\n"))) if answer else ""
    if not top or not is_within(folder, top):
        return folder, False
    if folder != top and run_git(top, "check-ignore", "-q", "--", folder) is not None:
        return folder, False
    return top, True


def list_tree(
    root: str, is_git: bool, excluded: Iterable[str] = (), linked: Iterable[str] = ()
) -> Listing:
    """List a tree.

    Args:
        root: Its top, without links.
        is_git: Whether git lists it.
        excluded: Absolute folders to leave out, such as the results.
        linked: Absolute files to link to, such as the spec, which is edited between submissions.

    Raises:
        TreeTooLarge: It is no tree of code alone.
        OSError: It cannot be read.
    """
    listing = Listing(root)
    hidden = {os.path.relpath(path, root) for path in excluded if is_within(path, root)}
    if is_git and "." not in hidden:
        _list_repository(listing, "", hidden)
    else:
        _walk(listing, "", hidden)
    for full in linked:
        path = os.path.relpath(full, root)
        if listing.entries.pop(path, None) is not None:
            listing.outside[path] = full
    return listing


def is_within(path: str, folder: str) -> bool:
    """Tell whether a path is a folder or lies in it; both absolute."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def run_git(folder: str, *arguments: str) -> bytes | None:
    """Return what git says; None if it fails or is not there."""
    try:
        answer = subprocess.run(
            ["git", "-C", folder, *arguments],
            check=True,
            capture_output=True,
            timeout=TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout


def _list_repository(listing: Listing, below: str, hidden: set[str]) -> None:
    """List a repository at ``below`` of the tree, and those within it."""
    folder = os.path.join(listing.root, below) if below else listing.root
    inner_hidden = [path for path in hidden if not below or is_within(path, below)]
    patterns = [f"/{_escape(os.path.relpath(path, below or '.'))}/" for path in inner_hidden]
    patterns += [f"{name}/" for name in (*SKIPPED, *LINKED)]
    patterns += [f"*{end}" for end in SKIPPED_ENDS]
    others = ["ls-files", "-z", "--others", "--exclude-standard"]
    others += [f"--exclude={pattern}" for pattern in patterns]
    tracked = _lines(folder, "ls-files", "-z", "--stage")
    new = _lines(folder, *others)
    new_folders = _lines(folder, *others, "--directory")
    ignored = _lines(folder, *others, "--ignored", "--directory")
    nested: set[str] = set()
    for line in tracked:
        words, _, path = line.partition("\t")
        if words.startswith("160000"):
            nested.add(path)
        else:
            _add(listing, _join(below, path), hidden)
    for path in new:
        if path.endswith("/"):
            nested.add(path.rstrip("/"))
        else:
            _add(listing, _join(below, path), hidden)
    for path in nested:
        inner = _join(below, path)
        if _is_hidden(inner, hidden):
            continue
        if os.path.exists(os.path.join(listing.root, inner, ".git")):
            _list_repository(listing, inner, hidden)
        else:  # a submodule that is not checked out
            listing.entries[inner] = Entry("dir")
    for path in ignored:
        _link(listing, _join(below, path.rstrip("/")), hidden)
    for path in new_folders:
        if path.endswith("/") and path.rstrip("/") not in nested:
            _add_empty_folders(listing, _join(below, path.rstrip("/")), hidden)


def _add_empty_folders(listing: Listing, top: str, hidden: set[str]) -> None:
    """Add what git never lists: programs may want to write there."""
    for full, names, files in os.walk(os.path.join(listing.root, top)):
        path = os.path.relpath(full, listing.root)
        if (
            path in listing.outside
            or _is_hidden(path, hidden)
            or _is_skipped(os.path.basename(path))
        ):
            names.clear()
        elif not names and not files:
            listing.entries[path] = Entry("dir")
        if ".git" in names:
            names.clear()


def _lines(folder: str, *arguments: str) -> list[str]:
    answer = run_git(folder, *arguments)
    if answer is None:
        raise OSError(5, "git does not list its files", folder)
    return [os.fsdecode(line) for line in answer.split(b"\0") if line]


def _escape(path: str) -> str:
    return re.sub(r"([\\*?\[\]!# ])", r"\\\1", path)


def _join(below: str, path: str) -> str:
    return f"{below}/{path}" if below else path


def _walk(listing: Listing, below: str, hidden: set[str]) -> None:
    """List a folder that git does not know."""
    is_empty = True
    with os.scandir(os.path.join(listing.root, below)) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        path = _join(below, entry.name)
        if path in hidden or _is_skipped(entry.name):
            continue
        is_empty = False
        if not entry.is_dir(follow_symlinks=False):
            _add(listing, path, hidden)
        elif entry.name in LINKED or _is_environment(entry.path):
            _link(listing, path, hidden)
        elif os.access(entry.path, os.R_OK | os.X_OK):
            _walk(listing, path, hidden)
        else:
            listing.outside[path] = entry.path
    if is_empty and below:
        listing.entries[below] = Entry("dir")


def _is_skipped(name: str) -> bool:
    return name in SKIPPED or name.endswith(SKIPPED_ENDS)


def _is_environment(folder: str) -> bool:
    return any(os.path.exists(f"{folder}/{name}") for name in ("pyvenv.cfg", "conda-meta"))


def _is_hidden(path: str, hidden: set[str]) -> bool:
    return any(is_within(path.rstrip("/"), folder) for folder in hidden)


def _link(listing: Listing, path: str, hidden: set[str]) -> None:
    if _is_hidden(path, hidden) or any(is_within(folder, path) for folder in hidden):
        return
    if not any(_is_skipped(name) for name in path.split("/")):
        listing.outside[path] = os.path.join(listing.root, path)


def _add(listing: Listing, path: str, hidden: set[str]) -> None:
    """Add a file or link; what is not there is left out, as git lists what was deleted too."""
    if _is_hidden(path, hidden):
        return
    full = os.path.join(listing.root, path)
    try:
        status = os.lstat(full)
    except OSError:
        return
    if stat.S_ISLNK(status.st_mode):
        target = _retarget(listing.root, path, os.readlink(full))
        if not _is_hidden(os.path.normpath(os.path.join(os.path.dirname(path), target)), hidden):
            listing.entries[path] = Entry("link", target=target)
        return
    if not stat.S_ISREG(status.st_mode):
        return
    if status.st_size > MAX_FILE_BYTES:
        listing.outside[path] = full
        listing.large.append(path)
        return
    if not os.access(full, os.R_OK):
        listing.outside[path] = full
        return
    stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    listing.entries[path] = Entry("file", bool(status.st_mode & stat.S_IXUSR), stamp)
    listing.n_bytes += status.st_size
    if len(listing.entries) > MAX_FILES:
        raise TreeTooLarge(f"{listing.root} has more than {MAX_FILES} files")
    if listing.n_bytes > MAX_TREE_BYTES:
        raise TreeTooLarge(f"{listing.root} has more than {MAX_TREE_BYTES // 2**20} MB of files")


def _retarget(root: str, path: str, target: str) -> str:
    """Return a link's target for the copy: relative within the tree, absolute out of it."""
    folder = os.path.dirname(os.path.join(root, path))
    full = os.path.normpath(os.path.join(folder, target))
    if os.path.isabs(target) and not is_within(full, root):
        full = os.path.join(os.path.realpath(os.path.dirname(full)), os.path.basename(full))
    if not is_within(full, root):
        return full
    return target if not os.path.isabs(target) else os.path.relpath(full, folder)


def iterate_files(listing: Listing) -> Iterator[tuple[str, Entry]]:
    """Yield the files of a listing, in no order."""
    return ((path, entry) for path, entry in listing.entries.items() if entry.kind == "file")
