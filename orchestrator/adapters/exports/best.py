"""The best configuration as a spec; see ``domain.best_spec``. Runs on the login node."""

from __future__ import annotations

import shlex

from orchestrator.adapters.best_file import results_folder, write_best
from orchestrator.adapters.exports.source import Exported, ExportSource


def write(source: ExportSource, folder: str) -> Exported:
    """Write ``best.yaml``.

    Raises:
        UserError: Nothing is ranked, or the sweep's spec is not there.
    """
    path = write_best(source.board, source.trials, source.sweep, f"{folder}/best.yaml")
    results = results_folder(source.sweep)
    elsewhere = "" if results == "results" else f" RESULTS={shlex.quote(results)}"
    return Exported([path], [f"run it with: make submit SWEEP={shlex.quote(path)}{elsewhere}"])
