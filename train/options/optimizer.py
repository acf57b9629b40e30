"""Optimizer, learning rate, weight decay, and their schedules. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from deepspeed_config import model_ranks, zero_stage

if TYPE_CHECKING:
    from arguments import Arguments
    from machine import Machine

OPTIMIZERS = ("adamw", "lamb", "adafactor", "lion", "muon", "sgd")
LR_SCHEDULES = (
    "linear",
    "cosine",
    "cosine_with_restarts",
    "wsd",
    "exponential",
    "polynomial",
    "constant",
)
DECAY_SHAPES = ("linear", "cosine", "sqrt")
WEIGHT_DECAY_SCHEDULES = ("constant", "linear", "cosine")
FUSED = ("auto", "true", "false")
# What else a name is called, in small letters: by transformers (OptimizerNames, SchedulerType) and
# in older command lines.
ALIASES = {
    "optimizer": {
        "adam": "adamw",
        "adamw_hf": "adamw",
        "adamw_torch": "adamw",
        "adamw_torch_fused": "adamw",
        "lion_32bit": "lion",
    },
    "lr_schedule": {
        "constant_with_warmup": "constant",
        "warmup_stable_decay": "wsd",
        "cosine_with_min_lr": "cosine",
    },
}
DEFAULT_WARMUP_STEPS = 100
_OWN = -1.0  # a number is left to the optimizer
# Which optimizers read which number; to the others it would be a setting without a meaning.
_READ_BY = {
    "adam_beta1": ("adamw", "lamb", "lion", "muon"),
    "adam_beta2": ("adamw", "lamb", "lion", "muon"),
    "adam_epsilon": ("adamw", "lamb", "muon"),
    "momentum": ("muon", "sgd"),
}
_WHOLE_MATRICES = ("adafactor", "muon")  # ZeRO leaves every rank a part of flattened ones


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """Optimizer, learning rate, weight decay, and their schedules."""

    learning_rate: float = 3e-4
    """Peak learning rate, after the warm-up."""
    weight_decay: float = 0.01
    """Weight decay of matrices; norms and biases get none."""
    weight_decay_schedule: str = "constant"
    """constant; linear or cosine from --weight_decay to --final_weight_decay."""
    final_weight_decay: float = _OWN
    """Weight decay at the end, with --weight_decay_schedule."""
    warmup_steps: int = -1
    """Optimizer steps of linear warm-up, before --steps_scale; -1: 100, or --warmup_ratio."""
    warmup_ratio: float = 0.0
    """Warm-up as a share of all optimizer steps (rounded up), instead of --warmup_steps."""
    optimizer: str = "adamw"
    """adamw, lamb, adafactor, lion, muon (adamw for embeddings, head and vectors) or sgd."""
    adam_beta1: float = _OWN
    """Decay of the first moment; -1: 0.9."""
    adam_beta2: float = _OWN
    """Decay of the second moment; -1: 0.999, with lion 0.99."""
    adam_epsilon: float = _OWN
    """Added to the root of the second moment; -1: 1e-8, with lamb 1e-6."""
    momentum: float = _OWN
    """Momentum of muon and sgd; -1: 0.95 and 0.9."""
    fused: str = "auto"
    """adamw in one kernel: true, false; auto: on a GPU."""
    lr_schedule: str = "linear"
    """After the warm-up: linear, cosine, cosine_with_restarts, wsd (warm-up-stable-decay),
    exponential or polynomial down to --min_lr_ratio, or constant."""
    min_lr_ratio: float = 0.0
    """Learning rate at the end as a share of the peak; exponential needs one above 0."""
    lr_cycles: int = 2
    """Waves of cosine_with_restarts."""
    decay_ratio: float = 0.1
    """Share of all optimizer steps, at their end, in which wsd decays."""
    decay_shape: str = "sqrt"
    """How wsd decays: linear, cosine, or sqrt (1 - sqrt)."""
    lr_power: float = 2.0
    """Exponent of polynomial."""
    embedding_lr_ratio: float = 1.0
    """Learning rate of the embeddings (and a head tied to them) as a multiple of the others'."""
    head_lr_ratio: float = 1.0
    """Learning rate of the output layer as a multiple of the others'."""
    layer_lr_decay: float = 1.0
    """Learning rate of a layer as a multiple of that of the layer above it; 1: the same."""
    max_grad_norm: float = 1.0
    """Clip gradients to this norm; 0 turns clipping off."""


CHOICES = {
    "optimizer": OPTIMIZERS,
    "lr_schedule": LR_SCHEDULES,
    "decay_shape": DECAY_SHAPES,
    "weight_decay_schedule": WEIGHT_DECAY_SCHEDULES,
    "fused": FUSED,
}
AT_LEAST = {
    "learning_rate": 0.0,
    "weight_decay": 0.0,
    "final_weight_decay": _OWN,
    "warmup_steps": -1,
    "warmup_ratio": 0.0,
    "adam_beta1": _OWN,
    "adam_beta2": _OWN,
    "adam_epsilon": _OWN,
    "momentum": _OWN,
    "min_lr_ratio": 0.0,
    "lr_cycles": 1,
    "decay_ratio": 0.0,
    "lr_power": 0.0,
    "embedding_lr_ratio": 0.0,
    "head_lr_ratio": 0.0,
    "layer_lr_decay": 0.0,
    "max_grad_norm": 0.0,
}


def spell(field: str, text: str) -> str:
    """Give a name of ``CHOICES`` as we spell it, whatever its case or alias; else as it is."""
    small = text.lower()
    known = ALIASES.get(field, {}).get(small, small)
    return known if known in CHOICES[field] else text


def find_mistakes(arguments: Arguments, machine: Machine) -> Iterator[str]:
    """Say what cannot work, a line each; what is unknown of the machine is no mistake."""
    yield from _optimizer_mistakes(arguments)
    yield from _schedule_mistakes(arguments)


def _optimizer_mistakes(arguments: Arguments) -> Iterator[str]:
    name = arguments.optimizer
    for field, readers in _READ_BY.items():
        value = getattr(arguments, field)
        if value == _OWN:
            continue
        if name not in readers:
            have = ", ".join(readers)
            yield f"--{field}={value:g}: {name} has none; leave it out (only {have} have one)"
        elif value < 0 or (field != "adam_epsilon" and value >= 1):
            most = "" if field == "adam_epsilon" else " and below 1"
            yield f"--{field}={value:g}: use a number of at least 0{most}, or -1 for the default"
    if arguments.fused == "true" and name != "adamw":
        yield f"--fused=true: not with --optimizer={name}, only with adamw; use auto"
    path = arguments.deepspeed
    mistake = sharding_mistake(name, zero_stage(path), model_ranks(path))
    if mistake:
        yield mistake


def sharding_mistake(name: str, stage: int | None, tensor_parallel: int) -> str:
    """Say why an optimizer does not work where ranks share tensors; empty if it does.

    Args:
        name: The optimizer.
        stage: ZeRO's; None: not known.
        tensor_parallel: Ranks that share a copy of the model.
    """
    if tensor_parallel > 1 and name in (*_WHOLE_MATRICES, "lamb"):
        return (
            f"--optimizer={name}: needs whole layers, and tensor parallelism cuts them over "
            f"{tensor_parallel} ranks; use adamw, lion or sgd"
        )
    if stage and name in _WHOLE_MATRICES:
        return (
            f"--optimizer={name}: needs whole matrices, and ZeRO stage {stage} cuts them over the "
            "ranks; use adamw, lion or sgd, or no ZeRO (stage 0)"
        )
    if stage == 3 and name == "lamb":
        return "--optimizer=lamb: not with ZeRO stage 3; use stage 1 or 2"
    return ""


def _schedule_mistakes(arguments: Arguments) -> Iterator[str]:
    if arguments.warmup_ratio and arguments.warmup_steps >= 0:
        yield "--warmup_steps and --warmup_ratio: give one"
    for field in ("warmup_ratio", "min_lr_ratio", "decay_ratio"):
        value = getattr(arguments, field)
        if value > 1:
            yield f"--{field}={value:g}: is a share; use a number from 0 to 1"
    if arguments.lr_schedule == "exponential" and arguments.min_lr_ratio == 0:
        yield (
            "--lr_schedule=exponential: never comes to 0; say with --min_lr_ratio what it ends at, "
            "e.g. 0.01"
        )
    final = arguments.final_weight_decay
    if arguments.weight_decay_schedule == "constant":
        if final != _OWN:
            yield (
                f"--final_weight_decay={final:g}: read only with --weight_decay_schedule=linear or "
                "cosine"
            )
    elif final < 0:
        yield (
            f"--weight_decay_schedule={arguments.weight_decay_schedule}: give its end with "
            "--final_weight_decay, at least 0"
        )
    if not 0 < arguments.layer_lr_decay <= 1:
        yield f"--layer_lr_decay={arguments.layer_lr_decay:g}: use a number above 0, at most 1"
