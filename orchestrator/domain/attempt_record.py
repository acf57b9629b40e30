"""An attempt's record: checked, and made into an ``Attempt``.

Pure: reads no file. Called by ``adapters.trial_dir``; runs on the login node.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from orchestrator.contract.records import metric_value
from orchestrator.domain.trial_files import Attempt

# A record of ours has three; more is somebody's file, and would only fill the cache.
_MAX_NUMBERS = 16


def make_attempt(
    number: int, record: Mapping[str, Any], heartbeat_at: float | None, problems: list[str]
) -> Attempt:
    """Make an attempt of its record; what of that cannot be used is left out and named.

    Args:
        number: The attempt's.
        record: Its claim or its end.
        heartbeat_at: Last heartbeat as a Unix time; None once it has ended.
        problems: Takes a line if something cannot be used.
    """
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

    def moment(key: str) -> datetime | None:
        spelled = text(key)
        found = None if spelled is None else _parse_time(spelled)
        if spelled is not None and found is None:
            wrong.append(key)
        return found

    resources = record.get("resources")
    if not isinstance(resources, dict):
        if resources is not None:
            wrong.append("resources")
        resources = {}
    attempt = Attempt(
        number=number,
        node=text("node"),
        started_at=moment("started_at"),
        ended_at=moment("ended_at"),
        wall_s=seconds("wall_s"),
        outcome=text("outcome"),
        exit_code=whole("exit_code"),
        cause=text("cause"),
        requeue=text("requeue"),
        token=text("token"),
        array_task_id=whole("array_task_id"),
        job_id=text("job_id"),
        resources=resources,
        heartbeat_at=heartbeat_at,
        is_estimate=record.get("estimated") is True,
        kind=text("kind"),
        fingerprint=text("fingerprint"),
        signal=text("signal"),
        progress_before=whole_numbers("progress_before"),
        progress=whole_numbers("progress"),
        claimed_at=seconds("claimed_unix"),
        resumes_from=_checkpoint_time(record.get("resumes_from"), wrong),
        start_up_s=seconds("start_up_s"),
        reported_at=seconds("reported_unix"),
    )
    if wrong:
        problems.append(f"attempts/{number}.json: cannot use {', '.join(dict.fromkeys(wrong))}")
    return attempt


def _checkpoint_time(found: object, wrong: list[str]) -> float | None:
    if found is None:
        return None
    written = metric_value(found.get("mtime")) if isinstance(found, dict) else None
    if written is not None and 0 <= written < 1e12:
        return written
    wrong.append("resumes_from")
    return None


def _parse_time(text: str) -> datetime | None:
    """Read an ISO time with its offset, as UTC."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is UTC:
            return moment
        return None if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
