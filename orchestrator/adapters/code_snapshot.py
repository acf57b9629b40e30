"""Snapshots of a program's tree in a sweep's folder: ``code/<hash>/``, shared by all its trials.

Runs on the login node, under the sweep's lock. A snapshot is named by its content, so the same code
is copied once; it is written aside and renamed, so it is there whole or not at all. Beside it
``code/<hash>.json`` lists its files with their digests. Files are read-only, so that no trial
changes them by mistake; folders are not, since programs write new files into where they start.

File contents are not fsynced one by one, which would take a thousand files minutes: network file
systems have them on the server once they are closed. Whoever uses a snapshot again looks at size
and time of every file first, and copies anew what a power failure cut short.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from orchestrator.adapters.source_tree import Entry, Listing, iterate_files
from orchestrator.contract.errors import CorruptRecord
from orchestrator.contract.records import dump_record, read_record
from orchestrator.domain.frozen_code import N_DIGITS, hash_tree
from orchestrator.runtime import durable, failpoint

N_THREADS = 8
# A tree that changes while it is copied is copied anew so often; then it is taken as it is.
MAX_TRIES = 4
# Digests of files that changed so recently are not kept: they may change within the clock's tick.
SETTLED_S = 3.0
CHUNK_BYTES = 2**20
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# kind, executable, digest or target; of a file also size and mtime in nanoseconds.
Manifest = dict[str, list[Any]]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Snapshot:
    """A snapshot that is there."""

    name: str
    """Its folder below ``code/``."""
    files: Manifest
    """What it holds."""
    outside: Mapping[str, str]
    """What it links to, by path."""
    large: list[str] = field(default_factory=list)
    """Paths of ``outside`` that are linked for their size."""
    is_new: bool = True
    """Whether it was copied now."""
    unsettled: list[str] = field(default_factory=list)
    """Files that went on changing while they were copied."""


def take_snapshot(code: str, cache: str, look: Callable[[], Listing]) -> Snapshot:
    """Copy a tree into ``code/<hash>``, unless it is there.

    Args:
        code: The sweep's folder for code.
        cache: File that keeps digests between submissions; may be deleted at any time.
        look: Lists the tree as it is now.

    Raises:
        OSError: The tree cannot be read, or the snapshot not written.
    """
    os.makedirs(code, mode=0o700, exist_ok=True)
    _remove_halves(code)
    with ThreadPoolExecutor(N_THREADS) as pool:
        listing = look()
        for number in range(1, MAX_TRIES + 1):
            files = _digest_all(listing, cache, pool)
            name = hash_tree(files)[:N_DIGITS]
            if _is_whole(code, name, listing, files, pool):
                _link_outside(f"{code}/{name}", listing.outside)
                return Snapshot(name, files, listing.outside, listing.large, is_new=False)
            failpoint.reach("code.copy.before")
            half = _half(code)
            copied = _copy_tree(listing, half, pool)
            now = look()
            unsettled = sorted(
                path
                for path in {*listing.entries, *now.entries}
                if listing.entries.get(path) != now.entries.get(path)
                or (path in files and copied.get(path, [])[:3] != files[path][:3])
            )
            if not unsettled or number == MAX_TRIES:
                _link_outside(half, listing.outside)
                name = hash_tree(copied)[:N_DIGITS]
                _publish(code, half, name, copied, listing)
                return Snapshot(name, copied, listing.outside, listing.large, True, unsettled)
            shutil.rmtree(half)
            listing = now
    raise AssertionError("unreachable")


def read_manifest(code: str, name: str) -> Manifest | None:
    """Return the files of a snapshot; None if there is none, or its list is damaged."""
    try:
        files = read_record(f"{code}/{name}.json")["files"]
    except (OSError, CorruptRecord, KeyError):
        return None
    return files if isinstance(files, dict) else None


def find_changes(code: str, name: str) -> list[str]:
    """Read a snapshot again and return the files that are not as they were copied.

    Raises:
        FileNotFoundError: There is no such snapshot.
    """
    files = read_manifest(code, name)
    if files is None or not os.path.isdir(f"{code}/{name}"):
        raise FileNotFoundError(2, "no such snapshot of the code", f"{code}/{name}")
    with ThreadPoolExecutor(N_THREADS) as pool:
        found = pool.map(lambda item: _is_same(f"{code}/{name}/{item[0]}", item[1]), files.items())
        return sorted(path for path, same in zip(files, found, strict=True) if not same)


def list_snapshots(code: str) -> list[str]:
    """Return the names of all snapshots, the oldest first."""
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(code) as entries:
        for entry in entries:
            if len(entry.name) == N_DIGITS and entry.name.isalnum() and entry.is_dir():
                with contextlib.suppress(OSError):
                    found.append((os.stat(f"{code}/{entry.name}.json").st_mtime, entry.name))
    return [name for _, name in sorted(found)]


def remove_snapshot(code: str, name: str) -> None:
    """Remove a snapshot that no trial names: first from sight, then from disk."""
    half = _half(code)
    os.rename(f"{code}/{name}", half)
    for end in (".json", ".patch"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{code}/{name}{end}")
    shutil.rmtree(half, ignore_errors=True)


def _half(code: str) -> str:
    return f"{code}/.snapshot.{secrets.token_hex(8)}.tmp"


def _remove_halves(code: str) -> None:
    """Remove what a killed submission left; the caller holds the lock, so nobody is at it."""
    with os.scandir(code) as entries:
        halves = [e.path for e in entries if e.name.startswith(".snapshot.")]
    for path in halves:
        shutil.rmtree(path, ignore_errors=True)


def _digest_all(listing: Listing, cache: str, pool: ThreadPoolExecutor) -> Manifest:
    """Return the manifest of a listing; a file that vanished is left out."""
    known = _read_cache(cache, listing.root)
    files: Manifest = {
        path: [entry.kind, False, entry.target]
        for path, entry in listing.entries.items()
        if entry.kind != "file"
    }
    unread = []
    for path, entry in iterate_files(listing):
        kept = known.get(path, [])
        if tuple(kept[1:]) == entry.stamp:
            files[path] = _row(entry, str(kept[0]))
        else:
            unread.append((path, entry))
    digests = _map(pool, lambda item: _digest(os.path.join(listing.root, item[0])), unread)
    for (path, entry), digest in zip(unread, digests, strict=True):
        if digest is not None:
            files[path] = _row(entry, digest)
    if unread:
        _write_cache(cache, listing, files)
    return files


def _row(entry: Entry, digest: str) -> list[Any]:
    return ["file", entry.is_executable, digest, entry.stamp[0], entry.stamp[1]]


def _map(
    pool: ThreadPoolExecutor, work: Callable[[_T], str | None], items: list[_T]
) -> Iterable[str | None]:
    """Map in batches: handing a thread one small file costs more than reading it."""
    size = max(1, min(50, len(items) // N_THREADS))
    batches = [items[start : start + size] for start in range(0, len(items), size)]
    for done in pool.map(lambda batch: [work(item) for item in batch], batches):
        yield from done


def _digest(path: str) -> str | None:
    total = hashlib.sha256()
    try:
        fd = os.open(path, _READ)
    except OSError:
        return None
    try:
        while chunk := os.read(fd, CHUNK_BYTES):
            total.update(chunk)
    except OSError:
        return None
    finally:
        os.close(fd)
    return total.hexdigest()


def _copy_tree(listing: Listing, half: str, pool: ThreadPoolExecutor) -> Manifest:
    os.mkdir(half, mode=0o700)
    folders = {os.path.dirname(path) for path in listing.entries}
    folders |= {path for path, entry in listing.entries.items() if entry.kind == "dir"}
    for folder in sorted(folders):
        os.makedirs(os.path.join(half, folder), mode=0o700, exist_ok=True)
    copied: Manifest = {}
    for path, entry in listing.entries.items():
        if entry.kind == "link":
            os.symlink(entry.target, os.path.join(half, path))
        if entry.kind != "file":
            copied[path] = [entry.kind, False, entry.target]
    files = list(iterate_files(listing))
    digests = _map(
        pool,
        lambda item: _copy(
            os.path.join(listing.root, item[0]), os.path.join(half, item[0]), item[1]
        ),
        files,
    )
    for (path, entry), digest in zip(files, digests, strict=True):
        if digest is not None:
            copied[path] = _row(entry, digest)
    return copied


def _copy(source: str, target: str, entry: Entry) -> str | None:
    """Copy a file and return its digest; None if it cannot be read (any more)."""
    total = hashlib.sha256()
    try:
        incoming = os.open(source, _READ)
    except OSError:
        return None
    try:
        out = os.open(target, _WRITE, 0o600)
        try:
            while chunk := os.read(incoming, CHUNK_BYTES):
                total.update(chunk)
                durable.write_all(out, chunk, "code.write.half")
            os.fchmod(out, 0o500 if entry.is_executable else 0o400)
            os.utime(out, ns=(entry.stamp[1], entry.stamp[1]))
        finally:
            os.close(out)
    except OSError as error:
        error.filename = error.filename or target
        raise
    finally:
        os.close(incoming)
    return total.hexdigest()


def _link_outside(folder: str, outside: Mapping[str, str]) -> None:
    """Link to what is no code; what a trial has put in its place stays."""
    for path, original in outside.items():
        place = os.path.join(folder, path)
        if os.path.islink(place) and os.readlink(place) != original:
            os.unlink(place)
        if not os.path.lexists(place):
            os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.symlink(original, place)


def _publish(code: str, half: str, name: str, files: Manifest, listing: Listing) -> None:
    record = {"root": listing.root, "files": files, "outside": dict(listing.outside)}
    durable.replace(f"{code}/{name}.json", dump_record(record))
    failpoint.reach("code.rename.before")
    if os.path.lexists(f"{code}/{name}"):  # one that its list does not describe
        aside = _half(code)
        os.rename(f"{code}/{name}", aside)
        shutil.rmtree(aside, ignore_errors=True)
    os.rename(half, f"{code}/{name}")
    failpoint.reach("code.rename.after")
    durable.sync_directory(code)


def _is_whole(
    code: str, name: str, listing: Listing, files: Manifest, pool: ThreadPoolExecutor
) -> bool:
    """Tell whether a snapshot is there, after mending files of it that are not as copied."""
    folder = f"{code}/{name}"
    before = read_manifest(code, name)
    if before is None or not os.path.isdir(folder):
        return False
    looks = _map(pool, lambda path: _stat_words(f"{folder}/{path}", before[path]), list(before))
    for path, look in zip(before, looks, strict=True):
        if look is None:
            continue
        aside = f"{folder}/{path}.{secrets.token_hex(8)}.tmp"
        os.makedirs(os.path.dirname(aside), mode=0o700, exist_ok=True)
        entry = listing.entries[path]
        if entry.kind == "dir":
            os.makedirs(f"{folder}/{path}", mode=0o700, exist_ok=True)
            continue
        if entry.kind == "link":
            os.symlink(entry.target, aside)
        else:
            stamp = (before[path][3], before[path][4], 0, 0)
            digest = _copy(f"{listing.root}/{path}", aside, entry._replace(stamp=stamp))
            if digest != files[path][2]:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(aside)
                return False
        if os.path.isdir(f"{folder}/{path}") and not os.path.islink(f"{folder}/{path}"):
            return False
        os.rename(aside, f"{folder}/{path}")
    return True


def _stat_words(path: str, row: list[Any]) -> str | None:
    """Say what is wrong with a file of a snapshot; None if it looks as it was copied."""
    try:
        status = os.lstat(path)
        if row[0] == "link":
            return None if os.readlink(path) == row[2] else "another link"
    except OSError as error:
        return error.strerror or "gone"
    if row[0] == "dir":
        return None if os.path.isdir(path) else "no folder"
    # Lustre keeps whole seconds.
    is_same_time = status.st_mtime_ns // 10**9 == row[4] // 10**9
    return None if is_same_time and status.st_size == row[3] else "changed"


def _is_same(path: str, row: list[Any]) -> bool:
    if row[0] == "dir":
        return os.path.isdir(path)
    if row[0] == "link":
        return os.path.islink(path) and os.readlink(path) == str(row[2])
    return _digest(path) == str(row[2])


def _read_cache(path: str, root: str) -> dict[str, list[Any]]:
    try:
        record = read_record(path)
        return dict(record["files"]) if record["root"] == root else {}
    except (OSError, CorruptRecord, KeyError, TypeError, ValueError):
        return {}


def _write_cache(path: str, listing: Listing, files: Manifest) -> None:
    """Keep the digests; without them the next submission reads every file, that is all."""
    settled_ns = time.time_ns() - int(SETTLED_S * 1e9)
    kept = {
        name: [files[name][2], *entry.stamp]
        for name, entry in iterate_files(listing)
        if name in files and max(entry.stamp[1:3]) < settled_ns
    }
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        durable.replace(path, dump_record({"root": listing.root, "files": kept}))
