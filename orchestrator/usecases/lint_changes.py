"""What an edit of the templates folder changes: the same sweeps rendered before and after it.

Runs on the login node, for ``lint``. Every example sweep is rendered for every profile by the
profile's own template, from both folders; scripts that change in the same way are told together.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.adapters.old_templates import templates_at
from orchestrator.adapters.profiles import inspect_profile_file
from orchestrator.adapters.rendering import Renderer
from orchestrator.contract.errors import UserError
from orchestrator.domain.lint import LintFinding
from orchestrator.domain.partition import JobShape
from orchestrator.usecases.lint_render import Combination, LintSweep, combinations, render

NEW, GONE = "+ a new script", "- no longer there"
# Profile, sweep, kind of script, and which of them where trials have several shapes.
_Key = tuple[str, str, str, int]


@dataclass(frozen=True)
class Change:
    """One way in which scripts change."""

    diff: tuple[str, ...]
    """Lines that go, with ``-`` before them, and lines that come, with ``+``; or ``NEW, GONE``."""
    scripts: tuple[str, ...]
    """Which scripts, such as ``sweeps/demo.yaml on cpu: trial``."""


def find_changes(templates: str, against: str, sweeps: Sequence[LintSweep]) -> list[Change]:
    """Compare the scripts of all sweeps with those of older templates.

    Raises:
        UserError: There are no older templates.
    """
    with templates_at(templates, against) as old:
        before = _render_all(old, sweeps)
    after = _render_all(templates, sweeps)
    grouped: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for key in sorted({*before, *after}):
        if key not in before or key not in after:
            diff: tuple[str, ...] = (NEW if key in after else GONE,)
        else:
            diff = _diff(before[key], after[key])
        if diff:
            profile, sweep, kind, _ = key
            kinds = grouped.setdefault(diff, {}).setdefault(f"{sweep} on {profile}", [])
            if kind not in kinds:
                kinds.append(kind)
    return [
        Change(diff, tuple(f"{where}: {', '.join(kinds)}" for where, kinds in found.items()))
        for diff, found in grouped.items()
    ]


def _render_all(folder: str, sweeps: Sequence[LintSweep]) -> dict[_Key, str]:
    profiles, _ = inspect_profile_file(folder)
    renderer = Renderer(folder)
    texts: dict[_Key, str] = {}

    def keep(wanted: Combination, kind: str, shape: JobShape, text: str) -> None:
        del shape
        index = 0
        while (key := (wanted.profile.name, wanted.sweep.file, kind, index)) in texts:
            index += 1
        texts[key] = text

    for wanted in combinations([], profiles.values(), sweeps):  # each by its own template
        found: list[LintFinding] = render(renderer, wanted, os.path.abspath("results"), keep)
        for number, finding in enumerate(found):
            if finding.check == "render":
                message = finding.message.replace(folder, "templates")
                key = (wanted.profile.name, wanted.sweep.file, "does not render", number)
                texts[key] = f"does not render: {message}"
    return texts


def _diff(before: str, after: str) -> tuple[str, ...]:
    if before == after:
        return ()
    lines = difflib.unified_diff(before.split("\n"), after.split("\n"), n=0, lineterm="")
    return tuple(line for line in list(lines)[2:] if not line.startswith("@@ "))


def check_against(templates: str, against: str | None) -> str | None:
    """Return what to compare with: the last commit, where nothing was named and there is one.

    Raises:
        UserError: What was named is not there.
    """
    if against is not None:
        return against
    try:
        with templates_at(templates, "HEAD") as old:
            return "HEAD" if os.listdir(old) else None
    except UserError:
        return None
