"""What a report says, as values; ``adapters.report_html`` makes a page of them. Pure.

Texts here are as their writers left them: programs, people, Slurm. Whoever renders them escapes
them and takes out what does not print.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.domain.failure_groups import FailureGroup
from orchestrator.domain.figure import Figure
from orchestrator.domain.standing import Standing
from orchestrator.domain.text_table import TextTable


@dataclass(frozen=True)
class ShownValue:
    """A named value, short for reading and with all its digits for copying."""

    name: str
    """Of a parameter or metric, or a label."""
    text: str
    """For reading."""
    full: str
    """With all digits."""


@dataclass(frozen=True)
class Contender:
    """A configuration that came first."""

    trial: str
    """Its first trial."""
    repeats: Sequence[str]
    """All its trials, that one included."""
    scores: Sequence[ShownValue]
    """The objective first: over repeats its mean, interval and count."""
    parameters: Sequence[ShownValue]
    """Those that vary over the sweep."""
    metrics: Sequence[ShownValue]
    """Other metrics of its first trial."""
    command: str
    """Runs that trial again and compares the numbers; empty where nothing here can run it."""
    script: str
    """The trial's own script, relative to the sweep's folder; empty likewise."""
    fresh: Sequence[ShownValue] = ()
    """What it came to on fresh seeds; empty if it did not run there."""


@dataclass(frozen=True)
class ReportDocument:
    """All that a report says."""

    name: str
    """The sweep's name."""
    objective: str
    """What was ranked and how, in words."""
    standing: Standing
    """How sure the first place is."""
    facts: Sequence[str]
    """Sentences below the title: how many trials, what they used."""
    at: str
    """When it was read, in words, UTC."""
    version: str
    """Of the orchestrator that made it."""
    table: Mapping[str, Any]
    """Every trial, as columns; see ``adapters.report_table``."""
    best: Contender | None = None
    """The first place; None if nothing is ranked."""
    fresh: TextTable | None = None
    """What configurations came to on fresh seeds; None without such runs."""
    tied: TextTable | None = None
    """Configurations that cannot be told from the first; None without any."""
    constants: Sequence[ShownValue] = ()
    """Parameters that are the same in all trials."""
    costs: Sequence[TextTable] = ()
    """What it took."""
    figures: Sequence[Figure] = ()
    """What to draw."""
    failures: Sequence[FailureGroup] = ()
    """What went wrong, by cause."""
    environment: Sequence[TextTable] = ()
    """Code, software and machines."""
    spec: str = ""
    """The spec as it was at the last submit, without the values of its ``env``."""
    methods: Sequence[str] = ()
    """How the numbers were computed, a paragraph each."""
    problems: Sequence[str] = field(default=())
    """What could not be read or asked."""
