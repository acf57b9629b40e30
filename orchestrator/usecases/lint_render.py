"""Rendering every template for every profile and every sweep, for ``lint``. Login node.

Nothing is written but the text of scripts, nothing is submitted, and no program is looked for.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from orchestrator.adapters.rendering import Renderer
from orchestrator.contract.errors import TemplateError, UserError
from orchestrator.contract.paths import SweepPaths
from orchestrator.domain.frozen_code import N_DIGITS, FrozenCode
from orchestrator.domain.lint import LintFinding, finding_of
from orchestrator.domain.partition import JobShape, PartitionProfile, ShapeError, shape_of
from orchestrator.domain.resources import TrialResources
from orchestrator.domain.spec import SweepSpec
from orchestrator.domain.trials import Trial, expand
from orchestrator.usecases.scripts import PlannedTrial, Scripts, workdir

# Trials of a sweep that ask for different things are rendered each, up to so many.
MAX_SHAPES = 20
TOKEN = "lint-0123456789"
# A sweep that asks for nothing, so that each profile's own defaults are looked at.
DEFAULTS_SPEC = """
name: lint
program: bash
metric: {name: loss, goal: minimize}
method: grid
parameters: {x: [1]}
"""


@dataclass(frozen=True)
class LintSweep:
    """One example sweep."""

    file: str
    """Its file as the user typed it."""
    spec: SweepSpec
    """What stands there."""
    trials: tuple[Trial, ...]
    """Its first trial of each shape."""
    homes: tuple[str, ...] | None
    """The profiles that its trials go to; None: each, see ``DEFAULTS_SPEC``."""

    def locate(self, profile: PartitionProfile) -> tuple[str, int | None]:
        """Return the place of what a trial of it asks for on a profile."""
        if self.homes is None:
            return profile.locate("defaults")
        return self.spec.locate("resources")


@dataclass(frozen=True)
class Combination:
    """What is rendered."""

    template: str
    """File in the templates folder."""
    profile: PartitionProfile
    """With ``requeue`` decided."""
    sweep: LintSweep
    """The sweep."""

    @property
    def is_real(self) -> bool:
        """Whether a submission of that sweep would render just this."""
        homes = self.sweep.homes
        return (homes is None or self.profile.name in homes) and self.is_own_template

    @property
    def is_own_template(self) -> bool:
        """Whether the profile uses this template."""
        return self.profile.template == self.template

    def words(self, kind: str) -> str:
        """Say it in words."""
        return f"{self.template}, profile {self.profile.name}, {self.sweep.file}, {kind}"


def choose_trials(spec: SweepSpec) -> tuple[Trial, ...]:
    """Return a sweep's first trial of each shape.

    Raises:
        UserError: A mistake that only shows when its trials are made.
    """
    first: dict[TrialResources, Trial] = {}
    for trial in expand(spec).trials:
        first.setdefault(trial.resources, trial)
        if len(first) == MAX_SHAPES:
            break
    return tuple(first.values())


def combinations(
    templates: Sequence[str], profiles: Iterable[PartitionProfile], sweeps: Sequence[LintSweep]
) -> Iterator[Combination]:
    """Yield every template for every profile and sweep."""
    for profile in profiles:
        decided = dataclasses.replace(profile, requeue=profile.requeue is not False)
        for template in dict.fromkeys((profile.template, *templates)):
            for sweep in sweeps:
                yield Combination(template, decided, sweep)


def render(
    renderer: Renderer,
    wanted: Combination,
    root: str,
    keep: Callable[[Combination, str, JobShape, str], None],
) -> list[LintFinding]:
    """Render the scripts of one combination, all kinds, and return what hinders.

    Args:
        renderer: Where the templates are.
        wanted: What to render.
        root: The folder that the sweep is said to lie in.
        keep: Called with the kind of each script (``trial, array, supervisor``), its shape, and
            its text.
    """
    profile = dataclasses.replace(wanted.profile, template=wanted.template)
    sweep = SweepPaths(os.path.join(root, wanted.sweep.spec.name))
    scripts = Scripts(renderer, sweep, wanted.sweep.spec, profile)
    scripts.code = _pretend_code(wanted.sweep.spec)
    found: list[LintFinding] = []

    def make(kind: str, shape: JobShape, function: Callable[[], str]) -> None:
        try:
            keep(wanted, kind, shape, function())
        except TemplateError as error:
            found.append(finding_of(error, "render", wanted.words(kind)))
        except UserError as error:
            found.append(finding_of(error, "sweep"))

    shapes = [(trial, _shape(trial, wanted.profile)) for trial in wanted.sweep.trials]
    for number, (trial, shape) in enumerate(shapes):
        planned = PlannedTrial(f"{number:05d}-{trial.id}", trial, shape)
        make("trial", shape, lambda planned=planned: scripts.render_trial(planned))  # type: ignore[misc]
    for shape in dict.fromkeys(shape for _, shape in shapes):
        make("array", shape, lambda shape=shape: scripts.render_array(TOKEN, "0-1%1", shape))  # type: ignore[misc]
    alone = JobShape(1, 0, None, 1, 1024, profile.max_time_min, profile.sbatch)
    shown = dataclasses.replace(profile, layout="batch", requeue=True)
    watching = Scripts(renderer, sweep, wanted.sweep.spec, shown)
    words = ["supervise", wanted.sweep.spec.name]
    make("supervisor", alone, lambda: watching.render_supervisor(TOKEN, alone, words))
    return found


def _pretend_code(spec: SweepSpec) -> FrozenCode | None:
    """Return a copy of the code as a submission makes one: of a tree that holds all folders."""
    if spec.code == "live":
        return None
    folder = workdir(spec).lstrip("/")
    return FrozenCode("0123456789abcdef"[:N_DIGITS], "/", folder, (folder,))


def _shape(trial: Trial, profile: PartitionProfile) -> JobShape:
    """Return what a trial asks for there; where that is too much, what the profile gives."""
    try:
        return shape_of(trial.resources, profile)
    except ShapeError:
        return shape_of(TrialResources(sbatch=trial.resources.sbatch), profile)
