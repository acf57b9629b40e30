"""The sweep as an MLflow tracking store, a SQLite file. Runs on the login node; asks no network.

One experiment, named like the sweep, and one run for each trial that reported or ended, however
often it was requeued: parameters, curves and final metrics, times, status, tags with its state,
note and purpose (``search``, or ``confirm`` on a fresh seed), and rank, mean and cost as metrics
``sweep/...``, which no metric of the program is called. A run's id is made of the sweep's folder
and the trial's name, so it is the same at each export, and other sweeps' runs have others.

The store is new at each export and renamed into place: nothing is in it twice, and what somebody
added to an older one (notes, tags) is gone. Names that MLflow does not take are cleaned, and that
is said; infinities are left out, since its database has none; text beyond its limits is cut.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import logging
import math
import os
import sqlite3
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.adapters.exports.publish import publish
from orchestrator.adapters.exports.source import Exported, ExportSource
from orchestrator.adapters.exports.viewers import open_with
from orchestrator.contract.states import TrialState
from orchestrator.domain.clean_names import clean_names, describe_renames
from orchestrator.domain.leaderboard import Leaderboard
from orchestrator.domain.named_columns import flatten_params
from orchestrator.domain.plain_text import strip_controls
from orchestrator.domain.sweep_summary import MAXIMIZE
from orchestrator.domain.trial_files import TrialFiles
from orchestrator.domain.typed_columns import spell_value

FOLDER, FILE = "mlflow", "mlflow.db"
# MLflow makes experiment 0, "Default", itself.
FIRST_EXPERIMENT = "1"
# mlflow/utils/validation.py of MLflow 3: letters, digits, _ - . space : /, at most 250; entities of
# one batch; characters of a parameter's and a tag's value.
_NAME_CHARS, _MAX_NAME = r"\w\-. :/", 250
_MAX_BATCH, _MAX_PARAMS = 1000, 100
_MAX_PARAM_CHARS, _MAX_TAG_CHARS = 6000, 5000
_STATUS = {
    TrialState.DONE: "FINISHED",
    TrialState.FAILED: "FAILED",
    TrialState.LOST: "FAILED",
    TrialState.CANCELLED: "KILLED",
    TrialState.RUNNING: "RUNNING",
}


def write(source: ExportSource, folder: str) -> Exported:
    """Write ``mlflow/mlflow.db``."""
    board = source.board
    rows = {row["trial"]: row for row in board.frame.to_dict("records")}
    shown = [t for t in source.trials if t.name in rows and (t.attempts or t.result)]
    points = {trial.name: source.points(trial) for trial in shown}
    params = _clean(name for trial in shown for name in flatten_params(trial.params or {}))
    cleaned = _clean(f"sweep/{name}" for name in source.fact_names)
    own = {name: cleaned[f"sweep/{name}"] for name in source.fact_names}
    metrics = _clean((n for t in shown for n in points[t.name]), set(own.values()), "metric/")
    names = _Names(params, metrics, own)
    artifacts = f"{os.path.abspath(folder)}/{FOLDER}/artifacts"

    def write_store(path: str) -> None:
        with _quiet_mlflow():
            # Lazy: two seconds.
            from mlflow.tracking import MlflowClient

            client = MlflowClient(f"sqlite:///{path}/{FILE}")
            experiment = client.create_experiment(
                strip_controls(board.summary.name) or "sweep",
                artifact_location=artifacts,
                tags=_experiment_tags(board, metrics),
            )
            assert experiment == FIRST_EXPERIMENT
            ids = {}
            for trial in shown:
                run = _write_run(
                    client,
                    experiment,
                    trial,
                    rows[trial.name],
                    source,
                    points[trial.name],
                    names,
                )
                ids[run] = run_id(source.sweep.root, trial.name)
            _close(client)
        _rename_runs(f"{path}/{FILE}", ids)

    path = publish(folder, FOLDER, write_store, is_folder=True)
    notes = [*describe_renames("parameters", params), *describe_renames("metrics", metrics)]
    command = ["mlflow", "ui", "--backend-store-uri", f"sqlite:///{path}/{FILE}"]
    # What writes the store may be mlflow-skinny, whose `mlflow ui` lacks its server. A store is for
    # servers of its version.
    notes += open_with("open it with", command, "mlflow", _version())
    # MLflow 3 opens with what it has for language models, and shows no run there.
    notes.append(f"its runs are at: http://127.0.0.1:5000/#/experiments/{FIRST_EXPERIMENT}/runs")
    return Exported([path], notes)


def run_id(root: str, trial: str) -> str:
    """Make a run's id, 32 hexadecimal digits as MLflow's own: the same at each export."""
    identity = f"{os.path.realpath(root)}\0{trial}".encode(errors="surrogateescape")
    return hashlib.sha256(identity).hexdigest()[:32]


def _experiment_tags(board: Leaderboard, metrics: Mapping[str, str]) -> dict[str, str]:
    tags = {}
    if board.standing.words:
        tags["orchestrator.standing"] = strip_controls(board.standing.words)[:_MAX_TAG_CHARS]
    metric = board.summary.metric
    if metric is not None and metric in metrics:
        tags["mlflow.experiment.primaryMetric.name"] = metrics[metric]
        is_greater = board.summary.goal == MAXIMIZE
        tags["mlflow.experiment.primaryMetric.greaterIsBetter"] = str(is_greater)
    return tags


@dataclass(frozen=True)
class _Names:
    """What is called how in the store."""

    params: Mapping[str, str]
    """Parameters."""
    metrics: Mapping[str, str]
    """Metrics."""
    own: Mapping[str, str]
    """What the leaderboard says, as metrics; none of the program's is called so."""


def _version() -> str:
    """Return the version of MLflow that writes the store."""
    for package in ("mlflow", "mlflow-skinny"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(package)
    return ""


def _clean(
    names: Iterable[str], reserved: Collection[str] = (), prefix: str = ""
) -> dict[str, str]:
    return clean_names(
        names, _NAME_CHARS, _MAX_NAME, is_path=True, reserved=reserved, prefix=prefix
    )


def _write_run(
    client: Any,
    experiment: str,
    trial: TrialFiles,
    row: Mapping[Any, Any],
    source: ExportSource,
    points: Mapping[str, Mapping[int, float]],
    names: _Names,
) -> str:
    """Write one trial as a run and return the id that MLflow gave it."""
    from mlflow.entities import Metric, Param  # lazy: as above

    starts = [a.started_at.timestamp() for a in trial.attempts if a.started_at is not None]
    ends = [a.ended_at.timestamp() for a in trial.attempts if a.ended_at is not None]
    start = min(starts, default=0.0)
    end = max(ends, default=start)
    tags = {"orchestrator.trial": trial.name, "orchestrator.state": str(row["state"])}
    tags["orchestrator.purpose"] = source.purpose(trial)
    facts = source.facts(trial, row)
    tags |= {
        f"orchestrator.{name}": strip_controls(value)[:_MAX_TAG_CHARS]
        for name, value in facts.items()
        if isinstance(value, str)
    }
    run = client.create_run(experiment, _ms(start), tags=tags, run_name=trial.name).info.run_id
    entities = [
        Metric(names.metrics[name], value, _ms(end), step)
        for name, found in points.items()
        for step, value in found.items()
        if not math.isinf(value)
    ]
    # As metrics, since MLflow sorts and draws no tags; its charts show what is before a / together.
    entities += [
        Metric(names.own[name], value, _ms(end), 0)
        for name, value in facts.items()
        if not isinstance(value, str)
    ]
    params = [
        Param(names.params[name], strip_controls(spell_value(value))[:_MAX_PARAM_CHARS])
        for name, value in flatten_params(trial.params or {}).items()
    ]
    for first in range(0, len(params), _MAX_PARAMS):
        client.log_batch(run, params=params[first : first + _MAX_PARAMS])
    for first in range(0, len(entities), _MAX_BATCH):
        client.log_batch(run, metrics=entities[first : first + _MAX_BATCH])
    status = _STATUS.get(TrialState(row["state"]), "SCHEDULED")
    if status in ("RUNNING", "SCHEDULED"):
        client.update_run(run, status)
    else:
        client.set_terminated(run, status, _ms(end))
    return str(run)


def _rename_runs(path: str, ids: Mapping[str, str]) -> None:
    """Give runs their lasting ids, in every table that names a run, in one transaction."""
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        # The folder of its artifacts bears the id, too.
        database.executemany(
            "UPDATE runs SET artifact_uri = replace(artifact_uri, ?1, ?2) WHERE run_uuid = ?1",
            list(ids.items()),
        )
        found = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in found:
            columns = [row[1] for row in database.execute(f'PRAGMA table_info("{table}")')]
            if "run_uuid" in columns:
                database.executemany(
                    f'UPDATE "{table}" SET run_uuid = ? WHERE run_uuid = ?',
                    [(new, old) for old, new in ids.items()],
                )


def _close(client: Any) -> None:
    """Close the database, so that the file is whole before it is renamed."""
    # It has no public way to do so.
    store = getattr(getattr(client, "_tracking_client", None), "store", None)
    engine = getattr(store, "engine", None)
    if engine is not None:
        engine.dispose()


@contextlib.contextmanager
def _quiet_mlflow() -> Iterator[None]:
    """Keep MLflow from telling of its tables on standard error, and from calling home."""
    asked = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    before = {name: os.environ.get(name) for name in asked}
    os.environ.update(asked)
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)

    def hurry(connection: Any, _: Any) -> None:
        # A run is many transactions, and each would wait for the disk; the file is only renamed
        # into place, and brought to disk, when it is whole.
        connection.execute("PRAGMA synchronous = OFF")

    # Lazy: as above. It comes with Optuna.
    from sqlalchemy import Engine, event

    event.listen(Engine, "connect", hurry)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        event.remove(Engine, "connect", hurry)
        logging.disable(disabled)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
