"""Checking templates, profiles and example sweeps before anybody submits with them. Login node.

Every template is rendered for every profile and every sweep, each kind of script, and what comes
out is read as sbatch and bash would; the templates' own text is looked at too, so that a branch
which no example takes is not overlooked. What a mistake in a rendered script is said of is the line
of the template that made it.

Nothing is submitted. What a cluster says of it is ``usecases.lint_cluster``; what an edit changes,
``usecases.lint_changes``.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from jinja2 import nodes

from orchestrator.adapters.profiles import PROFILES, inspect_profile_file
from orchestrator.adapters.rendering import quote_sh
from orchestrator.adapters.spec_file import read_spec
from orchestrator.adapters.template_check import (
    Schema,
    allowed_options,
    check_template,
    parts_of_others,
    schema_of,
)
from orchestrator.adapters.template_trace import Place, Traced, TracingRenderer
from orchestrator.contract.errors import SpecError, TemplateError, UserError
from orchestrator.domain.frozen_code import CODE_MODES
from orchestrator.domain.lint import PROBLEM, WARNING, LintFinding, finding_of, merge_findings
from orchestrator.domain.lint_hostile import FOLDER, HOSTILE_SPEC, find_leaks
from orchestrator.domain.partition import JobShape, PartitionProfile, ShapeError
from orchestrator.domain.partition_draft import TO_FILL
from orchestrator.domain.placement import find_places
from orchestrator.domain.sbatch_script import ScriptMistake, find_mistakes
from orchestrator.domain.spec import SweepSpec
from orchestrator.domain.spec_loader import load_spec
from orchestrator.domain.spec_tree import nearest
from orchestrator.domain.trials import Trial, expand
from orchestrator.usecases.check_trials import check_trials
from orchestrator.usecases.lint_render import (
    DEFAULTS_SPEC,
    Combination,
    LintSweep,
    choose_trials,
    combinations,
    render,
)
from orchestrator.usecases.lint_syntax import SyntaxJudge

_NAMED = re.compile(r"#SBATCH\s+--([a-z][a-z0-9-]*)")


@dataclass(frozen=True)
class LintOptions:
    """What to check."""

    templates: str
    """The templates folder."""
    sweeps: tuple[str, ...] = ()
    """Specs; none: ``sweeps/*.yaml``."""
    version: tuple[int, ...] | None = None
    """Slurm's release; None: any."""
    options: tuple[str, ...] = ()
    """Options that the site's plugins add to sbatch."""


@dataclass(frozen=True)
class Script:
    """A rendered script that a submission of an example sweep would make."""

    combination: Combination
    """What it was made of."""
    kind: str
    """``trial``, ``array`` or ``supervisor``."""
    shape: JobShape
    """What its job asks for."""
    text: str
    """The script."""


@dataclass
class LintReport:
    """What was looked at, and found."""

    templates: list[str] = field(default_factory=list)
    """Templates that were rendered."""
    profiles: list[PartitionProfile] = field(default_factory=list)
    """Profiles without a mistake of their own."""
    sweeps: list[LintSweep] = field(default_factory=list)
    """Sweeps that could be read."""
    n_scripts: int = 0
    """Scripts rendered."""
    scripts: list[Script] = field(default_factory=list)
    """Those of them that a submission of an example sweep would make."""
    findings: list[LintFinding] = field(default_factory=list)
    """By place; each once."""

    @property
    def has_problems(self) -> bool:
        """Whether anything would fail."""
        return any(finding.severity == PROBLEM for finding in self.findings)


def lint(options: LintOptions) -> LintReport:
    """Check a templates folder.

    Raises:
        UserError: There is nothing that could be checked: no such folder, no profiles' file.
    """
    return _Linter(options).run()


class _Linter:
    """Collects the findings of one folder."""

    def __init__(self, options: LintOptions):
        self.options = options
        self.renderer = TracingRenderer(options.templates)
        self.report = LintReport()
        self.syntax = SyntaxJudge()
        self.found: list[LintFinding] = []
        self.more = list(options.options)
        self.mistaken: set[str] = set()

    def run(self) -> LintReport:
        """Check everything."""
        report = self.report
        profiles, mistakes = inspect_profile_file(self.options.templates)
        self.found += [finding_of(mistake, "profile") for mistake in mistakes]
        keys = [m.key for m in mistakes if isinstance(m, SpecError) and m.key]
        self.mistaken = {key.partition(".")[0] for key in keys}
        report.profiles = list(profiles.values())
        self._check_filled()
        standing = self._read_templates()
        self._read_sweeps()
        usable = [profile for profile in report.profiles if self._has_template(profile)]
        ready = [profile for profile in usable if profile.template in standing]
        spec = load_spec(DEFAULTS_SPEC, file="lint")
        plain = LintSweep("a trial of its defaults", spec, choose_trials(spec), None)
        for wanted in combinations(standing, ready, [*report.sweeps, plain]):
            # A template on its own is looked at too, which no profile may use as yet.
            self.found += render(self.renderer, wanted, os.path.abspath("results"), self._keep)
        self._render_hostile(standing, ready)
        self._check_sources(standing)
        report.templates = standing
        report.n_scripts = len(self.renderer.rendered)
        report.findings = merge_findings(self.found)
        return report

    def _check_filled(self) -> None:
        path = os.path.join(self.options.templates, PROFILES)
        with open(path, encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, start=1):
                if TO_FILL in line:
                    words = f"{line.strip().partition(':')[0]}: still says {TO_FILL!r}"
                    self.found.append(LintFinding(path, number, "to-fill", words, WARNING))

    def _read_templates(self) -> list[str]:
        """Return the templates that can stand alone and be rendered."""
        well: list[str] = []
        for name in self.renderer.names():
            try:
                self.renderer.parse(name)
                for parent in self.renderer.find_parents(name):
                    self.renderer.parse(parent)
                for block in self.renderer.lost_blocks(name):
                    path = os.path.join(self.options.templates, name)
                    found = LintFinding(path, block.line, "block", block.message)
                    self.found.append(found)
                self.more += allowed_options(self.renderer.source(name))
                well.append(name)
            except TemplateError as error:
                self.found.append(finding_of(error, "template"))
        parts = parts_of_others(self.renderer, well)
        return [name for name in well if name not in parts and not name.startswith("_")]

    def _read_sweeps(self) -> None:
        for path in self.options.sweeps or sorted(glob.glob("sweeps/*.yaml")):
            try:
                spec = read_spec(path, [])
                trials = choose_trials(spec)
                homes = self._find_homes(spec, trials)
                self.report.sweeps.append(LintSweep(path, spec, trials, homes))
                self._check_trials(spec, homes)
            except UserError as error:
                self.found.append(finding_of(error, "sweep"))

    def _check_trials(self, spec: SweepSpec, homes: tuple[str, ...]) -> None:
        """Ask the sweep's own check, as plan and submit do.

        Raises:
            UserError: It names a check that is not there.
        """
        profiles = {p.name: p for p in self.report.profiles if p.name in homes}
        if not profiles:
            return  # what is wrong with it was said
        trials = expand(spec).trials
        try:
            wanted = {trial.resources for trial in trials}
            places = {each: find_places(each, profiles) for each in wanted}
        except ShapeError:
            return  # likewise
        answer = check_trials(spec, ((t, places[t.resources]) for t in trials), "profile")
        file, line = spec.locate("parameters")
        for severity, said in ((PROBLEM, answer.problems), (WARNING, answer.warnings)):
            self.found += [LintFinding(file, line, "check", each, severity) for each in said]

    def _find_homes(self, spec: SweepSpec, trials: Sequence[Trial]) -> tuple[str, ...]:
        """Return the profiles that trials go to; what is said of a profile is not said again.

        Raises:
            UserError: There is no such profile.
        """
        known = {profile.name: profile for profile in self.report.profiles}
        names = spec.placement.order if spec.placement is not None else (spec.partition,)
        if spec.resources.partition is not None or spec.partition is None:
            names = tuple(known) if spec.resources.partition is not None else tuple(known)[:1]
        for name in names:
            if name is not None and known and name not in known and name not in self.mistaken:
                hint = nearest(name, known)
                there = os.path.join(self.options.templates, PROFILES)
                raise spec.error(
                    "partition",
                    f"unknown partition {name!r}; {hint}{there} has: {', '.join(known)}",
                )
        chosen = {name: known[name] for name in names if name in known}
        homes: dict[str, None] = {}
        for trial in trials if chosen else ():
            try:
                found = find_places(trial.resources, chosen)
                homes.update(dict.fromkeys(place.name for place in found))
            except ShapeError as error:
                if not self.mistaken:
                    self.found.append(finding_of(spec.error(error.key, error.message), "limit"))
        return tuple(homes)

    def _has_template(self, profile: PartitionProfile) -> bool:
        names = self.renderer.names()
        if profile.template in names:
            return True
        file, line = profile.locate("template")
        hint = nearest(profile.template, names)
        words = f"{profile.name}.template: no file {profile.template}; {hint}there are: "
        self.found.append(LintFinding(file, line, "template", words + ", ".join(names)))
        return False

    # --- rendered scripts ---

    def _keep(self, wanted: Combination, kind: str, shape: JobShape, text: str) -> None:
        if wanted.is_real:
            self.report.scripts.append(Script(wanted, kind, shape, text))
        traced = self.renderer.rendered[-1]
        seen = wanted.words(kind)
        for mistake in find_mistakes(text, kind, self.options.version, self.more):
            place = self._blame(mistake, traced, wanted, shape)
            found = LintFinding(
                place.file, place.line, mistake.check, mistake.message, PROBLEM, (seen,)
            )
            self.found.append(found)
        self._check_syntax(traced, wanted, seen)

    def _blame(
        self, mistake: ScriptMistake, traced: Traced, wanted: Combination, shape: JobShape
    ) -> Place:
        """Return the line to edit: of the template, or of whom an option comes from."""
        if mistake.line is None:
            return self._overriding_block(traced.template, mistake)
        line = traced.text.split("\n")[mistake.line - 1]
        named = _NAMED.match(line)
        if mistake.check == "option" and named and named[1] in dict(shape.sbatch):
            profile, spec = wanted.profile, wanted.sweep.spec
            if named[1] in dict(profile.sbatch):
                return Place(*profile.locate(f"sbatch.{named[1]}"))
            return Place(*spec.locate(f"resources.sbatch.{named[1]}"))
        if traced.places:
            return traced.places[mistake.line - 1]
        return Place(os.path.join(self.options.templates, traced.template), None)

    def _overriding_block(self, template: str, mistake: ScriptMistake) -> Place:
        """Return the block that left something out: one that replaces its parent's."""
        name = "header" if "#SBATCH" in mistake.message else "launch"
        for each in [template, *self.renderer.find_parents(template)]:
            for block in self.renderer.parse(each).find_all(nodes.Block):
                calls = [call.node for call in block.find_all(nodes.Call)]
                if block.name == name and not any(
                    isinstance(call, nodes.Name) and call.name == "super" for call in calls
                ):
                    return Place(os.path.join(self.options.templates, each), block.lineno)
        return Place(os.path.join(self.options.templates, template), None)

    def _check_syntax(self, traced: Traced, wanted: Combination, seen: str) -> None:
        path = os.path.join(self.options.templates, traced.template)
        complaint = self.syntax.judge(traced, path)
        if complaint is None:
            return
        place, words = complaint
        # Shell lines of a profile or spec are theirs to mend, not the template's that shows them.
        for owner in (wanted.profile, wanted.sweep.spec):
            if (said := self.syntax.judge_lines(owner.environment)) is not None:
                place, words = Place(*owner.locate("environment")), f"environment: {said}"
        found = LintFinding(place.file, place.line, "bash", f"bash: {words}", PROBLEM, (seen,))
        self.found.append(found)

    def _render_hostile(
        self, templates: Sequence[str], profiles: Sequence[PartitionProfile]
    ) -> None:
        specs = [load_spec(HOSTILE_SPEC, file="lint", overrides=[f"code={m}"]) for m in CODE_MODES]
        sweeps = [LintSweep("hostile values", s, choose_trials(s), ()) for s in specs]

        def look(wanted: Combination, kind: str, shape: JobShape, text: str) -> None:
            del shape
            traced = self.renderer.rendered[-1]
            for number in find_leaks(text, quote_sh):
                place = (
                    traced.places[number - 1]
                    if traced.places
                    else Place(os.path.join(self.options.templates, traced.template), None)
                )
                words = "a value goes into the script unquoted; write {{ ... | sh }}"
                seen = (wanted.words(kind),)
                self.found.append(
                    LintFinding(place.file, place.line, "unquoted", words, PROBLEM, seen)
                )

        for wanted in combinations(templates, profiles, sweeps):
            self.found += render(self.renderer, wanted, FOLDER, look)

    # --- the templates' own text ---

    def _check_sources(self, standing: Sequence[str]) -> None:
        schema: Schema = schema_of(self.renderer.contexts)
        if not schema.attributes:
            return  # there was nothing to render, and it said why
        for name in self.renderer.names():
            if name not in standing:
                continue
            for mistake in check_template(
                self.renderer, name, schema, self.options.version, self.more
            ):
                self.found.append(
                    LintFinding(
                        mistake.place.file, mistake.place.line, mistake.check, mistake.message
                    )
                )
