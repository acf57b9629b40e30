"""Planning a sweep: what would be submitted, what that takes, and whether Slurm would have it.

Runs on the login node. Submits nothing and writes nothing (but what looking at an earlier
submission keeps in the sweep's ``.cache``). Asks Slurm for its limits and, with ``sbatch
--test-only``, about each distinct header; where Slurm does not answer, or there is none, the plan
stands on the profile alone and says so.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.adapters import slurm_limits
from orchestrator.adapters.confirmation_file import read_confirmation
from orchestrator.adapters.rendering import Renderer
from orchestrator.adapters.slurm_limits import SlurmAnswers
from orchestrator.contract.errors import UserError
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.states import TrialState
from orchestrator.domain.cost import Usage, sum_usage, trial_usage
from orchestrator.domain.partition import JobShape, PartitionProfile
from orchestrator.domain.placement import describe_skipped
from orchestrator.domain.plan import Plan, make_plan
from orchestrator.domain.plan_advice import advise
from orchestrator.domain.plan_batch import BatchSize, batch_of
from orchestrator.domain.plan_limits import find_problems, find_warnings
from orchestrator.domain.plan_moves import Moved
from orchestrator.domain.plan_time import measure_trials
from orchestrator.domain.sbatch_answer import ScriptAnswer
from orchestrator.domain.site import SiteConfig
from orchestrator.domain.spec import SweepSpec
from orchestrator.usecases import canary, workspace
from orchestrator.usecases.ceilings import ceiling_of, make_batches
from orchestrator.usecases.check_trials import check_trials
from orchestrator.usecases.choose import Choice, choose_trials
from orchestrator.usecases.observe import Observation
from orchestrator.usecases.placed_trials import place_trials
from orchestrator.usecases.plan_groups import find_left, make_groups, price_if_moved
from orchestrator.usecases.plan_site import PlanSite, ask, make_sites, total_gpus
from orchestrator.usecases.scripts import PlannedTrial, Scripts, slug

# Each takes a call; a sweep whose resources are computed may have a shape per trial.
MAX_TESTS = 20
# Stands for the ten random digits of a token.
_NO_TOKEN = "0" * 10


@dataclass(frozen=True)
class PlannedArray:
    """One array that a submission would make."""

    partition: str
    """The profile that it goes to."""
    indices: str
    """``--array``, such as ``0-161%10``."""
    members: list[PlannedTrial]
    """Its trials, by index."""
    shape: JobShape
    """What each asks for."""
    answer: ScriptAnswer | None = None
    """What Slurm said of its header; None: not asked."""
    after: tuple[int, ...] = ()
    """The arrays, counted from 1, that have to end before, for the sweep's ceilings."""
    is_held: bool = False
    """Whether it waits until the canary has passed."""


@dataclass
class PlanReport:
    """A plan, for people and programs."""

    spec: SweepSpec
    """The sweep."""
    sites: dict[str, PlanSite]
    """The partitions that trials would be submitted to first, by name."""
    cluster: str
    """``slurm``, ``local``, or ``profile``: no Slurm here, the partition by its profile."""
    n_trials: int
    """Trials of the spec."""
    states: dict[TrialState, int]
    """How many of them stand where."""
    planned: list[PlannedTrial]
    """What would be submitted."""
    batches: list[BatchSize | None]
    """Their effective batches."""
    arrays: list[PlannedArray]
    """How."""
    tasks_per_array: int
    """The cluster's limit."""
    plan: Plan
    """What it takes."""
    moved: Moved | None = None
    """What it costs if trials move on to where they cost more; None if they cannot."""
    reach: tuple[str, ...] = ()
    """The partitions that trials go to first or may move to, the preferred one first."""
    later: tuple[str, ...] = ()
    """Those of them that trials may move to."""
    skipped: list[str] = field(default_factory=list)
    """Which partitions they skip, and why they do not fit."""
    canary: str = ""
    """Who would go first, in words; empty without a canary."""
    spent: Usage | None = None
    """What was used so far; None before the first submission."""
    paused: str | None = None
    """Why nothing more is submitted; None if it is."""
    unreachable: str | None = None
    """Why Slurm did not answer; None if it did, or was not asked."""
    is_queue_unknown: bool = False
    """Whether what is queued of this sweep could not be asked, so that the plan may be wrong."""
    problems: list[str] = field(default_factory=list)
    """Why it would be refused, or never start."""
    warnings: list[str] = field(default_factory=list)
    """What costs time or money, or is not known."""
    advice: list[str] = field(default_factory=list)
    """What to consider."""

    @property
    def partition(self) -> str:
        """The partitions that trials may come to, in words."""
        return ", ".join(self.reach or self.sites)


@dataclass(frozen=True)
class PlanOptions:
    """How to plan."""

    results: str
    """The results folder."""
    templates: str
    """The templates folder."""
    retry_failed: bool = False
    """Whether failed and cancelled trials would be submitted again as well."""


def plan_sweep(
    spec: SweepSpec,
    profiles: Mapping[str, PartitionProfile],
    options: PlanOptions,
    cluster: str,
) -> PlanReport:
    """Plan a sweep.

    Args:
        spec: The sweep.
        profiles: The partitions that its trials may go to by name, the preferred one first.
        options: See ``PlanOptions``.
        cluster: ``slurm``, ``local`` or ``profile``.

    Raises:
        UserError: A mistake in the spec, the profile or a template.
    """
    renderer = Renderer(options.templates)
    sweep = SweepPaths(os.path.join(os.path.abspath(options.results), spec.name))
    placed = place_trials(spec, profiles, cluster, read_confirmation(sweep))
    trials, profiles = placed.trials, placed.profiles
    workspace.check_same_spec(sweep, spec.file, spec.source_text)
    answers, unreachable = ask(cluster)
    here = None if answers is None else answers.site.cluster
    choice = choose_trials(sweep, spec, trials, None, is_asked=options.retry_failed, here=here)
    choice.canary = canary.preview(sweep, spec, choice)
    seen = choice.observation

    checked = check_trials(spec, trials, cluster)
    left = find_left(trials, choice, spec.placement if cluster != "local" else None)
    used = left.here or {trials[0][1][0].name}
    reach = [name for name in profiles if name in used | left.later]
    all_sites = make_sites(
        (place for name in reach for place in placed.places if place.name == name),
        cluster,
        answers,
        renderer,
        sweep,
        spec,
    )
    sites = {name: site for name, site in all_sites.items() if name in used}
    for member in {member.partition: member for member in choice.trials}.values():
        sites[member.partition].scripts.render_trial(member)  # a template's mistake shows here
    measured = {} if seen is None else measure_trials(seen.trials, seen.states, time.time())
    tasks_per_array = (answers.site if answers is not None else SiteConfig()).tasks_per_array
    report = PlanReport(
        spec=spec,
        sites=sites,
        cluster=cluster,
        n_trials=len(trials),
        states=choice.states,
        planned=choice.trials,
        batches=[batch_of(p.trial.params, p.shape, spec.batch) for p in choice.trials],
        arrays=_arrays(sites, choice, tasks_per_array, spec, answers is not None),
        tasks_per_array=tasks_per_array,
        plan=make_plan(
            make_groups(left, sites, spec, measured), ceiling_of(spec), total_gpus(sites)
        ),
        moved=price_if_moved(left, all_sites, spec, measured),
        reach=tuple(reach),
        later=tuple(name for name in reach if name in left.later),
        skipped=describe_skipped((p.trial.resources for p in choice.trials), profiles),
        canary=choice.canary.in_words(),
        spent=_spent(seen),
        paused=choice.judgement.paused,
        unreachable=unreachable or (None if seen is None else seen.unreachable),
        is_queue_unknown=seen is not None and seen.unreachable is not None,
        problems=list(checked.problems),
        warnings=[
            *placed.warnings,
            *checked.warnings,
            *choice.canary.warnings,
        ],
    )
    _judge(report, answers)
    return report


def find_planned(report: PlanReport, word: str) -> PlannedTrial:
    """Find a trial that would be submitted, by its number, directory name or hash.

    Raises:
        UserError: None is meant, or more than one.
    """
    found = [
        planned
        for planned in report.planned
        if planned.name == word
        or (word.isdecimal() and int(planned.name.partition("-")[0]) == int(word))
        or (len(word) >= 4 and planned.trial.id.startswith(word))
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(
            f"{word!r} can mean {', '.join(p.name for p in found[:5])}; give more of it"
        )
    if not report.planned:
        raise UserError(f"no trial {word!r}: nothing would be submitted")
    names = f"{report.planned[0].name} to {report.planned[-1].name}"
    raise UserError(f"no trial {word!r} among those to submit ({names}); give a number or a name")


def array_script(report: PlanReport, number: int) -> str:
    """Return the script of an array, counted from 1; its token has noughts for random digits.

    Raises:
        UserError: There is no such array.
    """
    if not 1 <= number <= len(report.arrays):
        known = f"1 to {len(report.arrays)}" if report.arrays else "none would be submitted"
        raise UserError(f"no array {number}; use {known}")
    array = report.arrays[number - 1]
    return _render_array(report.sites[array.partition].scripts, array.indices, array.shape)


def trial_script(report: PlanReport, word: str) -> str:
    """Return the script of a trial; see ``find_planned``."""
    planned = find_planned(report, word)
    return report.sites[planned.partition].scripts.render_trial(planned)


def _arrays(
    sites: Mapping[str, PlanSite],
    choice: Choice,
    tasks_per_array: int,
    spec: SweepSpec,
    is_asked: bool,
) -> list[PlannedArray]:
    """Cut the trials into arrays as ``handover`` does, and ask Slurm about each distinct header."""
    parts = choice.canary.split(choice.trials)
    held = choice.canary.held_arrays(choice.observation)
    if parts and choice.canary.holds(parts[0][0].name):
        held = set()
    batches = make_batches(parts, spec, tasks_per_array, choice.observation, held)
    asked: dict[tuple[str, JobShape], ScriptAnswer] = {}
    arrays = []
    for batch in batches:
        key = (batch.partition, batch.shape)
        if is_asked and key not in asked and len(asked) < MAX_TESTS:
            text = _render_array(sites[batch.partition].scripts, batch.indices, batch.shape)
            asked[key] = slurm_limits.ask_about(text)
        after = tuple(
            i + 1 for i, other in enumerate(batches) if any(other is b for b in batch.after)
        )
        is_held = choice.canary.holds(batch.members[0].name)
        arrays.append(
            PlannedArray(
                batch.partition,
                batch.indices,
                batch.members,
                batch.shape,
                asked.get(key),
                after,
                is_held,
            )
        )
    return arrays


def _render_array(scripts: Scripts, indices: str, shape: JobShape) -> str:
    return scripts.render_array(f"{slug(scripts.spec.name)}-{_NO_TOKEN}", indices, shape)


def _spent(seen: Observation | None) -> Usage | None:
    if seen is None:
        return None
    now = time.time()
    return sum_usage(trial_usage(t.attempts, seen.states[t.name], now) for t in seen.trials)


def _judge(report: PlanReport, answers: SlurmAnswers | None) -> None:
    """Collect what is wrong, what costs time, and what to consider."""
    for name, site in report.sites.items():
        shapes = [group.shape for group in report.plan.groups if group.place.name == name]
        if answers is not None and site.room.partition is None:
            known = ", ".join(sorted(answers.partitions)) or "none"
            report.problems.append(
                f"the cluster has no partition {site.profile.slurm_partition}; it has: {known}"
            )
            continue
        for shape in shapes:
            problems = find_problems(shape, site.room)
            report.problems += [p for p in problems if p not in report.problems]
        n_here = sum(planned.partition == name for planned in report.planned)
        report.warnings += find_warnings(site.room, shapes, n_here)
    if report.unreachable is not None:
        report.warnings.append(
            f"Slurm does not answer, so its limits are not known: {report.unreachable}"
        )
    if answers is not None and answers.accounts.note:
        report.warnings.append(f"limits: {answers.accounts.note}")
    said = {(array.partition, array.answer) for array in report.arrays if array.answer is not None}
    for name, answer in said:
        assert answer is not None
        if answer.accepted is None:
            report.warnings.append(f"sbatch --test-only gave no answer: {answer.words}")
        elif answer.is_full:
            report.warnings.append(
                f"Slurm would not take all at once ({answer.words}): submit hands in what fits"
            )
        elif not answer.accepted:
            words, allows = f"Slurm would refuse it: {answer.words}", report.sites[name].allows
            report.problems.append(f"{words}; {allows}" if allows else words)
    report.warnings.sort(key=lambda words: words.startswith("limits: "))
    warnings, advice = advise(report.spec, report.plan, report.batches, report.spent)
    report.warnings += warnings
    report.advice += advice
