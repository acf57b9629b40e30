"""What a sweep's trials ran: code, software, machines; and its spec. Runs on the login node.

Reads what submissions recorded and the attempts' own records; nothing of the machine it runs on.
What was not recorded is left out, never guessed. Called by ``usecases.report``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.adapters import software
from orchestrator.adapters.journal import read_entries
from orchestrator.adapters.regular_file import UnusableFile, read_file
from orchestrator.contract.errors import CorruptRecord
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import read_record
from orchestrator.domain.spec_secrets import hide_env
from orchestrator.domain.text_table import TextTable
from orchestrator.domain.trial_files import TrialFiles

MAX_SPEC_BYTES = 2**20
# Codes of a sweep that was submitted from an editor, again and again.
MAX_CODES = 50


def read_environment(sweep: SweepPaths, trials: Iterable[TrialFiles]) -> list[TextTable]:
    """Describe what the trials ran, as tables; those without a row are left out."""
    entries, _ = read_entries(sweep)
    codes = [entry for _, entry in entries if entry.get("kind") == "code"]
    tables = [_code_table(codes), _machine_table(trials), *_software_tables(sweep, codes)]
    return [table for table in tables if table.rows]


def read_spec_text(sweep: SweepPaths) -> str:
    """Return the spec as it was at the last submit, without its secrets; empty if there is none."""
    try:
        data, _ = read_file(sweep.spec, MAX_SPEC_BYTES)
    except (OSError, UnusableFile):
        return ""
    return hide_env(data.decode("utf-8", "replace")) or ""


def _code_table(codes: list[dict[str, Any]]) -> TextTable:
    rows = []
    for entry in codes[-MAX_CODES:]:
        is_dirty = entry.get("dirty")
        dirty = "with changes" if is_dirty else "as committed" if is_dirty is False else ""
        commit = str(entry.get("commit") or "")[:12]
        snapshot = entry.get("snapshot")
        rows.append(
            (
                str(entry.get("at") or ""),
                f"code/{snapshot}" if snapshot else "live files",
                f"{commit} {dirty}".strip() or "not recorded",
            )
        )
    notes = [f"The newest {MAX_CODES} of {len(codes)}."] if len(codes) > MAX_CODES else []
    headers = ("submitted at", "copy that trials run", "git commit")
    return TextTable("Code", headers, rows, notes=notes)


def _machine_table(trials: Iterable[TrialFiles]) -> TextTable:
    """Count attempts by the machine that they were given."""
    counts: dict[tuple[str, ...], list[int]] = {}
    nodes: dict[tuple[str, ...], set[str]] = {}
    for trial in trials:
        for attempt in trial.attempts:
            it = attempt.resources
            price = _price(it)
            key = (
                str(it.get("partition") or "-"),
                *(_number(it.get(name)) for name in ("nodes", "gpus", "cpus")),
                price,
            )
            counts.setdefault(key, [0])[0] += 1
            nodes.setdefault(key, set()).add(attempt.node or "")
    rows = [(*key, str(len(nodes[key] - {""})), f"{n:,}") for key, (n,) in sorted(counts.items())]
    headers = (
        "partition", "nodes", "GPUs a node", "CPUs", "price per hour", "machines seen", "attempts",
    )  # fmt: skip
    return TextTable("Machines", headers, rows, right=(False, *[True] * 6))


def _price(resources: Mapping[str, Any]) -> str:
    price = resources.get("price_per_hour")
    if not isinstance(price, (int, float)):
        return "-"
    return f"{price:g} {resources.get('currency') or ''}".strip()


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else "-"


def _software_tables(sweep: SweepPaths, codes: list[dict[str, Any]]) -> list[TextTable]:
    """Describe the newest recorded software: Python, and the packages beside it."""
    name = next((str(e["environment"]) for e in reversed(codes) if e.get("environment")), "")
    if not name:
        return []
    try:
        record = read_record(software.software_path(sweep.code, name))
    except (OSError, CorruptRecord):
        return []
    several = len({entry["environment"] for entry in codes if entry.get("environment")})
    notes = ["As found by the orchestrator's Python at the last submission."]
    if several > 1:
        notes.append(f"It changed between submissions: {several} are recorded in code/.")
    about = [
        (label, str(record[key]))
        for label, key in (
            ("Python", "python"), ("implementation", "implementation"), ("machine", "machine"),
        )
        if record.get(key)
    ]  # fmt: skip
    packages = record.get("packages")
    listed = sorted(packages.items()) if isinstance(packages, dict) else []
    return [
        TextTable("Software", ("what", "version"), about, notes=notes),
        TextTable("Packages", ("package", "version"), [(str(n), str(v)) for n, v in listed]),
    ]
