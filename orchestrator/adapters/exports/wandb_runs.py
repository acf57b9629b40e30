"""The sweep as offline runs of Weights & Biases. Runs on the login node; asks no network.

One run for each trial that reported or ended, however often it was requeued, as ``wandb`` itself
writes it with ``mode="offline"``: parameters as its config, curves as its history, final metrics,
rank, state and cost as its summary. ``wandb leet`` shows them in a terminal, and ``wandb sync``
sends them when somebody says so, to a project named like the sweep; their job type is ``search``,
or ``confirm`` on fresh seeds. A run's id is the trial's name, so that what was synced before is the
same run there; W&B asks for ``--append`` or a new project to send a run again. A run begins when
its trial did; when each value was reported is not known, so all have the time of its end. W&B's own
``Runtime`` is how long the export took: ``wall_hours`` is the trial's.

The folder is new at each export and renamed into place. Metrics and parameters have letters,
digits, ``_`` and, to group metrics, ``/`` in their names, as W&B asks for; others are cleaned, and
that is said. Takes a tenth of a second a trial on an idle machine.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.adapters.exports.publish import publish
from orchestrator.adapters.exports.source import Exported, ExportSource
from orchestrator.adapters.exports.viewers import open_with
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
# What W&B itself puts into a history and a summary.
_RESERVED = ("_runtime", "_step", "_timestamp", "_wandb")


@dataclass(frozen=True)
class _Names:
    """What is called how in W&B."""

    project: str
    """The sweep."""
    params: Mapping[str, str]
    """Parameters."""
    metrics: Mapping[str, str]
    """Metrics."""
    own: Mapping[str, str]
    """What the leaderboard says; none of the program's metrics is called so."""


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
    own = clean_names(source.fact_names, _METRIC_CHARS, _MAX_NAME, letter_first=True)
    metrics = clean_names(
        (name for trial in shown for name in (*source.curves(trial), *trial.metrics)),
        _METRIC_CHARS,
        _MAX_NAME,
        letter_first=True,
        reserved={*own.values(), *_RESERVED},
        prefix="metric_",
    )
    name = source.board.summary.name
    project = clean_names([name], _PROJECT_CHARS, _MAX_PROJECT)[name]
    names = _Names(project, params, metrics, own)

    def write_runs(path: str) -> None:
        # wandb makes a folder of its own name in the folder that it is given.
        with _offline(path) as wandb:
            for trial in shown:
                _write_run(wandb, path, trial, rows[trial.name], source, names)
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
    notes += open_with("look at it with", ["wandb", "leet", path])
    send = open_with("send it with", ["wandb", "sync", path])[-1]
    return Exported([path], [*notes, f"{send}/offline-run-*"])


def _write_run(
    wandb: Any,
    path: str,
    trial: TrialFiles,
    row: Mapping[Any, Any],
    source: ExportSource,
    names: _Names,
) -> None:
    project, params, metrics, own = names.project, names.params, names.metrics, names.own
    config = {params[k]: _plain(v) for k, v in flatten_params(trial.params or {}).items()}
    starts = [a.started_at.timestamp() for a in trial.attempts if a.started_at is not None]
    ends = [a.ended_at.timestamp() for a in trial.attempts if a.ended_at is not None]
    with _started_at(min(starts, default=None)):
        run = wandb.init(
            project=project,
            id=trial.name,
            name=trial.name,
            group=project,
            job_type=source.purpose(trial),
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
            ),
        )
    try:
        by_step: dict[int, dict[str, float]] = {}
        curves, committed = source.curves(trial), source.points(trial)
        for name in curves:
            for step, value in committed[name].items():
                by_step.setdefault(step, {})[metrics[name]] = value
        for step in sorted(by_step):
            # When each was reported is not known; it was by then.
            now = {"_timestamp": max(ends)} if ends else {}
            run.log(by_step[step] | now, step=step)
        for name, value in trial.metrics.items():
            number = metric_value(value)
            run.summary[metrics[name]] = _plain(value) if number is None else number
        for name, value in source.facts(trial, row).items():
            run.summary[own[name]] = _plain(value)
    finally:
        is_well = row["state"] not in (
            TrialState.FAILED.value,
            TrialState.LOST.value,
            TrialState.CANCELLED.value,
        )
        run.finish(exit_code=0 if is_well else 1)


def _plain(value: Any) -> Any:
    """Make a value that JSON holds: numpy's numbers plain, text without controls."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, str):
        return strip_controls(value)
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    return strip_controls(spell_value(value))


class _Clock:
    """The module ``time``, but for the time."""

    def __init__(self, now: float):
        self._now = now

    def time(self) -> float:
        return self._now

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@contextlib.contextmanager
def _started_at(start: float | None) -> Iterator[None]:
    """Have a run begin when the trial did: W&B's own setting for that is overwritten by it.

    Without effect where a version of W&B takes the time elsewhere; its runs then begin now.
    """
    if start is None:
        yield
        return
    names = ("wandb.sdk.wandb_init", "wandb.sdk.wandb_run")
    modules = [sys.modules[name] for name in names if hasattr(sys.modules.get(name), "time")]
    before = [(module, vars(module)["time"]) for module in modules]
    try:
        for module in modules:
            vars(module)["time"] = _Clock(start)
        yield
    finally:
        for module, clock in before:
            vars(module)["time"] = clock


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
