"""Supervising a sweep from within the cluster: a one-CPU Slurm job that requeues itself.

Runs on the login node. The job's script is rendered from the partition's template like any other.
All supervisors of one sweep have one job name and depend on it as a singleton, so that Slurm runs
one at a time however often this is typed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os

from orchestrator.adapters import slurm_cli
from orchestrator.adapters.profiles import choose_profile, read_profiles
from orchestrator.adapters.rendering import Renderer
from orchestrator.contract.errors import UserError
from orchestrator.contract.paths import SweepPaths
from orchestrator.domain.partition import JobShape, PartitionProfile
from orchestrator.domain.spec import SweepSpec
from orchestrator.domain.spec_tree import nearest
from orchestrator.usecases.scripts import Scripts, slug
from orchestrator.usecases.supervise import SuperviseOptions

MEM_MB = 1024
DEFAULT_TIME_MIN = 24 * 60


@dataclasses.dataclass(frozen=True)
class SupervisorJob:
    """The job that supervises a sweep."""

    job_id: str
    """Slurm's id."""
    partition: str
    """The profile it runs on."""
    is_new: bool
    """False if it was there before."""
    log: str
    """Where it writes."""


def submit_supervisor(
    sweep: SweepPaths, spec: SweepSpec, options: SuperviseOptions, partition: str | None
) -> SupervisorJob:
    """Submit the job that supervises a sweep, unless it is queued or running already.

    Args:
        sweep: A submitted sweep.
        spec: Its spec.
        options: How to supervise.
        partition: The profile to run on; None: one without GPUs, or else the sweep's.

    Raises:
        UserError: There is no such profile.
        ClusterUnreachable: Slurm did not answer.
        AmbiguousSubmission: It is open whether the job exists; type it again later.
    """
    profile = _choose(options.templates, spec, partition)
    name = job_name(sweep, spec.name)
    paths = sweep.array("supervisor")
    known = slurm_cli.queued_job_ids(name, waiting_or_running=True)
    if known:
        return SupervisorJob(known[0], profile.name, False, paths.log)
    # Lazy: see usecases.submit.
    from orchestrator.adapters.executors.slurm import ScriptExecutor

    limit = profile.max_time_min or DEFAULT_TIME_MIN
    shape = JobShape(1, 0, None, 1, MEM_MB, min(limit, DEFAULT_TIME_MIN), profile.sbatch)
    # The batch process is the supervisor itself: it has no step that could be signalled.
    shown = dataclasses.replace(profile, layout="batch", requeue=True)
    scripts = Scripts(Renderer(options.templates), sweep, spec, shown)
    words = ["supervise", sweep.name, "--results", os.path.abspath(options.results)]
    words += ["--templates", os.path.abspath(options.templates)]
    words += ["--interval", f"{options.interval_s:g}"]
    os.makedirs(paths.root, mode=0o700, exist_ok=True)
    job_id = ScriptExecutor(paths).submit_text(scripts.render_supervisor(name, shape, words))
    return SupervisorJob(job_id, profile.name, True, paths.log)


def job_name(sweep: SweepPaths, name: str) -> str:
    """Return the one job name of a sweep's supervisors: the same wherever it is typed."""
    digest = hashlib.sha256(os.path.realpath(sweep.root).encode()).hexdigest()[:10]
    return f"{slug(name)}-supervisor-{digest}"


def _choose(templates: str, spec: SweepSpec, partition: str | None) -> PartitionProfile:
    profiles = read_profiles(templates)
    if partition is not None:
        if partition not in profiles:
            raise UserError(
                f"unknown partition {partition!r}; {nearest(partition, profiles)}"
                f"there are: {', '.join(profiles)}"
            )
        return profiles[partition]
    without = [p for p in profiles.values() if p.gpus_per_node == 0 and not p.preemptible]
    return without[0] if without else choose_profile(templates, spec)
