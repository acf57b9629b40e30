"""Handing trials over: to Slurm, one sbatch call per array, or to this machine's own queue.

Runs on the login node; called by ``usecases.submit``, which holds the sweep's lock. The order of
effects is the promise: trial files, intent (fsynced), sbatch, receipt. Whatever is cut short in
between is settled by the array's token before anything is submitted again.
"""

from __future__ import annotations

import collections
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.adapters import slurm_cli
from orchestrator.adapters.executors.local import (
    LocalEvent,
    LocalExecutor,
    LocalTask,
    count_gpus,
)
from orchestrator.adapters.journal import JournalWriter
from orchestrator.contract.errors import (
    AmbiguousSubmission,
    ClusterBusy,
    ClusterFull,
    ClusterRefused,
    UserError,
)
from orchestrator.domain.partition import JobShape, PartitionProfile
from orchestrator.domain.spec import SweepSpec
from orchestrator.usecases.ceilings import make_batches, stand_behind
from orchestrator.usecases.choose import Choice
from orchestrator.usecases.requeue_mode import RequeueMode
from orchestrator.usecases.scripts import Scripts, slug
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
    partition: str = ""
    """The profile that it was submitted to."""
    after: tuple[str, ...] = ()
    """Arrays, by Slurm's id, that have to end before, for the sweep's ceilings."""


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
    scripts: Mapping[str, Scripts],
    choice: Choice,
    writer: JournalWriter,
    modes: Mapping[str, RequeueMode],
    spec: SweepSpec,
) -> HandedOver:
    """Submit the chosen trials as arrays.

    Args:
        scripts: By partition, as ``modes``.
        choice: The trials.
        writer: The journal.
        modes: How preempted trials go on.
        spec: The sweep.

    Raises:
        UserError: The cluster has no such partition; nothing was submitted.
        ClusterRefused: Slurm did not take all; those it took are in the journal.
        AmbiguousSubmission: It is still open whether an array exists; submit again later.
    """
    done = HandedOver()
    planned, canary = choice.trials, choice.canary
    if not planned:
        return done
    # Lazy: submitit's import takes longer than a submission that finds nothing new.
    from orchestrator.adapters.executors.slurm import ScriptExecutor

    _check_partitions(scripts[name].profile for name in {p.partition for p in planned})
    limits = next(iter(modes.values())).read_limits()
    parts = canary.split(planned)
    held = canary.held_arrays(choice.observation)
    if canary.holds(parts[0][0].name):
        held = set()  # none of the canaries is submitted now
    waiting = collections.deque(
        make_batches(parts, spec, limits.tasks_per_array, choice.observation, held)
    )
    while waiting:
        batch = waiting.popleft()
        members, own = batch.members, scripts[batch.partition]
        token, after = _new_token(spec.name), batch.dependencies
        text = own.render_array(token, batch.indices, batch.shape)
        own.write_trials(members)
        paths = own.write_array(token, members)
        intent: dict[str, Any] = {
            "token": token,
            "executor": "slurm",
            "cluster": limits.cluster,
            "trials": [member.name for member in members],
            "partition": batch.partition,
            "gpus": batch.shape.total_gpus,
            "throttle": batch.throttle,
            "after": list(after),
        }
        is_held = canary.holds(members[0].name)
        if is_held:
            intent["held"] = "canary"
            canary.note(token)
        writer.write_all([*choice.retried(members), ("intent", intent)])
        try:
            job_id = _hand_over(ScriptExecutor(paths, is_held, after), text, token, writer)
        except ClusterRefused as error:
            if isinstance(error, ClusterFull) and len(members) > 1:
                # Arrays are taken whole or not at all: a smaller one may still fit the limit.
                waiting.extendleft(reversed(batch.halve()))
                continue
            if not done.arrays:
                raise
            raise type(error)(
                f"{error}; before that {done.n_trials} of {len(planned)} trials were taken: "
                "submit again for the rest"
            ) from None
        batch.job_id = job_id
        done.arrays.append(
            SubmittedArray(
                job_id, token, batch.indices, len(members), batch.shape, batch.partition, after
            )
        )
        if is_held:
            done.warnings += canary.release_if_passed()
        elif held and choice.observation is not None:
            done.warnings += stand_behind(choice.observation, held, canary.names, spec, writer)
    return done


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


def _check_partitions(profiles: Iterable[PartitionProfile]) -> None:
    known = slurm_cli.partition_names()
    for profile in profiles:
        if profile.slurm_partition not in known:
            raise UserError(
                f"partition {profile.name}: the cluster has no partition "
                f"{profile.slurm_partition!r}; it has: {', '.join(known)}. Set slurm_partition in "
                "templates/partitions.yaml"
            )


def run_here(
    scripts: Mapping[str, Scripts],
    choice: Choice,
    writer: JournalWriter,
    spec: SweepSpec,
    on_start: Callable[[int], Callable[[LocalEvent], None]],
) -> HandedOver:
    """Run the chosen trials on this machine, to their end; ``on_start`` as of ``submit``."""
    done = HandedOver()
    # The canaries come first, and the queue waits for them.
    planned = [trial for part in choice.canary.split(choice.trials) for trial in part]
    if not planned:
        return done
    token = _new_token(spec.name)
    for name, own in scripts.items():
        own.write_trials([member for member in planned if member.partition == name])
    tasks = [
        LocalTask(
            scripts[member.partition].sweep.trial(member.name),
            member.shape.cpus,
            member.shape.total_gpus,
        )
        for member in planned
    ]
    intent = {"token": token, "executor": "local", "trials": [p.name for p in planned]}
    writer.write_all([*choice.retried(planned), ("intent", intent)])
    closed = next(iter(scripts.values())).sweep.gate.closed
    n_gpus = None if spec.max_gpus is None else min(spec.max_gpus, count_gpus())
    executor = LocalExecutor(spec.max_concurrent, n_gpus, is_closed=lambda: os.path.exists(closed))
    codes = executor.run(tasks, on_start(len(tasks)), choice.canary.may_start)
    done.stopped = executor.was_stopped
    done.arrays.append(
        SubmittedArray(token, token, f"0-{len(planned) - 1}", len(codes), planned[0].shape)
    )
    return done


def _new_token(name: str) -> str:
    return f"{slug(name)}-{secrets.token_hex(5)}"
