"""The formats that a leaderboard can be exported to: one table, each format's module behind it.

A module has ``write(source: ExportSource, folder: str) -> Exported``, and is imported only when its
format is asked for: some take seconds to import, and some need a package that few people have.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass

from orchestrator.adapters.exports.source import Exported, ExportSource
from orchestrator.contract.errors import UserError


@dataclass(frozen=True)
class Format:
    """One format."""

    module: str
    """Name of its module in this package."""
    words: str
    """What it is, for --help."""
    package: str = ""
    """Package that it needs and a plain install lacks; empty: none."""
    extra: str = ""
    """The extra of this project that brings it."""


FORMATS = {
    "best": Format("best", "best.yaml: the best configuration as a sweep to submit"),
    "csv": Format("tables", "leaderboard.csv, safe to open in a spreadsheet"),
    "hparams": Format(
        "hparams", "hparams/ for TensorBoard's HParams tab", "tensorboard", "tensorboard"
    ),
    "json": Format("tables", "leaderboard.json with every digit"),
    "latex": Format("latex", "leaderboard.tex, a booktabs table of the best"),
    "markdown": Format("tables", "leaderboard.md"),
    "mlflow": Format("mlflow_store", "mlflow/mlflow.db, a tracking store", "mlflow", "mlflow"),
    "optuna": Format("optuna_journal", "optuna.journal, a study for optuna-dashboard"),
    "parquet": Format("tables", "leaderboard.parquet with types", "pyarrow", "parquet"),
    "wandb": Format("wandb_runs", "wandb/, offline runs for `wandb sync`", "wandb", "wandb"),
}


def write_export(name: str, source: ExportSource, folder: str) -> Exported:
    """Write a leaderboard in one format.

    Args:
        name: One of ``FORMATS``.
        source: What to write.
        folder: Where to; made if need be.

    Raises:
        UserError: A package is missing, or there is nothing that the format could hold.
        OrchestratorError: It could not be written; an older export is as it was.
    """
    check_package(name)
    module = importlib.import_module(f"orchestrator.adapters.exports.{FORMATS[name].module}")
    # One module writes all plain tables, and tells them by name.
    if FORMATS[name].module == "tables":
        written: Exported = module.write(source, folder, name)
    else:
        written = module.write(source, folder)
    return written


def check_package(name: str) -> None:
    """Refuse a format whose package is not installed, naming what to install.

    Raises:
        UserError: It is not installed.
    """
    wanted = FORMATS[name]
    if wanted.package and importlib.util.find_spec(wanted.package) is None:
        raise UserError(
            f"--to {name} needs the package {wanted.package}: "
            f".venv/bin/python -m pip install -c constraints.txt -e '.[{wanted.extra}]'"
        )
