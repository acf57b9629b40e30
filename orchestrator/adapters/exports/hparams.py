"""The sweep as TensorBoard runs for its HParams tab. Runs on the login node.

A folder with an experiment's summary and one run for each trial that reported or ended: its
parameters, its curves as scalars, its final metrics, and how it ended. Runs on fresh seeds are
``confirm/<trial>``, so that TensorBoard's filter of runs tells them apart. Records are made by
TensorBoard's own functions, which need no TensorFlow. The same sweep gives the same bytes.

The tab shows the last value of a metric. A metric whose last value is not finite is a scalar all
the same; one that is no number is left out. TensorBoard keeps 32 bits of a scalar: some seven
digits, and infinity for what is beyond 3.4e38.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2
from tensorboard.plugins.scalar import summary_v2 as scalars
from tensorboard.summary.writer.record_writer import RecordWriter

from orchestrator.adapters.exports.publish import publish
from orchestrator.adapters.exports.source import Exported, ExportSource
from orchestrator.adapters.exports.viewers import open_with
from orchestrator.contract.records import metric_value
from orchestrator.contract.states import TrialState
from orchestrator.domain.named_columns import flatten_params
from orchestrator.domain.plain_text import strip_controls
from orchestrator.domain.trial_files import TrialFiles
from orchestrator.domain.typed_columns import spell_value

FOLDER = "hparams"
# TensorBoard's loader takes any name with this word in it; ours has no host and no time.
_FILE = "events.out.tfevents.0.orchestrator"
_STATUS = {
    TrialState.DONE: api_pb2.STATUS_SUCCESS,
    TrialState.FAILED: api_pb2.STATUS_FAILURE,
    TrialState.LOST: api_pb2.STATUS_FAILURE,
    TrialState.CANCELLED: api_pb2.STATUS_FAILURE,
    TrialState.RUNNING: api_pb2.STATUS_RUNNING,
}


def write(source: ExportSource, folder: str) -> Exported:
    """Write ``hparams/``."""
    board = source.board
    names = [board.source_names[column] for column in (*board.parameters, *board.constants)]
    states = dict(zip(board.frame["trial"], board.frame["state"], strict=True))
    shown = [
        trial
        for trial in source.trials
        if trial.name in states and (trial.attempts or trial.result)
    ]
    metrics = list(dict.fromkeys(n for t in shown for n, v in t.metrics.items() if _is_number(v)))
    if board.summary.metric in metrics:  # the first one is what the tab sorts by
        metrics.insert(0, metrics.pop(metrics.index(board.summary.metric)))

    values: dict[str, list[Any]] = {name: [] for name in names}
    for trial in shown:
        for name, value in flatten_params(trial.params or {}).items():
            values.setdefault(name, []).append(_hparam(value))
    mixed = {name for name, found in values.items() if _kind(found) is None}

    def write_runs(path: str) -> None:
        experiment = api_pb2.Experiment(
            hparam_infos=[_describe(name, values[name]) for name in names],
            metric_infos=[summary_v2.Metric(_tag(name)).as_proto() for name in metrics],
        )
        _write_events(path, [_event(_experiment_pb(experiment), 0.0)])
        for trial in shown:
            run = _run(source, trial)
            os.makedirs(f"{path}/{run}", mode=0o700)
            state = TrialState(states[trial.name])
            _write_events(f"{path}/{run}", _events(trial, run, state, source.points(trial), mixed))

    path = publish(folder, FOLDER, write_runs, is_folder=True)
    return Exported([path], open_with("open it with", ["tensorboard", "--logdir", path]))


def _run(source: ExportSource, trial: TrialFiles) -> str:
    return trial.name if source.purpose(trial) == "search" else f"confirm/{trial.name}"


def _describe(name: str, values: Sequence[bool | float | str]) -> api_pb2.HParamInfo:
    """Describe a parameter as TensorBoard does where nobody describes it, for the tab's filters.

    Without ``differs`` it shows the first five parameters by name, constants or not.
    """
    info = api_pb2.HParamInfo(name=_tag(name), differs=len(set(map(str, values))) > 1)
    kind = _kind(values)
    if kind is bool:
        info.type = api_pb2.DATA_TYPE_BOOL
        info.domain_discrete.extend(sorted(set(values)))
    elif kind is float:
        info.type = api_pb2.DATA_TYPE_FLOAT64
        info.domain_interval.min_value = min(map(float, values))
        info.domain_interval.max_value = max(map(float, values))
    else:
        info.type = api_pb2.DATA_TYPE_STRING
        info.domain_discrete.extend(sorted(set(map(_text, values))))
    return info


def _kind(values: Sequence[bool | float | str]) -> type | None:
    """Return what all values are: bool, float (any number) or str; None if they are mixed."""
    kinds = {float if type(value) is int else type(value) for value in values}
    return kinds.pop() if len(kinds) == 1 else None


def _text(value: bool | float | str) -> str:
    return value if isinstance(value, str) else spell_value(value)


def _experiment_pb(experiment: api_pb2.Experiment) -> summary_pb2.Summary:
    summary = summary_pb2.Summary()
    summary.value.add(
        tag=metadata.EXPERIMENT_TAG,
        metadata=metadata.create_summary_metadata(
            plugin_data_pb2.HParamsPluginData(experiment=experiment)
        ),
        tensor=metadata.NULL_TENSOR,
    )
    return summary


def _events(
    trial: TrialFiles,
    run: str,
    state: TrialState,
    points: Mapping[str, Mapping[int, float]],
    mixed: Collection[str],
) -> list[event_pb2.Event]:
    """Make the events of one run: start, scalars, end.

    Args:
        trial: What its files say.
        run: Its run's name.
        state: How it stands.
        points: Its curves.
        mixed: Parameters whose values are of several kinds, and so all text.
    """
    starts = [a.started_at.timestamp() for a in trial.attempts if a.started_at is not None]
    ends = [a.ended_at.timestamp() for a in trial.attempts if a.ended_at is not None]
    start = min(starts, default=0.0)
    end = max(ends, default=start)
    params = {name: _hparam(v) for name, v in flatten_params(trial.params or {}).items()}
    params = {_tag(n): _text(v) if n in mixed else v for n, v in params.items()}
    # TensorBoard's own group is one of equal parameters; here each trial is its own.
    events = [_event(summary_v2.hparams_pb(params, run, start), start)]
    for name, found in points.items():
        for step, number in found.items():
            with np.errstate(over="ignore"):  # 1e308 is infinite there, and no reason to warn
                scalar = scalars.scalar_pb(_tag(name), number)
            events.append(_event(scalar, end, step))
    status = _STATUS.get(state, api_pb2.STATUS_UNKNOWN)
    closing = plugin_data_pb2.HParamsPluginData(
        session_end_info=plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=end)
    )
    summary = summary_pb2.Summary()
    summary.value.add(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(closing),
        tensor=metadata.NULL_TENSOR,
    )
    return [*events, _event(summary, end)]


def _write_events(folder: str, events: list[event_pb2.Event]) -> None:
    with open(f"{folder}/{_FILE}", "xb") as file:
        writer = RecordWriter(file)
        for event in [event_pb2.Event(wall_time=0.0, file_version="brain.Event:2"), *events]:
            writer.write(event.SerializeToString(deterministic=True))


def _event(summary: Any, wall_time: float, step: int = 0) -> event_pb2.Event:
    return event_pb2.Event(wall_time=wall_time, step=step, summary=summary)


def _tag(name: str) -> str:
    """Make a name that a protocol buffer takes: no lone surrogates, no controls."""
    return strip_controls(name.encode("utf-8", "backslashreplace").decode("utf-8")) or "_"


def _hparam(value: Any) -> bool | int | float | str:
    if type(value) in (bool, float, str) or (type(value) is int and abs(value) <= 2**53):
        plain: bool | int | float | str = value
        return _tag(plain) if isinstance(plain, str) else plain
    return _tag(spell_value(value))


def _is_number(value: Any) -> bool:
    return metric_value(value) is not None
