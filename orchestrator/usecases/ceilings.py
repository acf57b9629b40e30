"""The sweep's ceilings of trials and GPUs at once, kept on Slurm's arrays. Runs on the login node.

``domain.ceilings`` has the arithmetic; here it is fed from the journal and the queue, and brought
into Slurm. The journal never has a smaller throttle than Slurm: what is raised is written before it
is done, what is lowered after. Called by ``usecases.submit`` and ``usecases.handover``, under the
sweep's lock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from orchestrator.adapters import slurm_arrays
from orchestrator.adapters.journal import JournalWriter, read_journal
from orchestrator.contract.errors import ClusterUnreachable
from orchestrator.contract.states import LIVENESS, Liveness
from orchestrator.domain.arrays import group_into_arrays
from orchestrator.domain.ceilings import (
    Ceiling,
    Change,
    Load,
    QueuedArray,
    Share,
    holds,
    rebalance,
    share,
    use_of,
)
from orchestrator.domain.partition import JobShape
from orchestrator.domain.spec import SweepSpec
from orchestrator.usecases.observe import Observation
from orchestrator.usecases.scripts import PlannedTrial


@dataclass
class Batch:
    """Trials of one partition and one shape, to be submitted as an array."""

    partition: str
    """Their profile."""
    shape: JobShape
    """What each asks for."""
    members: list[PlannedTrial]
    """The trials."""
    throttle: int | None
    """How many may run at once; None: no limit."""
    after: list[Batch] = field(default_factory=list)
    """Batches that have to end before."""
    after_ids: tuple[str, ...] = ()
    """Arrays in the queue, by Slurm's id, that have to end before."""
    job_id: str | None = None
    """Slurm's id, once it is submitted."""
    parts: list[Batch] = field(default_factory=list)
    """What it was split into, as the queue had no room for it whole."""

    @property
    def indices(self) -> str:
        """``--array``, such as ``0-161%10``."""
        limit = f"%{self.throttle}" if self.throttle is not None else ""
        return f"0-{len(self.members) - 1}{limit}"

    @property
    def dependencies(self) -> tuple[str, ...]:
        """Slurm's ids of all that has to end before."""
        return (*self.after_ids, *(job_id for batch in self.after for job_id in batch.submitted()))

    def submitted(self) -> list[str]:
        """Return Slurm's ids of the array, or of the arrays it was split into."""
        own = [] if self.job_id is None else [self.job_id]
        return [*own, *(job_id for part in self.parts for job_id in part.submitted())]

    def halve(self) -> list[Batch]:
        """Split it in two, within its share; what waits for it waits for both."""
        middle = len(self.members) // 2
        parts = [self.members[:middle], self.members[middle:]]
        shares = [Share(), Share()]
        if self.throttle is not None:
            shares = share([Load(len(part)) for part in parts], Ceiling(trials=self.throttle))
        self.parts = [
            replace(self, members=part, throttle=mine.throttle, after=list(self.after))
            for part, mine in zip(parts, shares, strict=True)
        ]
        for part, mine in zip(self.parts, shares, strict=True):
            part.after += [self.parts[index] for index in mine.after]
        return self.parts


def ceiling_of(spec: SweepSpec) -> Ceiling:
    """Return the ceilings that a spec sets."""
    ceiling = Ceiling()
    return Ceiling(spec.max_concurrent or ceiling.trials, spec.max_gpus or ceiling.gpus)


def check_ceilings(spec: SweepSpec, shapes: Iterable[JobShape]) -> None:
    """Refuse a trial that is larger than the sweep's ceiling.

    Raises:
        SpecError: With the key's place.
    """
    largest = max((shape.total_gpus for shape in shapes), default=0)
    if spec.max_gpus is not None and largest > spec.max_gpus:
        raise spec.error(
            "max_gpus",
            f"{spec.max_gpus} is not allowed: a trial takes {largest} GPUs; use at least {largest}",
        )


def make_batches(
    parts: Sequence[Sequence[PlannedTrial]],
    spec: SweepSpec,
    tasks_per_array: int,
    observation: Observation | None,
    held: Collection[str] = (),
) -> list[Batch]:
    """Group trials into arrays under the sweep's ceilings, in the order to submit them.

    Args:
        parts: The trials; those of one part share no array with those of another, and those of
            the first wait for no other.
        spec: The sweep.
        tasks_per_array: The cluster's limit.
        observation: What is queued of the sweep; None if nothing was submitted before.
        held: Tokens of arrays in the queue that are held until trials of the first part get
            somewhere, so that these cannot wait for them; see ``stand_behind``.
    """
    chunks: list[tuple[tuple[str, JobShape], list[PlannedTrial]]] = []
    n_first = 0
    for part in parts:
        n_first = n_first or len(chunks)
        keyed = [(member, (member.partition, member.shape)) for member in part]
        chunks += group_into_arrays(keyed, tasks_per_array)
    found = queued_arrays(observation) if observation is not None else {}
    queued = [array for token, array in found.items() if token not in held]
    loads = [Load(len(members), shape.total_gpus) for (_, shape), members in chunks]
    ceiling = ceiling_of(spec)
    if held and n_first:
        shares = share(loads[:n_first], ceiling, use_of(queued))
        shares += _share_after(n_first, loads[n_first:], ceiling)
    else:
        shares = share(loads, ceiling, use_of(queued), n_first)
    batches = [
        Batch(partition, shape, members, mine.throttle)
        for ((partition, shape), members), mine in zip(chunks, shares, strict=True)
    ]
    for number, (batch, mine) in enumerate(zip(batches, shares, strict=True)):
        batch.after = [batches[index] for index in mine.after]
        if mine.after_queued:
            before = queued if number < n_first or not n_first else found.values()
            batch.after_ids = tuple(array.job_id for array in before)
    ordered: list[Batch] = []
    while len(ordered) < len(batches):
        ordered += [
            batch
            for batch in batches
            if not any(batch is other for other in ordered)
            and all(any(item is other for other in ordered) for item in batch.after)
        ]
    return ordered


def _share_after(n_first: int, loads: Sequence[Load], ceiling: Ceiling) -> list[Share]:
    """Divide the ceilings among arrays that come after the first, and after all in the queue."""
    if not ceiling.is_set:
        return [Share() for _ in loads]
    return [
        Share(mine.throttle, tuple(n_first + index for index in mine.after))
        if mine.after
        else Share(mine.throttle, tuple(range(n_first)), after_queued=True)
        for mine in share(loads, ceiling)
    ]


def stand_behind(
    observation: Observation,
    held: set[str],
    names: Collection[str],
    spec: SweepSpec,
    writer: JournalWriter,
) -> list[str]:
    """Have arrays that are held until some trials get somewhere wait for these trials' arrays.

    Only where the ceilings have no room for both: of a trial that was submitted again after them.

    Args:
        observation: The sweep before this round's submissions.
        held: Tokens of those arrays.
        names: The trials that they wait for.
        spec: The sweep.
        writer: The journal.

    Returns:
        What Slurm did not do, for people; the next round tries again.
    """
    journal, arrays = read_journal(writer.sweep), queued_arrays(observation)
    newest = journal.last_submission_of()
    first: dict[str, str] = {}
    for name in names:
        submission = newest[name][0] if name in newest else None
        if submission is None or submission.job_id is None:
            continue
        if submission.token in held or not set(names).issuperset(submission.trials):
            continue  # it was one of the rest, which may stand behind those that are held
        token, n_tasks = submission.token, len(submission.trials)
        if token not in observation.journal.submissions:  # of this round
            arrays[token] = QueuedArray(
                submission.job_id, submission.gpus, 0, n_tasks, submission.throttle
            )
        if token in arrays:
            first[token] = submission.job_id
    warnings: list[str] = []
    if not first or holds(list(arrays.values()), ceiling_of(spec)):
        return warnings
    present = {array.job_id for array in arrays.values()}
    for token in sorted(held & arrays.keys()):
        if not set(names).isdisjoint(journal.submissions[token].trials):
            continue  # it holds one of these trials, which starts by itself
        before = [job_id for job_id in journal.submissions[token].after if job_id in present]
        added = [job_id for job_id in first.values() if job_id not in before]
        if not added:
            continue
        try:
            slurm_arrays.wait_for(arrays[token].job_id, [*before, *added])
        except ClusterUnreachable as error:
            warnings.append(f"array {arrays[token].job_id} may go beyond the ceilings: {error}")
            continue
        writer.write("behind", token=token, after=[*before, *added])
    return warnings


def queued_arrays(observation: Observation) -> dict[str, QueuedArray]:
    """Return the arrays of a sweep that are in Slurm's queue by their token, the oldest first."""
    journal = observation.journal
    newest = journal.last_submission_of()
    counts: dict[str, list[int]] = {}
    blocked: set[str] = set()
    for name, look in observation.looks.items():
        if look.state is None or name not in newest:
            continue
        liveness, token = LIVENESS[look.state], newest[name][0].token
        if liveness is Liveness.GONE:
            continue
        count = counts.setdefault(token, [0, 0])
        count[liveness is Liveness.WAITING] += 1
        if look.reason == "Dependency":
            blocked.add(token)
    arrays = {}
    for token, submission in journal.submissions.items():
        if token in counts and submission.job_id is not None:
            n_running, n_waiting = counts[token]
            arrays[token] = QueuedArray(
                submission.job_id,
                submission.gpus,
                n_running,
                n_waiting,
                submission.throttle,
                submission.after,
                token in blocked,
            )
    return arrays


def rebalance_queue(
    observation: Observation, spec: SweepSpec, writer: JournalWriter, *, may_lower: bool
) -> list[str]:
    """Give what drained arrays leave to the others.

    Args:
        observation: The sweep now.
        spec: Its ceilings.
        writer: The journal.
        may_lower: Whether another round follows soon; see ``domain.ceilings.rebalance``.

    Returns:
        What Slurm did not do, for people; the next round tries again.
    """
    arrays = queued_arrays(observation)
    tokens = {array.job_id: token for token, array in arrays.items()}
    warnings = []
    _repeat(observation, arrays, writer)
    for change in rebalance(list(arrays.values()), ceiling_of(spec), may_lower=may_lower):
        token = tokens[change.job_id]
        try:
            _apply(change, token, arrays[token], writer)
        except ClusterUnreachable as error:
            warnings.append(f"array {change.job_id} keeps its share of the ceilings: {error}")
            break  # what follows may count on it
    return warnings


def _repeat(
    observation: Observation, arrays: Mapping[str, QueuedArray], writer: JournalWriter
) -> None:
    """Do again what a round announced and was cut short in."""
    for token, array in arrays.items():
        if array.throttle is None or observation.journal.submissions[token].is_throttle_sure:
            continue
        try:
            slurm_arrays.throttle(array.job_id, array.throttle)
        except ClusterUnreachable:
            continue
        writer.write("throttled", token=token, throttle=array.throttle, sure=True)


def _apply(change: Change, token: str, array: QueuedArray, writer: JournalWriter) -> None:
    entry = {"token": token, "throttle": change.throttle}
    if change.is_lower:
        slurm_arrays.throttle(change.job_id, change.throttle)
        writer.write("throttled", **entry, sure=True)
        return
    # Written before it is done, since it may be done without an answer; sure only after that.
    if array.throttle is None or change.throttle > array.throttle:
        writer.write("throttled", **entry, sure=False)
    slurm_arrays.throttle(change.job_id, change.throttle)
    writer.write("throttled", **entry, sure=True)
    if change.unblocks:
        slurm_arrays.clear_dependency(change.job_id)
