"""What follows from the arguments: the split of a batch, step counts, threads.

Standard library only and pure.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from arguments import ArgumentMistake, Arguments
from deepspeed_config import model_ranks
from options.optimizer import DEFAULT_WARMUP_STEPS


@dataclasses.dataclass(frozen=True)
class BatchPlan:
    """How an effective batch is split."""

    per_device: int
    """Sequences per forward pass on one rank."""
    accumulation: int
    """Forward passes per optimizer step on one rank."""
    world_size: int
    """Ranks."""
    tensor_parallel: int = 1
    """Ranks that share one copy of the model and see the same sequences."""

    @property
    def data_ranks(self) -> int:
        """Ranks, or groups of them, that see sequences of their own."""
        return self.world_size // self.tensor_parallel


def plan_batch(arguments: Arguments, world_size: int, divisor: int = 1) -> BatchPlan:
    """Split ``batch_size`` so that per device x accumulation x world is exactly it.

    Args:
        arguments: The command line.
        world_size: Ranks.
        divisor: What fits on a device is at most the planned part divided by it: CUDA ran out of
            memory before.

    Raises:
        ArgumentMistake: It does not divide, or cannot become smaller.
    """
    shared = model_ranks(arguments.deepspeed)
    if world_size % shared:
        raise ArgumentMistake(
            f"--deepspeed={arguments.deepspeed}: tensor_parallel.autotp_size {shared} does not "
            f"divide the {world_size} ranks"
        )
    plan = _split_batch(arguments, world_size // shared)
    if divisor // 2 >= plan.per_device:
        raise ArgumentMistake(
            f"CUDA is out of memory with a micro-batch of 1 (--batch_size={arguments.batch_size}); "
            "use --gradient_checkpointing=true, a ZeRO configuration, or a larger GPU"
        )
    wanted = max(1, plan.per_device // divisor)
    part = next(size for size in range(wanted, 0, -1) if plan.per_device % size == 0)
    return BatchPlan(part, plan.accumulation * plan.per_device // part, world_size, shared)


def _split_batch(arguments: Arguments, world_size: int) -> BatchPlan:
    batch = arguments.batch_size
    if arguments.micro_batch_size:
        part, name = arguments.micro_batch_size, "micro_batch_size"
    else:
        part, name = arguments.gradient_accumulation_steps, "gradient_accumulation_steps"
    other, remainder = divmod(batch, part * world_size)
    if remainder or other == 0:
        raise ArgumentMistake(
            f"--batch_size={batch} (sequences per optimizer step over all ranks) is not divisible "
            f"by {name} {part} x {world_size} ranks = {part * world_size}"
        )
    if arguments.micro_batch_size:
        return BatchPlan(part, other, world_size)
    return BatchPlan(other, part, world_size)


@dataclasses.dataclass(frozen=True)
class StepPlan:
    """Step counts with ``steps_scale`` applied."""

    max_steps: int
    warmup_steps: int
    logging_steps: int
    eval_steps: int
    save_steps: int
    """0: no such steps; -1: by time."""


def plan_steps(arguments: Arguments, n_train_examples: int) -> StepPlan:
    """Scale every step count; what was above 0 stays at least 1.

    Args:
        arguments: The command line.
        n_train_examples: For ``--epochs``: an epoch is ceil(examples / batch_size) steps.
    """

    def scaled(steps: float) -> int:
        return max(1, round(steps * arguments.steps_scale)) if steps > 0 else int(steps)

    if arguments.epochs:
        passes = arguments.epochs * arguments.steps_scale
        max_steps = max(1, math.ceil(passes * n_train_examples / arguments.batch_size))
    else:
        max_steps = scaled(arguments.max_steps)
    if arguments.warmup_ratio:
        warmup_steps = math.ceil(arguments.warmup_ratio * max_steps)  # as transformers rounds it
    elif arguments.warmup_steps < 0:
        warmup_steps = scaled(DEFAULT_WARMUP_STEPS)
    else:
        warmup_steps = scaled(arguments.warmup_steps)
    return StepPlan(
        max_steps=max_steps,
        warmup_steps=warmup_steps,
        logging_steps=scaled(arguments.logging_steps),
        eval_steps=scaled(arguments.eval_steps),
        save_steps=scaled(arguments.save_steps),
    )


def choose_threads(
    arguments: Arguments, environ: Mapping[str, str], *, is_trial: bool
) -> int | None:
    """Choose the number of CPU threads, None for torch's default (all cores).

    A trial without any hint gets one thread: its neighbours on the node are trials too. The order
    of floating-point sums depends on the threads, so attempts of one trial should have the same.
    """
    for text in (
        str(arguments.threads or ""),
        environ.get("OMP_NUM_THREADS", ""),
        environ.get("SLURM_CPUS_PER_TASK", ""),
    ):
        if text.isdigit() and int(text) > 0:
            return int(text)
    return 1 if is_trial else None
