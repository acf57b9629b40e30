"""Writing a sweep's results for other tools. Runs on the login node; asks no network.

Observes and collects once, then has each format written in turn. A package that is missing for one
of them is said before anything is written; a format that cannot be written keeps no other back. The
leaderboard's own files in the sweep's folder are left as they are; only ``collect`` writes those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from orchestrator.adapters.exports.formats import FORMATS, check_package, write_export
from orchestrator.adapters.exports.source import Exported, ExportSource
from orchestrator.contract.errors import OrchestratorError, UserError
from orchestrator.contract.paths import SweepPaths
from orchestrator.domain.spec_tree import nearest
from orchestrator.usecases.collect import collect
from orchestrator.usecases.ratings import load_ratings
from orchestrator.usecases.vanished import observe_results


@dataclass(frozen=True)
class Exports:
    """What was written."""

    written: dict[str, Exported]
    """By format, in the order asked for."""
    failed: dict[str, OrchestratorError]
    """Formats that could not be written; older exports of theirs are as they were."""
    n_trials: int
    """Trials on the leaderboard."""
    n_ranked: int
    """And those with a rank."""
    problems: list[str]
    """Files of the sweep that could not be used."""
    unreachable: str | None
    """Why Slurm did not answer; None if it did or was not needed."""


def check_formats(names: Sequence[str]) -> list[str]:
    """Return formats without repeats.

    Raises:
        UserError: One that there is not, or whose package is not installed.
    """
    unique = list(dict.fromkeys(names))
    for name in unique:
        if name not in FORMATS:
            raise UserError(
                f"no format {name!r}; {nearest(name, FORMATS)}there are {', '.join(FORMATS)} "
                "(name a sweep before --to)"
            )
        check_package(name)
    return unique


def export(sweep: SweepPaths, names: Sequence[str], folder: str | None, top: int) -> Exports:
    """Write a sweep's leaderboard in several formats.

    Args:
        sweep: Which.
        names: Formats.
        folder: Where to; None for the sweep's own ``exports/``.
        top: How many configurations a format for people shows.

    Raises:
        UserError: An unknown format, or a missing package.
    """
    formats = check_formats(names)
    observation = observe_results(sweep)
    ratings = load_ratings(sweep)
    collection = collect(
        sweep,
        observation.states,
        observation.reasons,
        datetime.now(UTC),
        scan=observation.scan,
        gone=observation.gone,
        ratings=ratings,
        write_files=False,
    )
    source = ExportSource(sweep, collection.board, ratings.join(observation.trials), top)
    written: dict[str, Exported] = {}
    failed: dict[str, OrchestratorError] = {}
    for name in formats:
        try:
            written[name] = write_export(name, source, folder or sweep.exports)
        except OrchestratorError as error:  # full disk, nothing ranked, somebody's own folder
            failed[name] = error
    return Exports(
        written,
        failed,
        len(collection.board.frame),
        collection.board.n_ranked,
        collection.problems,
        observation.unreachable,
    )
