"""The budget that ``make release`` allowed: it stays until the spec's own ``budget:`` changes.

Runs on the login node. A release is typed with overrides (``budget.cost=3``), which the next plain
``make submit`` does not repeat: what a person allowed would be taken back without a word. So the
release notes its words in ``gate/released.json``, beside the budget that the spec had then, and a
submission adds them as long as the spec says the same. Whoever edits ``budget:``, or types an
override of it, has decided anew; a lower limit is warned of.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.adapters.spec_file import read_spec
from orchestrator.contract.errors import CorruptRecord, UserError
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import dump_record, read_record
from orchestrator.domain.spec import SweepSpec
from orchestrator.runtime import durable, gate
from orchestrator.runtime.claim import make_folder


def names_budget(override: str) -> bool:
    """Tell whether an override ``KEY=VALUE`` is about the budget."""
    return override.partition("=")[0].partition(".")[0].strip() == "budget"


def own_budget(file: str, overrides: Sequence[str]) -> dict[str, Any] | None:
    """Read the budget that a spec has without overrides of it; None without one that works."""
    try:
        budget = read_spec(file, [word for word in overrides if not names_budget(word)]).budget
    except UserError:
        return None
    return None if budget is None else dataclasses.asdict(budget)


def note(sweep: SweepPaths, spec: SweepSpec, own: Mapping[str, Any] | None) -> None:
    """Write down what a release allowed, and what the spec said of its own.

    Raises:
        OSError: It cannot be written.
    """
    paths = gate.gate_of(sweep.root)
    make_folder(paths.root)
    allowed = None if spec.budget is None else dataclasses.asdict(spec.budget)
    words = [word for word in spec.overrides if names_budget(word)]
    record = {"words": words, "own": own, "allowed": allowed}
    durable.replace(paths.released, dump_record(record))


def still_allowed(sweep: SweepPaths, file: str, overrides: Sequence[str]) -> list[str]:
    """Return the overrides of the last release that hold for a submission that was typed now.

    Args:
        sweep: The sweep; it may not exist yet.
        file: Its spec.
        overrides: What was typed.
    """
    record = _read(sweep)
    if record is None or any(map(names_budget, overrides)):
        return []
    return record["words"] if record["own"] == own_budget(file, overrides) else []


def drop_outdated(sweep: SweepPaths, file: str, overrides: Sequence[str]) -> list[str]:
    """Return earlier overrides without what a release allowed before the spec's budget changed."""
    record = _read(sweep)
    if record is None or record["own"] == own_budget(file, overrides):
        return list(overrides)
    return [word for word in overrides if word not in record["words"]]


def settle(sweep: SweepPaths, spec: SweepSpec) -> list[str]:
    """Forget what a release allowed once a submission has decided anew; warn if that is less.

    Raises:
        OSError: The note cannot be removed.
    """
    record = _read(sweep)
    if record is None or set(record["words"]) <= set(spec.overrides):
        return []
    os.unlink(gate.gate_of(sweep.root).released)
    allowed, now = record["allowed"], spec.budget
    if now is None:
        return []
    return [
        f"budget.{key} is {limit:g} now, and make release had allowed {before:g}; if that is to "
        f"stay, type make release ARGS='budget.{key}={before:g}', or write it into {spec.file}"
        for key, limit in (("cost", now.cost), ("gpu_hours", now.gpu_hours))
        if limit is not None
        and isinstance(before := allowed.get(key), (int, float))
        and limit < before
    ]


def _read(sweep: SweepPaths) -> dict[str, Any] | None:
    """Read the note; None without one, or if it is nobody's."""
    try:
        record = read_record(gate.gate_of(sweep.root).released)
    except (OSError, CorruptRecord):
        return None
    words, allowed = record.get("words"), record.get("allowed")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return None
    allowed = allowed if isinstance(allowed, dict) else {}
    return {"words": words, "own": record.get("own"), "allowed": allowed}
