"""Submitting a sweep: what is new or has to go on, written to disk and handed to an executor.

Runs on the login node; returns as soon as Slurm took the arrays (the local executor runs them
first). Submitting again submits only what is new, was interrupted or got lost. The order of effects
is the promise: trial files, intent (fsynced), sbatch, receipt. Whatever is cut short in between is
settled by the array's token before anything is submitted again.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.adapters import journal
from orchestrator.adapters.executors.local import LocalEvent
from orchestrator.adapters.journal import JournalWriter
from orchestrator.adapters.leftovers import collect_leftovers
from orchestrator.adapters.rendering import Renderer
from orchestrator.adapters.trial_dir import list_trials
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.states import TrialState
from orchestrator.domain.partition import JobShape, PartitionProfile, ShapeError, shape_of
from orchestrator.domain.retry_policy import Decision
from orchestrator.domain.spec import SweepSpec
from orchestrator.domain.trials import Trial, expand, varying_names
from orchestrator.usecases import requeue_mode, workspace
from orchestrator.usecases.choose import choose_trials
from orchestrator.usecases.freeze import freeze_spec, record_code
from orchestrator.usecases.handover import SubmittedArray, run_here, submit_arrays
from orchestrator.usecases.requeue_mode import RequeueMode
from orchestrator.usecases.scripts import PlannedTrial, Scripts, check_files
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
    is_round: bool = False
    """Whether this is a supervisor's round, which changes nothing of what the sweep is."""


@dataclass
class SubmitReport:
    """What a submission did, for people and programs."""

    sweep: SweepPaths
    """Where it lies."""
    cluster: str
    """``slurm`` or ``local``."""
    partition: str
    """The profile used."""
    n_trials: int
    """Trials of the spec."""
    states: dict[TrialState, int]
    """How many of them stood where, before."""
    decisions: dict[str, Decision] = field(default_factory=dict)
    """What was decided about trials, by name; those left alone are absent."""
    paused: str | None = None
    """Why the rest of the sweep is held back; None if it is not."""
    n_held: int = 0
    """Array tasks that wait until somebody releases them."""
    n_earlier: int = 0
    """Trials on disk that the spec, as it is now, does not have."""
    arrays: list[SubmittedArray] = field(default_factory=list)
    """What was submitted now."""
    planned: list[PlannedTrial] = field(default_factory=list)
    """What was, or on a dry run would be, submitted."""
    warnings: list[str] = field(default_factory=list)
    """For people."""
    mode: RequeueMode | None = None
    """How preempted trials go on; None on a dry run."""
    stopped: bool = False
    """Whether a local run was interrupted."""

    @property
    def n_submitted(self) -> int:
        """Trials submitted now."""
        return sum(array.n_trials for array in self.arrays)


def submit(
    spec: SweepSpec,
    profile: PartitionProfile,
    options: SubmitOptions,
    cluster: str,
    on_local_start: Callable[[int], Callable[[LocalEvent], None]],
) -> SubmitReport:
    """Submit what is new of a sweep, or has to go on.

    Args:
        spec: The sweep.
        profile: The partition it names.
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
    profile = _with_overrides(profile, spec)
    expansion = expand(spec)
    check_files(spec)
    try:
        shapes = {r: shape_of(r, profile) for r in {trial.resources for trial in expansion.trials}}
    except ShapeError as error:
        raise spec.error(error.key, error.message) from None
    trials = [(trial, shapes[trial.resources]) for trial in expansion.trials]
    sweep = SweepPaths(os.path.join(os.path.abspath(options.results), spec.name))
    workspace.check_same_spec(sweep, spec.file, spec.source_text)
    if options.dry_run:
        report = _dry_run(spec, profile, options, cluster, trials)
        report.warnings += expansion.warnings
        return report
    sweep = workspace.create_sweep(options.results, spec.name)
    with journal.lock(sweep) as writer:
        _settle_open_submissions(sweep, writer)
        collect_leftovers(sweep, writer.server_now_s())
        choice = choose_trials(
            sweep,
            spec,
            profile,
            trials,
            writer,
            is_asked=options.retry_failed,
            here=options.here,
        )
        planned = choice.trials
        report = SubmitReport(sweep, cluster, profile.name, len(trials), choice.states)
        report.planned, report.paused = planned, choice.judgement.paused
        report.decisions, report.n_held = choice.judgement.decisions, choice.n_held
        report.warnings += [*expansion.warnings, *choice.judgement.warnings]
        if (warning := workspace.group_warning(sweep)) is not None:
            report.warnings.append(warning)
        report.n_earlier = _count_earlier(sweep, expansion.trials)
        report.mode = requeue_mode.resolve(profile, cluster, bool(planned))
        scripts = Scripts(renderer, sweep, spec, report.mode.profile)
        if planned:
            scripts.render_trial(planned[0])  # a template's mistake shows before anything is kept
        names = varying_names([trial for trial, _ in trials])
        if not options.is_round:
            freeze_spec(sweep, spec, names, profile, cluster)
            workspace.remember_sweep(options.results, spec.name, spec.file)
        if planned:
            record_code(sweep, spec, writer, report.warnings)
        if cluster == "local":
            done = run_here(scripts, choice, writer, spec, on_local_start)
        else:
            done = submit_arrays(scripts, choice, writer, report.mode, spec)
        report.arrays, report.stopped = done.arrays, done.stopped
        report.warnings += done.warnings
    return report


def _with_overrides(profile: PartitionProfile, spec: SweepSpec) -> PartitionProfile:
    changes: dict[str, Any] = {}
    if spec.layout is not None:
        changes["layout"] = spec.layout
    if spec.requeue is not None:
        changes["requeue"] = spec.requeue
    return dataclasses.replace(profile, **changes) if changes else profile


def _dry_run(
    spec: SweepSpec,
    profile: PartitionProfile,
    options: SubmitOptions,
    cluster: str,
    trials: list[tuple[Trial, JobShape]],
) -> SubmitReport:
    sweep = SweepPaths(os.path.join(os.path.abspath(options.results), spec.name))
    choice = choose_trials(sweep, spec, profile, trials, None, is_asked=options.retry_failed)
    report = SubmitReport(sweep, cluster, profile.name, len(trials), choice.states)
    report.planned, report.paused = choice.trials, choice.judgement.paused
    report.decisions = choice.judgement.decisions
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
