"""The effective batch of a trial: per device x accumulation x ranks. Pure.

A spec may say which of its parameters mean what (``batch: {per_device: bs, accumulation: steps}``,
or ``batch: {effective: batch_size}``); otherwise the usual names do. Plain ``batch_size`` is read
as per device, since that is what it is for a program that hands it to its data loader or to
``--per_device_train_batch_size``, as most do: on 8 GPUs a batch of 16 is 128. That this is a
reading is said, with the key that changes it. (Our own ``train/main.py`` is of the other kind: its
``batch_size`` is the whole batch, which it splits by itself.)

World: one rank per GPU of all nodes; without GPUs one rank per node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.domain.partition import JobShape
from orchestrator.domain.spec import BatchNames
from orchestrator.domain.trials import flatten

# The last part of a dotted name, lower case, without - and _.
_PER_DEVICE = frozenset(
    {
        "batchsizeperdevice",
        "batchsizepergpu",
        "devicebatchsize",
        "localbatchsize",
        "microbatch",
        "microbatchsize",
        "perdevicebatchsize",
        "perdevicetrainbatchsize",
        "pergpubatchsize",
        "pergputrainbatchsize",
        "trainmicrobatchsizepergpu",
    }
)
_EFFECTIVE = frozenset(
    {
        "effectivebatch",
        "effectivebatchsize",
        "globalbatch",
        "globalbatchsize",
        "totalbatch",
        "totalbatchsize",
    }
)
_PLAIN = frozenset({"batch", "batchsize", "bs", "trainbatchsize"})
_ACCUMULATION = frozenset(
    {
        "accumsteps",
        "accumulategradbatches",
        "accumulation",
        "accumulationsteps",
        "gradaccum",
        "gradaccumsteps",
        "gradientaccumulation",
        "gradientaccumulationsteps",
    }
)


@dataclass(frozen=True)
class BatchSize:
    """A trial's batch."""

    effective: float
    """Sequences per optimizer step over all ranks."""
    per_device: float | None
    """Sequences of one forward pass on one rank; None where the program splits the whole."""
    accumulation: float
    """Forward passes per optimizer step; 1 where the program splits the whole."""
    world: int
    """Ranks."""
    unit: str
    """What a rank is: ``GPU`` or ``node``."""
    parameter: str
    """The parameter that it was read from; empty for a number in the spec."""
    is_guess: bool = False
    """Whether a plain ``batch_size`` was taken to be per device."""


def batch_of(
    params: Mapping[str, Any], shape: JobShape, names: BatchNames | None
) -> BatchSize | None:
    """Return the effective batch of a trial; None where none of its parameters is a batch."""
    flat = flatten(params)
    names = names or BatchNames()
    world = shape.total_gpus or shape.nodes
    unit = "GPU" if shape.total_gpus else "node"
    if names.effective is not None:
        whole = _value(names.effective, flat)
        return None if whole is None else BatchSize(whole, None, 1, world, unit, _text(names))
    accumulation = 1.0
    name = names.accumulation or _find(flat, _ACCUMULATION)
    if name is not None:
        accumulation = _value(name, flat) or 1.0
    if names.per_device is not None:
        part = _value(names.per_device, flat)
        if part is None:
            return None
        whole = part * accumulation * world
        return BatchSize(whole, part, accumulation, world, unit, _text(names))
    if (found := _find(flat, _EFFECTIVE)) is not None:
        whole = _value(found, flat)
        assert whole is not None
        return BatchSize(whole, None, 1, world, unit, found)
    for known, is_guess in ((_PER_DEVICE, False), (_PLAIN, True)):
        if (found := _find(flat, known)) is not None:
            part = _value(found, flat)
            assert part is not None
            whole = part * accumulation * world
            guess = is_guess and (world > 1 or accumulation > 1)
            return BatchSize(whole, part, accumulation, world, unit, found, guess)
    return None


def show_batch(batch: BatchSize) -> str:
    """Show a batch with its arithmetic: ``16 x 1 accumulated x 8 GPUs = 128``."""
    ranks = f"{batch.world} {batch.unit}{'s' if batch.world != 1 else ''}"
    if batch.per_device is None:
        if batch.world == 1:
            return f"batch {batch.effective:g} effective, on {ranks}"
        part = batch.effective / batch.world
        return f"batch {batch.effective:g} effective: {part:g} on each of {ranks}"
    return (
        f"batch {batch.per_device:g} x accumulation {batch.accumulation:g} x {ranks} "
        f"= {batch.effective:g} effective"
    )


def _find(flat: Mapping[str, Any], known: frozenset[str]) -> str | None:
    for name in flat:
        last = name.rpartition(".")[2].lower().replace("_", "").replace("-", "")
        if last in known and _value(name, flat) is not None:
            return name
    return None


def _value(name: str | int, flat: Mapping[str, Any]) -> float | None:
    value = name if isinstance(name, int) else flat.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e12:
        return None
    return float(value)


def _text(names: BatchNames) -> str:
    name = names.effective if names.effective is not None else names.per_device
    return name if isinstance(name, str) else ""
