"""The record of what ``make confirm`` asked for: ``confirmation.json`` in the sweep's folder.

Runs on the login node. Written whole, aside and renamed, by whoever holds the sweep's lock; readers
need no lock. It stands before any trial of it has a folder: killed in between, the next submission
makes them.
"""

from __future__ import annotations

from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import dump_record, read_record
from orchestrator.domain.fresh_trials import (
    NOTHING,
    Confirmation,
    as_record,
    parse_confirmation,
)
from orchestrator.runtime import durable, failpoint


def read_confirmation(sweep: SweepPaths) -> Confirmation:
    """Read the record; nothing was asked for where there is none.

    Raises:
        CorruptRecord: It cannot be used.
    """
    try:
        record = read_record(sweep.confirmation)
    except FileNotFoundError:
        return NOTHING
    return parse_confirmation(record, sweep.confirmation)


def write_confirmation(sweep: SweepPaths, confirmation: Confirmation) -> None:
    """Replace the record; the caller holds the sweep's lock.

    Raises:
        OSError: It cannot be written; the old one is as it was.
    """
    failpoint.reach("confirmation.write.before")
    durable.replace(sweep.confirmation, dump_record(as_record(confirmation)))
    failpoint.reach("confirmation.write.after")
