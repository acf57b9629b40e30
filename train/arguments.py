"""Command-line arguments of ``train/main.py``, and what follows from them.

Standard library only, so that a misspelt argument is refused in milliseconds, before torch loads.
Called by ``main.py`` on the compute node.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

OPTIMIZERS = ("adamw", "lamb")
LR_SCHEDULES = ("linear", "cosine", "constant")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")


class ArgumentMistake(Exception):
    """A user's mistake in an argument, the data or the model: one line, exit code 2."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The arguments as typed. The text under each field is also its ``--help``."""

    learning_rate: float = 3e-4
    """Peak learning rate, after the warm-up."""
    batch_size: int = 16
    """EFFECTIVE batch: sequences per optimizer step over all ranks and accumulation steps."""
    weight_decay: float = 0.01
    """Weight decay of matrices; norms and biases get none."""
    warmup_steps: int = 100
    """Optimizer steps of linear warm-up, before --steps_scale."""
    optimizer: str = "adamw"
    """adamw or lamb."""
    lr_schedule: str = "linear"
    """After the warm-up: linear or cosine to zero, or constant."""
    max_grad_norm: float = 1.0
    """Clip gradients to this norm; 0 turns clipping off."""
    model: str = "tiny-deepseek"
    """tiny-deepseek, tiny-llama (random start), or a local model directory."""
    attention_dropout: float = 0.0
    """Dropout on attention weights while training."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    data: str = "dialogues"
    """dialogues (self-made), a JSONL file, or a directory of datasets.save_to_disk."""
    eval_data: str = ""
    """As --data; empty: hold back --eval_fraction of --data."""
    eval_fraction: float = 0.1
    """Share of --data held back for evaluation, chosen by content, the same for every seed."""
    seq_len: int = 64
    """Longest sequence in tokens; longer dialogues are cut on the right."""
    max_steps: int = 2000
    """Optimizer steps, before --steps_scale."""
    epochs: float = 0.0
    """Passes over the training data instead of --max_steps, if greater than 0."""
    steps_scale: float = 1.0
    """Multiplies max_steps, epochs, warmup_steps, save_steps, eval_steps and logging_steps."""
    logging_steps: int = 100
    """Report the training loss every so many steps."""
    eval_steps: int = 500
    """Evaluate every so many steps and at the end; 0: only at the end."""
    save_steps: int = -1
    """Save a checkpoint every so many steps; 0: never; -1: by time. Always at the end, and when
    told to stop."""
    save_minutes: float = 0.0
    """Minutes of work between checkpoints; 0: as the sweep says, else by how long saves take and
    how often trials of the sweep are lost."""
    keep_checkpoints: int = 2
    """Complete checkpoints to keep, at least 2."""
    gradient_accumulation_steps: int = 1
    """Micro-batches per optimizer step and rank."""
    micro_batch_size: int = 0
    """Sequences per forward pass and rank; if given, the accumulation follows from it."""
    eval_batch_size: int = 64
    """Sequences per forward pass and rank in evaluation."""
    precision: str = "auto"
    """fp32, bf16, fp16; auto: bf16 on a GPU that has it, else fp32."""
    deepspeed: str = "none"
    """Path of a DeepSpeed configuration, or none."""
    seed: int = -1
    """Seed of initial weights and data order; -1: TRIAL_SEED, else 0."""
    output_dir: str = ""
    """Where checkpoints go; empty: TRIAL_CHECKPOINT_DIR, else ./output."""
    threads: int = 0
    """CPU threads; 0: OMP_NUM_THREADS, else SLURM_CPUS_PER_TASK, else 1 in a trial, else all."""


_CHOICES = {"optimizer": OPTIMIZERS, "lr_schedule": LR_SCHEDULES, "precision": PRECISIONS}
_AT_LEAST = {
    "learning_rate": 0.0,
    "batch_size": 1,
    "weight_decay": 0.0,
    "warmup_steps": 0,
    "max_grad_norm": 0.0,
    "seq_len": 2,
    "max_steps": 1,
    "epochs": 0.0,
    "logging_steps": 1,
    "eval_steps": 0,
    "save_steps": -1,
    "save_minutes": 0.0,
    "keep_checkpoints": 2,
    "gradient_accumulation_steps": 1,
    "micro_batch_size": 0,
    "eval_batch_size": 1,
    "seed": -1,
    "threads": 0,
}


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """Parse and check the command line.

    Raises:
        ArgumentMistake: Unknown argument, wrong type, or a value that is not allowed.
        SystemExit: ``--help``.
    """
    parser = _Parser(
        prog="train/main.py", allow_abbrev=False, description="Train a model; see train/README.md."
    )
    docs = _field_docs() if {"-h", "--help"} & set(argv) else {}
    for field in dataclasses.fields(Arguments):
        parser.add_argument(
            f"--{field.name}",
            type=_TYPES[str(field.type)],
            default=field.default,
            help=f"{docs.get(field.name)} Default: {field.default!r}",
            metavar=field.name.upper(),
        )
    namespace, unknown = parser.parse_known_args(list(argv))
    if unknown:
        raise ArgumentMistake(_explain_unknown(unknown[0]))
    arguments = Arguments(**vars(namespace))
    _check(arguments)
    return arguments


def _check(arguments: Arguments) -> None:
    for name, allowed in _CHOICES.items():
        value = getattr(arguments, name)
        if value not in allowed:
            raise ArgumentMistake(f"--{name}={value}: not known; allowed: {', '.join(allowed)}")
    for name, least in _AT_LEAST.items():
        value = getattr(arguments, name)
        if not value >= least or math.isinf(value):  # also refuses NaN
            raise ArgumentMistake(f"--{name}={value}: use a number of at least {least}")
    if not 0 < arguments.steps_scale < math.inf:
        raise ArgumentMistake(f"--steps_scale={arguments.steps_scale}: use a number above 0")
    if not 0 <= arguments.attention_dropout < 1:
        raise ArgumentMistake(f"--attention_dropout={arguments.attention_dropout}: use 0 to 1")
    if not arguments.eval_data and not 0 < arguments.eval_fraction < 1:
        raise ArgumentMistake(
            f"--eval_fraction={arguments.eval_fraction}: use a number between 0 and 1, or give "
            "--eval_data"
        )
    if arguments.micro_batch_size and arguments.gradient_accumulation_steps > 1:
        raise ArgumentMistake(
            "--micro_batch_size and --gradient_accumulation_steps: give one; the other follows"
        )
    if arguments.save_minutes and arguments.save_steps >= 0:
        raise ArgumentMistake("--save_minutes and --save_steps: give one")
    if arguments.deepspeed != "none" and not os.path.isfile(arguments.deepspeed):
        raise ArgumentMistake(f"--deepspeed={arguments.deepspeed}: no such file; or use none")


@dataclasses.dataclass(frozen=True)
class BatchPlan:
    """How an effective batch is split."""

    per_device: int
    """Sequences per forward pass on one rank."""
    accumulation: int
    """Forward passes per optimizer step on one rank."""
    world_size: int
    """Ranks."""


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
    plan = _split_batch(arguments, world_size)
    if divisor // 2 >= plan.per_device:
        raise ArgumentMistake(
            f"CUDA is out of memory with a micro-batch of 1 (--batch_size={arguments.batch_size}); "
            "use --gradient_checkpointing=true, a ZeRO configuration, or a larger GPU"
        )
    wanted = max(1, plan.per_device // divisor)
    part = next(size for size in range(wanted, 0, -1) if plan.per_device % size == 0)
    return BatchPlan(part, plan.accumulation * plan.per_device // part, world_size)


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
    return StepPlan(
        max_steps=max_steps,
        warmup_steps=scaled(arguments.warmup_steps),
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


def whole_number(text: str) -> int:
    """Read a whole number; ``2e3`` and ``16.0`` are fine, ``1.5`` is not."""
    try:
        return int(text)
    except ValueError:
        value = float(text)
        if not value.is_integer():
            raise ValueError(text) from None
        return int(value)


def truth(text: str) -> bool:
    """Read ``true`` or ``false`` in any spelling that YAML and Python use."""
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    return words[text.lower()] if text.lower() in words else _raise(ValueError(text))


def _raise(error: Exception) -> NoReturn:
    raise error


_TYPES: dict[str, Any] = {"int": whole_number, "float": float, "str": str, "bool": truth}


class _Parser(argparse.ArgumentParser):
    """Reports a mistake in one line instead of usage and traceback."""

    def error(self, message: str) -> NoReturn:
        raise ArgumentMistake(message)


def _explain_unknown(word: str) -> str:
    name = word.partition("=")[0]
    known = [f"--{field.name}" for field in dataclasses.fields(Arguments)]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else "; see --help"
    return f"unknown argument {name}{hint}"


def _field_docs() -> dict[str, str]:
    """Read the string under each field of ``Arguments``, so that every text stands once."""
    import ast  # lazy: only for --help and never on a trial's way
    import inspect
    import itertools

    body = ast.parse(inspect.getsource(Arguments)).body[0].body  # type: ignore[attr-defined]
    docs = {}
    for field, text in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            docs[field.target.id] = text.value.value.replace("%", "%%")  # type: ignore
    return docs


def fail(message: str, code: int) -> NoReturn:
    """End the program with one line on standard error."""
    sys.stderr.write(f"train/main.py: {message}\n")
    sys.exit(code)
