"""The sweep as offline runs of Weights & Biases. Runs on the login node; asks no network.

One run for each trial that reported or ended, however often it was requeued, as ``wandb`` itself
writes it with ``mode="offline"``: parameters as its config, curves as its history, final metrics,
rank, state and cost as its summary. ``wandb sync`` sends them when somebody says so, to a project
named like the sweep. A run's id is the trial's name, so that what was synced before is the same run
there; W&B asks for ``--append`` or a new project to send a run again.

The folder is new at each export and renamed into place. Metrics and parameters have letters,
digits, ``_`` and, to group metrics, ``/`` in their names, as W&B asks for; others are cleaned, and
that is said. Takes a tenth of a second a trial on an idle machine.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.adapters.exports.publish import publish
from orchestrator.adapters.exports.source import Exported, ExportSource
from orchestrator.contract.records import metric_value
from orchestrator.contract.states import TrialState
from orchestrator.domain.clean_names import clean_names, describe_renames
from orchestrator.domain.named_columns import flatten_params
from orchestrator.domain.plain_text import strip_controls
from orchestrator.domain.trial_files import TrialFiles
from orchestrator.domain.typed_columns import spell_value

FOLDER = "wandb"
# docs.wandb.ai, "Log metrics": GraphQL's rule for names. A project's may not hold / \ # ? % :
_METRIC_CHARS, _PARAM_CHARS, _PROJECT_CHARS = "A-Za-z0-9_/", "A-Za-z0-9_", "A-Za-z0-9_.-"
_MAX_NAME, _MAX_PROJECT = 200, 128
_START_S = 120
_SUMMARY = ("rank", "tie", "state", "attempts", "gpu_hours", "cost", "currency", "node", "note")


def write(source: ExportSource, folder: str) -> Exported:
    """Write ``wandb/``."""
    board = source.board
    rows = {row["trial"]: row for row in board.frame.to_dict("records")}
    shown = [t for t in source.trials if t.name in rows and (t.attempts or t.result)]
    params = clean_names(
        (name for trial in shown for name in flatten_params(trial.params or {})),
        _PARAM_CHARS,
        _MAX_NAME,
        letter_first=True,
    )
    metrics = clean_names(
        # The sweep's own words first: they keep their names.
        (
            *_SUMMARY,
            *(_key(n) for trial in shown for n in (*source.curves(trial), *trial.metrics)),
        ),
        _METRIC_CHARS,
        _MAX_NAME,
        letter_first=True,
    )
    name = source.board.summary.name
    project = clean_names([name], _PROJECT_CHARS, _MAX_PROJECT)[name]

    def write_runs(path: str) -> None:
        # wandb makes a folder of its own name in the folder that it is given.
        with _offline(path) as wandb:
            for trial in shown:
                _write_run(wandb, path, project, trial, rows[trial.name], source, params, metrics)
        inner = f"{path}/wandb"
        if os.path.isdir(inner):
            for entry in os.listdir(inner):
                if entry.startswith("offline-run-"):
                    os.rename(f"{inner}/{entry}", f"{path}/{entry}")
                else:
                    os.unlink(f"{inner}/{entry}")  # its own logs, and a link to the last run
            os.rmdir(inner)

    path = publish(folder, FOLDER, write_runs, is_folder=True)
    notes = [*describe_renames("parameters", params), *describe_renames("metrics", metrics)]
    return Exported([path], [*notes, f"send it with: wandb sync {shlex.quote(path)}/offline-run-*"])


def _write_run(
    wandb: Any,
    path: str,
    project: str,
    trial: TrialFiles,
    row: Mapping[Any, Any],
    source: ExportSource,
    params: Mapping[str, str],
    metrics: Mapping[str, str],
) -> None:
    config = {params[k]: _plain(v) for k, v in flatten_params(trial.params or {}).items()}
    starts = [a.started_at.timestamp() for a in trial.attempts if a.started_at is not None]
    run = wandb.init(
        project=project,
        id=trial.name,
        name=trial.name,
        group=project,
        dir=path,
        config=config,
        reinit="create_new",
        settings=wandb.Settings(
            mode="offline",
            console="off",
            silent=True,
            disable_code=True,
            disable_git=True,
            save_code=False,
            init_timeout=_START_S,
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
            x_save_requirements=False,  # those of this machine, not of the trial's
            **({"x_start_time": min(starts)} if starts else {}),
        ),
    )
    try:
        by_step: dict[int, dict[str, float]] = {}
        curves, committed = source.curves(trial), source.points(trial)
        for name in curves:
            for step, value in committed[name].items():
                by_step.setdefault(step, {})[metrics[_key(name)]] = value
        for step in sorted(by_step):
            run.log(by_step[step], step=step)
        for name, value in trial.metrics.items():
            number = metric_value(value)
            run.summary[metrics[_key(name)]] = _plain(value) if number is None else number
        for name in _SUMMARY:
            cell = row.get(name)
            if cell is not None and str(cell) not in ("<NA>", "nan"):
                run.summary[name] = _plain(cell)
    finally:
        is_well = row["state"] not in (
            TrialState.FAILED.value,
            TrialState.LOST.value,
            TrialState.CANCELLED.value,
        )
        run.finish(exit_code=0 if is_well else 1)


def _key(metric: str) -> str:
    """Tell a metric from what the leaderboard says by the same name."""
    return f"metric_{metric}" if metric in _SUMMARY else metric


def _plain(value: Any) -> Any:
    """Make a value that JSON holds: numpy's numbers plain, text without controls."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, str):
        return strip_controls(value)
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    return strip_controls(spell_value(value))


@contextlib.contextmanager
def _offline(path: str) -> Iterator[Any]:
    """Give the wandb package, kept from the network, and end the service that it starts."""
    asked = {
        "WANDB_MODE": "offline",
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_SILENT": "true",
        "WANDB_DIR": path,
        "WANDB_CACHE_DIR": f"{path}/.cache",
        "WANDB_CONFIG_DIR": f"{path}/.config",
        "WANDB_DATA_DIR": f"{path}/.data",
    }
    ours = [name for name in os.environ if name.startswith("WANDB_")]
    before = {name: os.environ.pop(name) for name in ours}
    os.environ.update(asked)
    try:
        # Lazy: it reads the environment as it is imported.
        import wandb

        try:
            yield wandb
        finally:
            wandb.teardown()
    finally:
        for name in asked:
            os.environ.pop(name, None)
        os.environ.update(before)
