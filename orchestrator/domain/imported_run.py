"""Runs that something else made, on their way into a leaderboard, and the rules of that.

Pure: the files are read by ``adapters.importers``. What is a parameter and what a metric comes from
the source where it says so; see ``RecordRules`` for records of plain JSON or rows of a table.

Covered: names, states, seeds, times and durations as Optuna, Weights & Biases and common scripts
write them. Not covered: units other than seconds in durations, and times without a zone, which are
taken as UTC.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from orchestrator.contract.errors import UserError
from orchestrator.contract.states import TrialState
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.spec_tree import nearest

SEED = "seed"
PARAMS = ("params", "config", "hyperparameters", "parameters", "hparams")
METRICS = ("metrics", "summary", "results", "scores")
_SEEDS = {"seed", "random_seed", "random_state", "rng_seed", "manual_seed"}
_NAMES = ("id", "ID", "run_id", "name", "Name")
_STATES = ("state", "State", "status", "Status")
_STARTS = ("started_at", "start_time", "created_at", "createdAt", "Created")
_ENDS = ("ended_at", "end_time", "finished_at", "End Time")
_DURATIONS = ("duration_s", "wall_s", "runtime_s", "runtime", "duration", "Runtime", "_runtime")
_HOSTS = ("host", "node", "hostname", "Hostname", "Host")
_META = {*_NAMES, *_STATES, *_STARTS, *_ENDS, *_DURATIONS, *_HOSTS, "step", "_step", "_timestamp"}
_META |= {"_wandb", "history", "group", "tags", "notes", "url", "path", "project", "entity"}
_WORDS: dict[str, tuple[TrialState, str]] = {
    **dict.fromkeys(
        ("finished", "complete", "completed", "done", "success", "succeeded", "ok"),
        (TrialState.DONE, ""),
    ),
    **{
        word: (TrialState.FAILED, word)
        for word in ("failed", "fail", "failure", "crashed", "error", "killed", "preempted", "nan")
    },
    "pruned": (TrialState.CANCELLED, "pruned"),
    **{
        word: (TrialState.CANCELLED, word)
        for word in ("cancelled", "canceled", "stopped", "aborted", "interrupted")
    },
    **{
        word: (TrialState.UNKNOWN, f"{word} when it was imported")
        for word in ("running", "pending", "queued", "waiting", "created", "preempting", "starting")
    },
}
_CLOCK = re.compile(r"(?:(\d+)d\s*)?(?:(\d+)h\s*)?(?:(\d+)m\s*)?(?:(\d+(?:\.\d+)?)s)?")
MAX_TEXT = 1000


@dataclass(frozen=True)
class ImportedRun:
    """One run of another tool."""

    id: str
    """What the source calls it; unique within the source."""
    params: Mapping[str, Any]
    """Its parameters, JSON values."""
    metrics: Mapping[str, Any]
    """Last value of each metric."""
    state: TrialState
    """Where it stood when the source was written; one that is not finished is unknown."""
    reason: str = ""
    """Why it is in that state, in words; foreign text."""
    number: int | None = None
    """Its number in the source, where runs are numbered; None: in the order of the source."""
    started_at: datetime | None = None
    """Start, UTC."""
    wall_s: float | None = None
    """How long it ran; None: not known."""
    node: str | None = None
    """Host name."""
    last_step: int | None = None
    """Last step that it reported; None without a curve."""
    curve: tuple[Mapping[str, Any], ...] = ()
    """What it reported step by step, each with ``step``."""
    unused: Mapping[str, str] = field(default_factory=dict)
    """What it says of its times that is no time or duration: names and values, as foreign text."""


@dataclass(frozen=True)
class Imported:
    """What a source holds."""

    kind: str
    """What it is, for people: ``Optuna study 'x'``."""
    runs: tuple[ImportedRun, ...]
    """All of its runs."""
    objectives: tuple[tuple[str, str], ...] = ()
    """Names and goals, where the source says what was optimized; the first is ranked."""
    problems: tuple[str, ...] = ()
    """What could not be used, a line for each file or run."""
    study: str | None = None
    """Which study it is; None where a source holds no studies."""
    needs_params: str = ""
    """Why parameters cannot be told from metrics, with the names; empty: they can."""


def choose_objectives(
    imported: Imported, wanted: Sequence[tuple[str, str]], before: Sequence[tuple[str, str]]
) -> tuple[tuple[str, str], ...]:
    """Decide what is ranked: what was asked for, else what the source says, else as before.

    Raises:
        UserError: Nobody said so, or no run has such a metric.
    """
    chosen = tuple(wanted) or imported.objectives or tuple(before)
    names = dict.fromkeys(name for run in imported.runs for name in run.metrics)
    if not chosen:
        there = ", ".join(one_line(name, 40) for name in list(names)[:12]) or "no metric at all"
        raise UserError(
            "the source does not say which metric counts; add ARGS='--objective NAME:minimize' or "
            f"NAME:maximize; its metrics: {there}"
        )
    for name, _ in wanted:
        if name not in names:
            there = ", ".join(one_line(other, 40) for other in list(names)[:12])
            raise UserError(
                f"--objective: no run has a metric {one_line(name, 60)!r}; "
                f"{nearest(name, names)}there are: {there or 'none'}"
            )
    return chosen


def recognise_seed(runs: Sequence[ImportedRun]) -> tuple[tuple[ImportedRun, ...], str | None]:
    """Find the parameter that numbers repeats, and call it ``seed``.

    It is one whose name says seed, has whole numbers, and differs between runs that differ in
    nothing else.

    Returns:
        The runs, and the name that it had; None if there are no repeats.
    """
    names = {
        name
        for run in runs
        for name in run.params
        if name.rpartition(".")[2].lower() in _SEEDS and type(run.params[name]) is int
    }
    if len(names) != 1:
        return tuple(runs), None
    (name,) = names
    seeds: dict[str, set[int]] = {}
    for run in runs:
        seed = run.params.get(name)
        if type(seed) is int:
            rest = {key: value for key, value in run.params.items() if key != name}
            seeds.setdefault(json.dumps(rest, sort_keys=True, default=str), set()).add(seed)
    if all(len(found) < 2 for found in seeds.values()):
        return tuple(runs), None
    return tuple(
        replace(
            run,
            params={SEED if key == name else key: value for key, value in run.params.items()},
        )
        for run in runs
    ), name


def varying_params(runs: Sequence[ImportedRun]) -> list[str]:
    """Name the parameters that are not the same in all runs, in the order of the source."""
    values: dict[str, set[str]] = {}
    counts: dict[str, int] = {}
    for run in runs:
        for name, value in run.params.items():
            values.setdefault(name, set()).add(json.dumps(value, sort_keys=True, default=str))
            counts[name] = counts.get(name, 0) + 1
    return [name for name in values if len(values[name]) > 1 or counts[name] < len(runs)]


@dataclass
class RecordRules:
    """How records of plain JSON, or rows of a table, are read."""

    params: tuple[str, ...] = ()
    """Names that were said to be parameters (``--param``); the rest are metrics."""
    unsplit: dict[str, None] = field(default_factory=dict)
    """Names in records that do not say what is what, for the error."""

    def read(self, id_: str, record: Mapping[str, Any]) -> ImportedRun:
        """Make a run of one record.

        Parameters are an object under ``params``, ``config``, ``hyperparameters``, ``parameters``
        or ``hparams``; metrics one under ``metrics``, ``summary``, ``results`` or ``scores``, else
        what is left. Names given by ``--param`` are parameters wherever they stand.
        """
        params_key = next((key for key in PARAMS if isinstance(record.get(key), dict)), None)
        metrics_key = next((key for key in METRICS if isinstance(record.get(key), dict)), None)
        params = _unwrap(record[params_key]) if params_key is not None else {}
        rest = {key: value for key, value in record.items() if key not in (params_key, metrics_key)}
        if metrics_key is not None:
            metrics = dict(record[metrics_key])
        else:
            metrics = {key: value for key, value in rest.items() if key not in _META}
        for name in (*self.params, *(() if SEED in params else (SEED,))):
            for place in (rest, metrics):
                if name in place:
                    params[name] = place[name]
                    metrics.pop(name, None)
        if params_key is None and not any(name in params for name in self.params):
            self.unsplit.update(dict.fromkeys(metrics))
        meta = {**{key: value for key, value in metrics.items() if key in _META}, **rest}
        return _make_run(id_, params, metrics, meta)


def _make_run(
    id_: str, params: Mapping[str, Any], metrics: Mapping[str, Any], meta: Mapping[str, Any]
) -> ImportedRun:
    shown = dict(_flatten(metrics))
    state, reason = read_state(_first(meta, _STATES), has_metrics=bool(shown))
    started, ended = read_time(_first(meta, _STARTS)), read_time(_first(meta, _ENDS))
    wall_s = read_seconds(_first(meta, _DURATIONS))
    inner = meta.get("_wandb")
    if wall_s is None and isinstance(inner, dict):
        wall_s = read_seconds(inner.get("runtime"))
    unused = {
        **_unused(meta, _STARTS, read_time),
        **_unused(meta, _ENDS, read_time),
        **({} if wall_s is not None else _unused(meta, _DURATIONS, read_seconds)),
    }
    if wall_s is None and started is not None and ended is not None:
        wall_s = max(0.0, (ended - started).total_seconds())
    step, host = _first(meta, ("_step", "step")), _first(meta, _HOSTS)
    return ImportedRun(
        id=id_,
        params=params,
        metrics=shown,
        state=state,
        reason=reason,
        started_at=started,
        wall_s=wall_s,
        node=host if isinstance(host, str) else None,
        last_step=step if type(step) is int else None,
        curve=_curve(meta.get("history")),
        unused=unused,
    )


def _unused(
    meta: Mapping[str, Any], keys: Sequence[str], read: Callable[[object], object]
) -> dict[str, str]:
    """Return the value that is meant, by its name, if it is there and of no use."""
    name = next((key for key in keys if meta.get(key) not in (None, "")), None)
    if name is None or read(meta[name]) is not None:
        return {}
    value = meta[name]
    is_missing = isinstance(value, float) and math.isnan(value)  # as pandas spells it
    return {} if is_missing else {name: one_line(str(value), 40)}


def tell_unused(runs: Sequence[ImportedRun]) -> list[str]:
    """Name times and durations of runs that are of no use, a line for each kind."""
    found: dict[str, list[ImportedRun]] = {}
    for run in runs:
        for name in run.unused:
            found.setdefault(name, []).append(run)
    lines = []
    for name, those in found.items():
        first, n_more = those[0], len(those) - 1
        what = "duration" if name in _DURATIONS else "time"
        more = f" (and the like in {n_more} more run{'s' * (n_more != 1)})" if n_more else ""
        value = first.unused[name]
        lines.append(f"{one_line(first.id, 60)}: {name} {value!r} is no {what}: left out{more}")
    return lines


def name_of(record: Mapping[str, Any]) -> str | None:
    """Return what a record calls itself."""
    found = _first(record, _NAMES)
    return str(found) if isinstance(found, (str, int)) and found != "" else None


def read_state(word: object, *, has_metrics: bool) -> tuple[TrialState, str]:
    """Read a state as other tools call it; without one, a run with a metric is done."""
    if word is None or word == "":
        if has_metrics:
            return TrialState.DONE, ""
        return TrialState.FAILED, "it has no metrics"
    text = one_line(str(word), 40)
    known = _WORDS.get(text.lower())
    return known if known is not None else (TrialState.UNKNOWN, f"its state was {text!r}")


def read_time(value: object) -> datetime | None:
    """Read a time: ISO text, or Unix seconds or milliseconds; None for anything else."""
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
        if isinstance(value, str) and value:
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is None:
                return moment.replace(tzinfo=UTC)
            return moment.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None


def read_seconds(value: object) -> float | None:
    """Read a duration: seconds, or text such as ``1h 2m 3s``; None for anything else."""
    if isinstance(value, str):
        match = _CLOCK.fullmatch(value.strip())
        if match is None or not any(match.groups()):
            try:
                value = float(value)
            except ValueError:
                return None
        else:
            days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
            return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) and 0 <= found < 1e12 else None


def _unwrap(config: Mapping[str, Any]) -> dict[str, Any]:
    """Take a config's own values: not W&B's, and out of ``{"value": 1, "desc": null}``."""
    found = {}
    for key, value in config.items():
        if key.startswith("_"):
            continue
        wrapped = isinstance(value, dict) and set(value) in ({"value"}, {"value", "desc"})
        found[key] = value["value"] if wrapped else value
    return found


def _flatten(metrics: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Any:
    """Yield names and values of metrics; of nested objects with dots, media left out."""
    for key, value in metrics.items():
        if not prefix and key in _META:
            continue
        if isinstance(value, dict):
            if "_type" not in value and depth < 4:
                yield from _flatten(value, f"{prefix}{key}.", depth + 1)
        elif isinstance(value, str):
            yield f"{prefix}{key}", value[:MAX_TEXT]
        elif isinstance(value, (int, float)):
            yield f"{prefix}{key}", value


def _curve(history: object) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(history, list):
        return ()
    lines = []
    for line in history:
        if isinstance(line, dict):
            step = line.get("step", line.get("_step"))
            values = {k: v for k, v in line.items() if not k.startswith("_") and k != "step"}
            if type(step) is int and values:
                lines.append({"step": step, **values})
    return tuple(lines)


def _first(record: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((record[key] for key in keys if record.get(key) is not None), None)
