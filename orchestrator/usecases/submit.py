"""Submitting a sweep: what is new or has to go on, written to disk and handed to an executor.

Runs on the login node; returns as soon as Slurm took the arrays (the local executor runs them
first). Submitting again submits only what is new, was interrupted or got lost. The order of effects
is the promise: trial files, intent (fsynced), sbatch, receipt. Whatever is cut short in between is
settled by the array's token before anything is submitted again.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.adapters import journal, slurm_cli
from orchestrator.adapters.confirmation_file import read_confirmation
from orchestrator.adapters.executors.local import LocalEvent
from orchestrator.adapters.journal import JournalWriter
from orchestrator.adapters.leftovers import collect_leftovers
from orchestrator.adapters.rendering import Renderer
from orchestrator.adapters.trial_dir import list_trials
from orchestrator.contract.errors import ClusterUnreachable
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.states import TERMINAL_STATES, TrialState
from orchestrator.domain.partition import PartitionProfile
from orchestrator.domain.placement import Place, describe_skipped
from orchestrator.domain.retry_policy import Decision
from orchestrator.domain.spec import SweepSpec
from orchestrator.domain.trials import Trial, varying_names
from orchestrator.runtime import gate
from orchestrator.usecases import canary, gatekeeper, released_budget, requeue_mode, workspace
from orchestrator.usecases.ceilings import rebalance_queue, stand_behind
from orchestrator.usecases.check_trials import refuse_hopeless
from orchestrator.usecases.choose import choose_trials
from orchestrator.usecases.freeze import freeze_spec, record_code
from orchestrator.usecases.handover import SubmittedArray, run_here, submit_arrays
from orchestrator.usecases.placed_trials import place_trials
from orchestrator.usecases.release import open_and_release, refuse_spent, warn_of_budget
from orchestrator.usecases.requeue_mode import RequeueMode
from orchestrator.usecases.scripts import PlannedTrial, Scripts
from orchestrator.usecases.settle import settle_submission


@dataclass(frozen=True)
class SubmitOptions:
    """How to submit, beside what the spec says."""

    results: str
    """The results folder."""
    templates: str
    """The templates folder."""
    retry_failed: bool = False
    """Whether failed and cancelled trials are submitted again as well."""
    dry_run: bool = False
    """Whether to stop before anything is written or submitted."""
    here: str | None = None
    """This cluster's name, where it is known already: it takes a query of its own."""
    release: bool = False
    """Whether to open the gate and let go what it holds; see ``usecases.release``."""
    allows: bool = False
    """Whether the release says itself what the sweep may spend."""
    own_budget: Mapping[str, Any] | None = None
    """With ``allows``: the budget that the spec has of its own."""
    is_round: bool = False
    """Whether this is a supervisor's round, which changes nothing of what the sweep is."""
    retries: bool = True
    """Whether trials that failed go again, as far as the sweep's ``retry:`` lets them."""


@dataclass
class SubmitReport:
    """What a submission did, for people and programs."""

    sweep: SweepPaths
    """Where it lies."""
    cluster: str
    """``slurm`` or ``local``."""
    profiles: tuple[str, ...]
    """The profiles that trials may go to, the preferred one first."""
    n_trials: int
    """Trials of the spec, and those on fresh seeds."""
    states: dict[TrialState, int]
    """How many of them stood where, before."""
    decisions: dict[str, Decision] = field(default_factory=dict)
    """What was decided about trials, by name; those left alone are absent."""
    paused: str | None = None
    """Why the rest of the sweep is held back; None if it is not."""
    n_held: int = 0
    """Array tasks that wait until somebody releases them."""
    n_foreign_holds: int = 0
    """Those of them that a person holds, and neither the gate nor the canary."""
    opened: str | None = None
    """Why the gate was closed that was opened now; None if none was."""
    released: list[str] = field(default_factory=list)
    """Array tasks that were let go now, as scontrol wants them."""
    n_fresh: int = 0
    """How many of the trials are on fresh seeds, beside the spec's own."""
    n_earlier: int = 0
    """Trials on disk that the spec, as it is now, does not have."""
    arrays: list[SubmittedArray] = field(default_factory=list)
    """What was submitted now."""
    planned: list[PlannedTrial] = field(default_factory=list)
    """What was, or on a dry run would be, submitted."""
    warnings: list[str] = field(default_factory=list)
    """For people."""
    canary: str = ""
    """Who goes first, in words; empty without a canary, or once it has passed."""
    modes: Mapping[str, RequeueMode] = field(default_factory=dict)
    """How preempted trials go on in each partition that was submitted to; empty on a dry run."""
    stopped: bool = False
    """Whether a local run was interrupted."""
    n_ended: int = 0
    """Failed and cancelled trials, before, that go again only where a person asks."""

    @property
    def n_submitted(self) -> int:
        """Trials submitted now."""
        return sum(array.n_trials for array in self.arrays)

    @property
    def partition(self) -> str:
        """The profiles, in words."""
        return ", ".join(self.profiles)

    def count_by_partition(self) -> dict[str, int]:
        """Count the trials that were, or on a dry run would be, submitted to each profile."""
        counts = Counter(planned.partition for planned in self.planned)
        return {name: counts[name] for name in self.profiles if counts[name]}


def submit(
    spec: SweepSpec,
    profiles: Mapping[str, PartitionProfile],
    options: SubmitOptions,
    cluster: str,
    on_local_start: Callable[[int], Callable[[LocalEvent], None]],
) -> SubmitReport:
    """Submit what is new of a sweep, or has to go on.

    Args:
        spec: The sweep.
        profiles: The partitions that its trials may go to by name, the preferred one first.
        options: See ``SubmitOptions``.
        cluster: ``slurm`` or ``local``.
        on_local_start: Called with the number of trials before a local run; returns the function
            that takes its events.

    Raises:
        UserError: A mistake in the spec, the profile or a template; nothing was submitted.
        SweepLocked: Another submission of this sweep is under way.
        ClusterUnreachable: Slurm did not answer; submit again later.
        AmbiguousSubmission: It is still open whether an array exists; submit again later.
    """
    renderer = Renderer(options.templates)
    sweep = SweepPaths(os.path.join(os.path.abspath(options.results), spec.name))
    placed = place_trials(spec, profiles, cluster, read_confirmation(sweep))
    trials, used = placed.trials, {place.name for place in placed.places}
    profiles = {name: profile for name, profile in placed.profiles.items() if name in used}
    workspace.check_same_spec(sweep, spec.file, spec.source_text)
    doubts = () if options.is_round else refuse_hopeless(spec, trials, cluster)
    if options.dry_run:
        report = _dry_run(spec, profiles, options, cluster, trials)
        report.warnings += [*placed.warnings, *doubts]
        report.n_fresh = len(trials) - placed.n_own
        return report
    _check_templates(renderer, sweep, spec, trials)
    here = options.here or (_ask_slurm() if cluster == "slurm" else None)
    sweep = workspace.create_sweep(options.results, spec.name)
    with journal.lock(sweep) as writer:
        _settle_open_submissions(sweep, writer)
        collect_leftovers(sweep, writer.server_now_s())
        choice = choose_trials(
            sweep,
            spec,
            trials,
            writer,
            is_asked=options.retry_failed,
            here=here,
            is_release=options.release,
        )
        if options.release:
            profile = next(iter(profiles.values()))
            refuse_spent(sweep, spec, profile, choice, writer.server_now_s())
        choice.canary = canary.choose(sweep, spec, choice)
        if not options.retries:
            ended = {trial.name for trial in choice.lineup if trial.state in TERMINAL_STATES}
            choice.trials = [trial for trial in choice.trials if trial.name not in ended]
        planned = choice.trials
        report = SubmitReport(sweep, cluster, tuple(profiles), len(trials), choice.states)
        report.planned, report.paused = planned, choice.judgement.paused
        report.n_ended = choice.n_ended
        report.decisions, report.n_held = choice.judgement.decisions, choice.n_held
        report.n_foreign_holds = choice.n_foreign_holds
        report.opened, report.released = choice.judgement.opened, choice.judgement.released
        report.warnings += [*placed.warnings, *doubts]
        report.warnings += choice.judgement.warnings
        if not options.is_round:
            skipped = (member.trial.resources for member in planned)
            report.warnings += describe_skipped(skipped, placed.profiles)
        if (warning := workspace.group_warning(sweep)) is not None:
            report.warnings.append(warning)
        report.n_fresh = len(trials) - placed.n_own
        report.n_earlier = _count_earlier(sweep, (trial for trial, _ in trials))
        site = requeue_mode.SiteTexts()
        firsts = {member.partition: member for member in [*choice.waiting, *planned][::-1]}
        report.modes = {
            name: requeue_mode.resolve(profile, cluster, True, site)
            for name, profile in profiles.items()
            if name in firsts
        }
        scripts = {
            name: Scripts(renderer, sweep, spec, mode.profile)
            for name, mode in report.modes.items()
        }
        names = varying_names(placed.own)
        if not options.is_round:
            if options.allows:
                released_budget.note(sweep, spec, options.own_budget)
            report.warnings += released_budget.settle(sweep, spec)
            freeze_spec(sweep, spec, names, next(iter(profiles.values())), cluster)
            workspace.remember_sweep(options.results, spec.name, spec.file)
        if planned or choice.waiting:
            code = record_code(sweep, spec, writer, report.warnings, is_round=options.is_round)
            for own in scripts.values():
                own.code = code
        gatekeeper.write_rules(sweep, spec, next(iter(profiles.values())), choice.canary.rule)
        report.warnings += warn_of_budget(spec, profiles, choice)
        if options.release:
            report.opened, report.released = open_and_release(scripts, choice, writer)
        report.canary = choice.canary.in_words()
        report.warnings += [] if options.is_round else choice.canary.warnings
        let_go, undone = canary.let_go(sweep, choice)
        report.released, report.warnings = report.released + let_go, report.warnings + undone
        if cluster == "local":
            done = run_here(scripts, choice, writer, spec, on_local_start)
            closed = gate.read_closed(sweep.root)
            report.paused = report.paused if closed is None else closed["reason"]
        else:
            done = submit_arrays(scripts, choice, writer, report.modes, spec)
            if choice.observation is not None:  # also what a killed round has left undone
                held = choice.canary.held_arrays(choice.observation)
                done.warnings += stand_behind(
                    choice.observation, held, choice.canary.names, spec, writer
                )
            if not planned and choice.observation is not None:
                done.warnings += rebalance_queue(
                    choice.observation, spec, writer, may_lower=options.is_round
                )
        report.arrays, report.stopped = done.arrays, done.stopped
        report.warnings += done.warnings
    return report


def _ask_slurm() -> str:
    """Ask Slurm for the cluster's name, before anything is on disk.

    Raises:
        ClusterUnreachable: It does not answer.
    """
    try:
        return slurm_cli.read_limits().cluster
    except ClusterUnreachable as error:
        words = f"Slurm does not answer: {error}; nothing was submitted; type it again later"
        raise ClusterUnreachable(words) from None


def _check_templates(
    renderer: Renderer,
    sweep: SweepPaths,
    spec: SweepSpec,
    trials: Iterable[tuple[Trial, tuple[Place, ...]]],
) -> None:
    """Render a trial and an array of each partition: a mistake shows before anything is on disk.

    Raises:
        TemplateError: A template does not render.
    """
    firsts: dict[str, tuple[Trial, Place]] = {}
    for trial, places in trials:
        for place in places:
            firsts.setdefault(place.name, (trial, place))
    for trial, place in firsts.values():
        decided = dataclasses.replace(place.profile, requeue=place.profile.requeue is not False)
        scripts = Scripts(renderer, sweep, spec, decided)
        scripts.render_trial(PlannedTrial(f"0-{trial.id}", trial, place.shape, (), place.name))
        scripts.render_array("0", "0-0", place.shape)


def _dry_run(
    spec: SweepSpec,
    profiles: Mapping[str, PartitionProfile],
    options: SubmitOptions,
    cluster: str,
    trials: list[tuple[Trial, tuple[Place, ...]]],
) -> SubmitReport:
    sweep = SweepPaths(os.path.join(os.path.abspath(options.results), spec.name))
    choice = choose_trials(sweep, spec, trials, None, is_asked=options.retry_failed)
    report = SubmitReport(sweep, cluster, tuple(profiles), len(trials), choice.states)
    report.planned, report.paused = choice.trials, choice.judgement.paused
    report.decisions, report.n_ended = choice.judgement.decisions, choice.n_ended
    return report


def _count_earlier(sweep: SweepPaths, trials: Iterable[Trial]) -> int:
    mine = {trial.id for trial in trials}
    return sum(name.partition("-")[2] not in mine for name in list_trials(sweep))


def _settle_open_submissions(sweep: SweepPaths, writer: JournalWriter) -> None:
    for submission in journal.read_journal(sweep).submissions.values():
        if not submission.is_settled:
            settle_submission(
                submission.token, submission.at, writer, submission.cluster, submission.by
            )
