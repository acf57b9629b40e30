"""Findings of ``orchestrator lint``: each with its place, and each said once. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from orchestrator.contract.errors import OrchestratorError, SpecError
from orchestrator.domain.plain_text import one_line

PROBLEM, WARNING = "problem", "warning"
_PLACE = re.compile(r"([^\s:][^:\n]*?):(\d+): (.*)", re.DOTALL)
_FILE = re.compile(r"([^\s:][^:\n]*?\.(?:j2|ya?ml)): (.*)", re.DOTALL)


@dataclass(frozen=True)
class LintFinding:
    """One thing that is wrong, or deserves a look."""

    file: str
    """The file to open; empty if it is about no file."""
    line: int | None
    """Its 1-based line; None: the file as a whole."""
    check: str
    """A stable name for programs, such as ``undefined``."""
    message: str
    """What was found, and what to do, in one line."""
    severity: str = PROBLEM
    """``problem``: a job would fail or be refused; ``warning``: it deserves a look."""
    seen: tuple[str, ...] = ()
    """In which combinations, such as ``profile spot, sweeps/demo.yaml, trial``."""

    @property
    def place(self) -> str:
        """``file:line``, as far as it is known."""
        return f"{self.file}:{self.line}" if self.line is not None else self.file


def finding_of(error: OrchestratorError, check: str, seen: str = "") -> LintFinding:
    """Turn an error, which names its place, into a finding."""
    seen_in = (seen,) if seen else ()
    if isinstance(error, SpecError) and error.file:
        text = f"{error.key}: {error.message}" if error.key else error.message
        return LintFinding(error.file, error.line, check, _line(text), PROBLEM, seen_in)
    text = str(error)
    if match := _PLACE.fullmatch(text):
        return LintFinding(match[1], int(match[2]), check, _line(match[3]), PROBLEM, seen_in)
    if match := _FILE.fullmatch(text):
        return LintFinding(match[1], None, check, _line(match[2]), PROBLEM, seen_in)
    return LintFinding("", None, check, _line(text), PROBLEM, seen_in)


def merge_findings(findings: Iterable[LintFinding]) -> list[LintFinding]:
    """Say each thing once, with all combinations in which it was seen, ordered by place.

    What rendering found at a line at which the template's own text shows the same mistake is left
    out.
    """
    merged: dict[tuple[str, int | None, str, str], LintFinding] = {}
    for finding in findings:
        key = (finding.file, finding.line, finding.check, finding.message)
        known = merged.get(key)
        if known is None:
            merged[key] = finding
        else:
            seen = dict.fromkeys((*known.seen, *finding.seen))
            merged[key] = replace(known, seen=tuple(seen))
    static = {(f.file, f.line, f.check) for f in merged.values() if not f.seen and f.line}
    kept = []
    for f in merged.values():
        same = {(f.file, f.line, f.check)}
        same |= {(f.file, f.line, "undefined")} if f.check == "render" else set()
        if not f.seen or not same & static:
            kept.append(f)
    return sorted(kept, key=lambda f: (f.severity, f.file, f.line or 0, f.check, f.message))


def _line(text: str) -> str:
    return one_line(text, 600)
