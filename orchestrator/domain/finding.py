"""One thing that ``doctor`` has to say. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

OK, NOTE, WARNING, PROBLEM = "ok", "note", "warning", "problem"
SEVERITIES = (OK, NOTE, WARNING, PROBLEM)


@dataclass(frozen=True)
class Finding:
    """One thing about the site, a partition or this machine, in words for its users."""

    severity: str
    """``ok``; ``note``: taken care of; ``warning``: costs time or work; ``problem``: will fail."""
    topic: str
    """A stable name for programs, such as ``gang``."""
    what_is: str
    """What was found."""
    what_we_do: str = ""
    """What the orchestrator does about it by itself; empty if there is nothing to do."""
    remedy: str = ""
    """What a user or sysadmin can do; empty if nothing is needed."""
    profile: str = ""
    """The partition profile it is about; empty for the site and this machine."""


def count_severities(findings: Iterable[Finding]) -> dict[str, int]:
    """Count findings by severity, every severity present."""
    counts = dict.fromkeys(SEVERITIES, 0)
    for finding in findings:
        counts[finding.severity] += 1
    return counts
