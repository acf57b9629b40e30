"""An attempt's record: checked, and made into an ``Attempt``.

Pure: reads no file. In between stands a list of JSON values in the order of ``Attempt``'s fields,
which is what the ingest cache keeps. Called by ``adapters.trial_dir`` and
``adapters.ingest_cache``; runs on the login node.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from orchestrator.contract.records import metric_value
from orchestrator.domain.trial_files import Attempt

# A record of ours has three; more is somebody's file, and would only fill the cache.
_MAX_NUMBERS = 16
# Place of the resources in the list, for the cache, which keeps what many share once.
RESOURCES_FIELD = Attempt._fields.index("resources")
_N_FIELDS = len(Attempt._fields)


def check_attempt(
    number: int, record: Mapping[str, Any], heartbeat_at: float | None, problems: list[str]
) -> list[Any]:
    """Check an attempt's record and put it in the order of ``Attempt``'s fields, as JSON values."""
    wrong: list[str] = []

    def text(key: str) -> str | None:
        value = record.get(key)
        if value is None or type(value) is str:
            return value
        if type(value) is int:
            return str(value)
        wrong.append(key)
        return None

    def whole(key: str) -> int | None:
        value = record.get(key)
        if value is None or (type(value) is int and abs(value) < 2**53):
            return value
        wrong.append(key)
        return None

    def whole_numbers(key: str) -> list[int] | None:
        value = record.get(key)
        if value is None or (
            type(value) is list
            and len(value) <= _MAX_NUMBERS
            and all(type(item) is int and abs(item) < 2**63 for item in value)
        ):
            return value
        wrong.append(key)
        return None

    def seconds(key: str) -> float | None:
        value = record.get(key)
        if value is None or (type(value) is float and 0 <= value < 1e12):
            return value
        number = metric_value(value)
        if number is not None and 0 <= number < 1e12:
            return number
        wrong.append(key)
        return None

    wall_s = seconds("wall_s")
    times = []
    for key in ("started_at", "ended_at"):
        time_text = text(key)
        if time_text is not None and _parse_time(time_text) is None:
            wrong.append(key)
            time_text = None
        times.append(time_text)
    resources = record.get("resources")
    if not isinstance(resources, dict):
        if resources is not None:
            wrong.append("resources")
        resources = {}
    fields = [
        number,
        text("node"),
        *times,
        wall_s,
        text("outcome"),
        whole("exit_code"),
        text("cause"),
        text("requeue"),
        text("token"),
        whole("array_task_id"),
        text("job_id"),
        resources,
        heartbeat_at,
        record.get("estimated") is True,
        text("kind"),
        text("fingerprint"),
        text("signal"),
        whole_numbers("progress_before"),
        whole_numbers("progress"),
        seconds("claimed_unix"),
        _checkpoint_time(record.get("resumes_from"), wrong),
        seconds("start_up_s"),
        seconds("reported_unix"),
    ]
    if wrong:
        problems.append(f"attempts/{number}.json: cannot use {', '.join(dict.fromkeys(wrong))}")
    return fields


def _checkpoint_time(found: object, wrong: list[str]) -> float | None:
    if found is None:
        return None
    written = metric_value(found.get("mtime")) if isinstance(found, dict) else None
    if written is not None and 0 <= written < 1e12:
        return written
    wrong.append("resumes_from")
    return None


def make_attempt(fields: list[Any]) -> Attempt:
    """Make an attempt from the list that ``check_attempt`` returns."""
    started_at, ended_at = fields[2], fields[3]
    fields = fields.copy()
    fields[2] = _parse_time(started_at) if started_at is not None else None
    fields[3] = _parse_time(ended_at) if ended_at is not None else None
    # Those of an older cache may be fewer; _make takes a third of the time.
    return Attempt._make(fields) if len(fields) == _N_FIELDS else Attempt(*fields)


def _parse_time(text: str) -> datetime | None:
    """Read an ISO time with its offset, as UTC."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is UTC:
            return moment
        return None if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
