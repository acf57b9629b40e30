"""Recording which code a submission runs: git's commit and what differs from it.

Runs on the login node. The files themselves are in a snapshot (``adapters/code_snapshot.py``); this
record says which commit they came of and what differed, so that a person can find their way back.
"""

from __future__ import annotations

import os
import subprocess
from typing import Any

from orchestrator.adapters.journal import read_entries
from orchestrator.adapters.source_tree import run_git
from orchestrator.contract.paths import SweepPaths
from orchestrator.domain.frozen_code import FrozenCode, read_frozen
from orchestrator.runtime import durable

# A diff beyond this (somebody's data in the tree) is left out, and the record says so.
MAX_DIFF_BYTES = 5 * 2**20
TIMEOUT_S = 20.0


def describe_code(workdir: str) -> tuple[dict[str, Any], bytes]:
    """Describe the code in a directory.

    Returns:
        ``{"commit": ..., "dirty": ...}`` and the diff against the commit; an empty record where
        there is no git or no repository, and ``{"refused": why}`` where git will not look at it
        (a repository of another user).
    """
    commit = run_git(workdir, "rev-parse", "HEAD")
    if commit is None:
        return _why_not(workdir), b""
    diff = run_git(workdir, "diff", "--no-ext-diff", "--no-textconv", "HEAD") or b""
    untracked = run_git(workdir, "ls-files", "--others", "--exclude-standard") or b""
    record: dict[str, Any] = {
        "commit": commit.decode("ascii", "replace").strip(),
        "dirty": bool(diff.strip()),
        "untracked": untracked.decode("utf-8", "replace").splitlines()[:100],
    }
    if len(diff) > MAX_DIFF_BYTES:
        record["diff_left_out_bytes"] = len(diff)
        diff = b""
    return record, diff


def newest_entry(sweep: SweepPaths) -> dict[str, Any]:
    """Return what the journal recorded last of the code; empty if nothing was submitted."""
    entries, _ = read_entries(sweep)
    return next((entry for _, entry in reversed(entries) if entry.get("kind") == "code"), {})


def newest_code(sweep: SweepPaths) -> FrozenCode | None:
    """Return the snapshot that was taken last; None if the trials run the live tree."""
    return read_frozen(newest_entry(sweep))


def save_diff(folder: str, name: str, diff: bytes) -> None:
    """Write a diff as ``<folder>/<name>.patch``."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    durable.replace(os.path.join(folder, f"{name}.patch"), diff)


def _why_not(workdir: str) -> dict[str, Any]:
    try:
        answer = subprocess.run(
            ["git", "-C", workdir, "rev-parse", "HEAD"],
            check=False,
            capture_output=True,
            timeout=TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    words = answer.stderr.decode("utf-8", "replace").strip().splitlines()
    return {"refused": words[0]} if words and "dubious ownership" in words[0] else {}
