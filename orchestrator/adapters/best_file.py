"""``best.yaml`` in a sweep's folder: its best configuration as a spec to submit. Login node.

Written by ``collect`` and ``export``, only when it would say something else than before: reading a
spec takes longer than all the rest. Of a sweep without its spec (imported results) there is none.
What somebody edited in the sweep's folder, or put there, stays as it is, and is named. A file of
ours is removed where the trial that it names is not the best any more and none can be written,
unless that trial's result is there and cannot be read: unknown is not gone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from orchestrator.adapters.regular_file import UnusableFile, read_file
from orchestrator.contract.errors import CorruptRecord, OrchestratorError, UserError
from orchestrator.contract.file_errors import explain
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import read_record
from orchestrator.domain.best_header import (
    best_trial,
    format_header,
    is_unedited,
    named_trial,
    seal,
)
from orchestrator.domain.leaderboard import Leaderboard
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.trial_files import TrialFiles
from orchestrator.runtime import durable

MAX_BYTES = 2**20


class NotOurs(UserError):
    """In the place of ``best.yaml`` is something that somebody edited, or put there."""


def write_best(
    board: Leaderboard, trials: Sequence[TrialFiles], sweep: SweepPaths, path: str | None = None
) -> str:
    """Bring ``best.yaml`` up to date and return its path.

    Args:
        board: The leaderboard.
        trials: The trials' files.
        sweep: Whose.
        path: Where to, whatever is there; None for its place in the sweep's folder.

    Raises:
        NotOurs: What is in its place is not as we wrote it, and stays.
        UserError: Nothing is ranked, or the sweep's spec is not there or cannot be used.
        OrchestratorError: It could not be written; the old one is as it was.
    """
    is_export, path = path is not None, path or sweep.best
    name = best_trial(board)
    if name is None:
        raise UserError("nothing is ranked yet, so there is no best configuration")
    params = next((trial.params for trial in trials if trial.name == name), None)
    if params is None:
        raise UserError(f"{name}/params.json: cannot be used, so there is no best.yaml")
    text, file, overrides = _read_spec(sweep)
    header = format_header(board, results_folder(sweep), text, overrides)
    found = _read(path)
    if found is not None and is_unedited(found):
        if found.startswith(header.encode("utf-8")):
            return path
    elif not is_export and os.path.lexists(path):
        what = "not ours" if found is None or named_trial(found) is None else "edited"
        raise NotOurs(f"{path}: {what}, so it stays; move it away to have trial {name} there")
    # Lazy: reading YAML takes longer than collecting, and most times nothing has changed.
    from orchestrator.domain.best_spec import format_best

    data = seal(format_best(text, file, overrides, params, header))
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        durable.replace(path, data)
    except OSError as error:
        raise OrchestratorError(f"{path}: not written: {explain(error)}") from None
    return path


def retire_best(
    board: Leaderboard, trials: Sequence[TrialFiles], sweep: SweepPaths
) -> tuple[str, str]:
    """Remove a ``best.yaml`` that names another trial than the best, where none can be written.

    Args:
        board: The leaderboard.
        trials: The trials' files.
        sweep: Whose.

    Returns:
        Why it was removed, and what is wrong with one that stays; both empty if the file still
        names the best, is none of ours, or is not there.
    """
    data = _read(sweep.best)
    if data is None:
        return "", ""
    trial, best = named_trial(data), best_trial(board)
    if trial is None or trial == best:
        return "", ""
    if any(one.name == trial and one.is_committed and one.result is None for one in trials):
        return "", f"{sweep.best}: the result of {one_line(trial, 60)} cannot be read, so it stays"
    now = "nothing is ranked any more" if best is None else f"the best is {best} now"
    words = f"it was of trial {one_line(trial, 60)}, and {now}"
    if not is_unedited(data):
        return "", f"{sweep.best}: {words}; it was edited, so it stays"
    try:
        os.unlink(sweep.best)
    except OSError as error:
        return "", f"{sweep.best}: {words}; it cannot be removed: {explain(error)}"
    return words, ""


def results_folder(sweep: SweepPaths) -> str:
    """Return a sweep's results folder as make takes it: its own default, or the whole path."""
    folder = os.path.dirname(os.path.abspath(sweep.root))
    return "results" if folder == os.path.abspath("results") else folder


def _read_spec(sweep: SweepPaths) -> tuple[str, str, list[str]]:
    """Return the submitted spec's text, its path, and the overrides."""
    try:
        record = read_record(sweep.summary)
        text = read_file(sweep.spec, MAX_BYTES)[0].decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{sweep.spec}: the sweep has no spec, so there is no best.yaml") from None
    except (OSError, CorruptRecord, UnusableFile, UnicodeDecodeError) as error:
        raise UserError(f"{sweep.spec}: cannot be used: {error}") from None
    overrides = record.get("overrides")
    words = [word for word in overrides if isinstance(word, str)] if overrides else []
    return text, str(record.get("spec") or sweep.name), words


def _read(path: str) -> bytes | None:
    """Read a ``best.yaml``; None if there is none, or what is there is no file to be read."""
    try:
        return read_file(path, MAX_BYTES)[0]
    except (OSError, UnusableFile):
        return None
