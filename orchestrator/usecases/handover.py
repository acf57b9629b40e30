"""Handing trials over: to Slurm, one sbatch call per array, or to this machine's own queue.

Runs on the login node; called by ``usecases.submit``, which holds the sweep's lock. The order of
effects is the promise: trial files, intent (fsynced), sbatch, receipt. Whatever is cut short in
between is settled by the array's token before anything is submitted again.
"""

from __future__ import annotations

import collections
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.adapters import slurm_cli
from orchestrator.adapters.executors.local import LocalEvent, LocalExecutor, LocalTask
from orchestrator.adapters.journal import JournalWriter
from orchestrator.contract.errors import (
    AmbiguousSubmission,
    ClusterBusy,
    ClusterFull,
    ClusterRefused,
    UserError,
)
from orchestrator.domain.arrays import group_into_arrays, share_ceiling
from orchestrator.domain.partition import JobShape, PartitionProfile
from orchestrator.domain.spec import SweepSpec
from orchestrator.usecases.choose import Choice
from orchestrator.usecases.requeue_mode import RequeueMode
from orchestrator.usecases.scripts import PlannedTrial, Scripts, slug
from orchestrator.usecases.settle import settle_submission


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
class HandedOver:
    """What was handed over."""

    arrays: list[SubmittedArray] = field(default_factory=list)
    """What was accepted."""
    warnings: list[str] = field(default_factory=list)
    """For people."""
    stopped: bool = False
    """Whether a local run was interrupted."""

    @property
    def n_trials(self) -> int:
        """Trials accepted."""
        return sum(array.n_trials for array in self.arrays)


def submit_arrays(
    scripts: Scripts,
    choice: Choice,
    writer: JournalWriter,
    mode: RequeueMode,
    spec: SweepSpec,
) -> HandedOver:
    """Submit the chosen trials as arrays.

    Raises:
        UserError: The cluster has no such partition; nothing was submitted.
        ClusterRefused: Slurm did not take all; those it took are in the journal.
        AmbiguousSubmission: It is still open whether an array exists; submit again later.
    """
    done = HandedOver()
    planned = choice.trials
    if not planned:
        return done
    # Lazy: submitit's import takes longer than a submission that finds nothing new.
    from orchestrator.adapters.executors.slurm import ScriptExecutor

    profile = scripts.profile
    _check_partition(profile)
    limits = mode.read_limits()
    chunks = group_into_arrays([(p, p.shape) for p in planned], limits.tasks_per_array)
    throttles: list[int | None] = [None] * len(chunks)
    if spec.max_concurrent is not None:
        throttles = [*share_ceiling([len(members) for _, members in chunks], spec.max_concurrent)]
        if len(chunks) > spec.max_concurrent:
            done.warnings.append(
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
            if not done.arrays:
                raise
            raise type(error)(
                f"{error}; before that {done.n_trials} of {len(planned)} trials were taken: "
                "submit again for the rest"
            ) from None
        done.arrays.append(SubmittedArray(job_id, token, indices, len(members), shape))
    return done


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


def run_here(
    scripts: Scripts,
    choice: Choice,
    writer: JournalWriter,
    spec: SweepSpec,
    on_start: Callable[[int], Callable[[LocalEvent], None]],
) -> HandedOver:
    """Run the chosen trials on this machine, to their end; ``on_start`` as of ``submit``."""
    done = HandedOver()
    planned = choice.trials
    if not planned:
        return done
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
    done.stopped = executor.was_stopped
    done.arrays.append(
        SubmittedArray(token, token, f"0-{len(planned) - 1}", len(codes), planned[0].shape)
    )
    return done


def _new_token(name: str) -> str:
    return f"{slug(name)}-{secrets.token_hex(5)}"
