"""Submitting a sweep: what is new or has to go on, written to disk and handed to an executor.

Runs on the login node; returns as soon as Slurm took the arrays (the local executor runs them
first). Submitting again submits only what is new, was interrupted or got lost. The order of effects
is the promise: trial files, intent (fsynced), sbatch, receipt. Whatever is cut short in between is
settled by the array's token before anything is submitted again.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.adapters import code_state, journal, slurm_cli
from orchestrator.adapters.executors.local import LocalEvent, LocalExecutor, LocalTask
from orchestrator.adapters.journal import JournalWriter
from orchestrator.adapters.leftovers import collect_leftovers
from orchestrator.adapters.rendering import Renderer
from orchestrator.adapters.trial_dir import list_trials
from orchestrator.contract.errors import (
    AmbiguousSubmission,
    ClusterBusy,
    ClusterFull,
    ClusterRefused,
    UserError,
)
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import dump_record
from orchestrator.contract.states import TrialState
from orchestrator.domain.arrays import group_into_arrays, share_ceiling
from orchestrator.domain.partition import JobShape, PartitionProfile, ShapeError, shape_of
from orchestrator.domain.retry_policy import Decision
from orchestrator.domain.spec import SweepSpec
from orchestrator.domain.trials import Trial, expand, varying_names
from orchestrator.runtime import durable
from orchestrator.usecases import requeue_mode, workspace
from orchestrator.usecases.choose import Choice, choose_trials
from orchestrator.usecases.requeue_mode import RequeueMode
from orchestrator.usecases.scripts import PlannedTrial, Scripts, check_files, slug, workdir
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


@dataclass(frozen=True)
class SubmittedArray:
    """One accepted array."""

    job_id: str
    """Slurm's id; the token of a local run."""
    token: str
    """The job's name."""
    indices: str
    """``--array``, such as ``0-161%10``."""
    n_trials: int
    """How many trials it holds; of a local run, how many ended by themselves."""
    shape: JobShape
    """What each asks for."""


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
            _freeze(sweep, spec, names, profile, cluster)
            workspace.remember_sweep(options.results, spec.name, spec.file)
        if planned:
            _record_code(sweep, spec, writer, report.warnings)
        if cluster == "local":
            _run_here(scripts, choice, writer, report, spec, on_local_start)
        else:
            _submit_arrays(scripts, choice, writer, report, spec)
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


def _freeze(
    sweep: SweepPaths,
    spec: SweepSpec,
    varying: list[str],
    profile: PartitionProfile,
    cluster: str,
) -> None:
    """Record the spec and what was made of it."""
    durable.replace(sweep.spec, spec.source_text.encode("utf-8"))
    metric = spec.metric
    summary = {
        "name": spec.name,
        "spec": spec.file,
        "spec_path": os.path.abspath(spec.file),
        "overrides": list(spec.overrides),
        "metric": None if metric is None else {"name": metric.name, "goal": metric.goal},
        "parameters": varying,
        "seeded": bool(spec.seeds),
        "cluster": cluster,
        "partition": profile.name,
        "workdir": workdir(spec),
    }
    durable.replace(sweep.summary, dump_record(summary))


def _record_code(
    sweep: SweepPaths, spec: SweepSpec, writer: JournalWriter, warnings: list[str]
) -> None:
    record, diff = code_state.describe_code(workdir(spec))
    if record:
        if "refused" in record:
            warnings.append(f"the code is not recorded, git says: {record['refused']}")
        if diff:
            code_state.save_diff(sweep.code, str(record["commit"])[:12], diff)
        writer.write("code", **record)


def _submit_arrays(
    scripts: Scripts,
    choice: Choice,
    writer: JournalWriter,
    report: SubmitReport,
    spec: SweepSpec,
) -> None:
    planned = choice.trials
    if not planned:
        return
    # Lazy: submitit's import takes longer than a submission that finds nothing new.
    from orchestrator.adapters.executors.slurm import ScriptExecutor

    profile = scripts.profile
    _check_partition(profile)
    limits = report.mode.read_limits() if report.mode else slurm_cli.read_limits()
    chunks = group_into_arrays([(p, p.shape) for p in planned], limits.tasks_per_array)
    throttles: list[int | None] = [None] * len(chunks)
    if spec.max_concurrent is not None:
        throttles = [*share_ceiling([len(members) for _, members in chunks], spec.max_concurrent)]
        if len(chunks) > spec.max_concurrent:
            report.warnings.append(
                f"max_concurrent: {spec.max_concurrent} is shared by {len(chunks)} arrays, which "
                "run one trial each at least"
            )
    waiting = collections.deque(zip(chunks, throttles, strict=True))
    while waiting:
        (shape, members), throttle = waiting.popleft()
        token = _new_token(spec.name)
        indices = f"0-{len(members) - 1}" + (f"%{throttle}" if throttle is not None else "")
        text = scripts.render_array(token, indices, shape)
        scripts.write_trials(members)
        paths = scripts.write_array(token, members)
        intent = {
            "token": token,
            "executor": "slurm",
            "cluster": limits.cluster,
            "trials": [member.name for member in members],
        }
        writer.write_all([*choice.retried(members), ("intent", intent)])
        try:
            job_id = _hand_over(ScriptExecutor(paths), text, token, writer)
        except ClusterRefused as error:
            if isinstance(error, ClusterFull) and len(members) > 1:
                # Arrays are taken whole or not at all: a smaller one may still fit the limit.
                waiting.extendleft(reversed(_halve(shape, members, throttle)))
                continue
            if not report.arrays:
                raise
            raise type(error)(
                f"{error}; before that {report.n_submitted} of {len(planned)} trials were taken: "
                "submit again for the rest"
            ) from None
        report.arrays.append(SubmittedArray(job_id, token, indices, len(members), shape))


def _halve(
    shape: JobShape, members: list[PlannedTrial], throttle: int | None
) -> list[tuple[tuple[JobShape, list[PlannedTrial]], int | None]]:
    halves = [members[: len(members) // 2], members[len(members) // 2 :]]
    shares: list[int | None] = [None, None]
    if throttle is not None:
        shares = [*share_ceiling([len(half) for half in halves], throttle)]
    return [((shape, half), share) for half, share in zip(halves, shares, strict=True)]


def _hand_over(executor: Any, text: str, token: str, writer: JournalWriter) -> str:
    """Call sbatch once and bring its outcome into the journal."""
    try:
        job_id = str(executor.submit_text(text))
    except ClusterRefused as error:
        writer.write("refused", token=token, reason=str(error))
        raise
    except AmbiguousSubmission as error:
        found = settle_submission(token, None, writer, "")
        if found is None:
            raise ClusterBusy(f"{error}; no job of this name exists: submit again") from None
        return found
    writer.write("submitted", token=token, job_id=job_id)
    return job_id


def _check_partition(profile: PartitionProfile) -> None:
    known = slurm_cli.partition_names()
    if profile.slurm_partition not in known:
        raise UserError(
            f"partition {profile.name}: the cluster has no partition {profile.slurm_partition!r}; "
            f"it has: {', '.join(known)}. Set slurm_partition in templates/partitions.yaml"
        )


def _run_here(
    scripts: Scripts,
    choice: Choice,
    writer: JournalWriter,
    report: SubmitReport,
    spec: SweepSpec,
    on_start: Callable[[int], Callable[[LocalEvent], None]],
) -> None:
    planned = choice.trials
    if not planned:
        return
    token = _new_token(spec.name)
    scripts.write_trials(planned)
    tasks = [
        LocalTask(scripts.sweep.trial(member.name), member.shape.cpus, member.shape.total_gpus)
        for member in planned
    ]
    intent = {"token": token, "executor": "local", "trials": [p.name for p in planned]}
    writer.write_all([*choice.retried(planned), ("intent", intent)])
    executor = LocalExecutor(spec.max_concurrent)
    codes = executor.run(tasks, on_start(len(tasks)))
    report.stopped = executor.was_stopped
    report.arrays.append(
        SubmittedArray(token, token, f"0-{len(planned) - 1}", len(codes), planned[0].shape)
    )


def _new_token(name: str) -> str:
    return f"{slug(name)}-{secrets.token_hex(5)}"
