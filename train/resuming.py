"""Takes up the newest checkpoint that every rank can read and that is of this very training.

Rank 0 looks, since a file system may show other nodes an older state; then every rank checks the
files that it will read, and all agree. A checkpoint that one rank cannot read is refused by all,
and the one before it is tried. One of another training ends the program with what differs (exit
code 2), and so does it if none can be used (1): from nothing starts only what has no checkpoint.

What only loading itself shows (a format that a new version of a library does not read) cannot be
agreed upon in its midst: the rank that finds it marks the checkpoint as refused and ends, and the
next attempt takes the one before.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import checkpoints
import torch
from arguments import ArgumentMistake
from identity import find_differences, find_roundings
from transformers import TrainingArguments


@dataclasses.dataclass(frozen=True)
class Chosen:
    """Where a training goes on."""

    path: Path | None
    """The checkpoint; None: from the start."""
    step: int
    """Optimizer steps done in it; 0: from the start."""
    refused_steps: tuple[int, ...]
    """Steps of checkpoints that were passed over: they do not count as kept."""


def choose_checkpoint(
    output_dir: Path, identity: dict[str, Any], training_arguments: TrainingArguments
) -> Chosen:
    """Choose where to go on; every rank must call it, and all get the same answer.

    Raises:
        checkpoints.AgreedMistake: The newest complete checkpoint is of another training.
        checkpoints.NoneUsable: There are checkpoints, and all were refused.
    """
    rank, world_size = training_arguments.process_index, training_arguments.world_size
    refused: list[int] = []
    while True:
        found = [_look(output_dir, identity, refused) if rank == 0 else None]
        if world_size > 1:
            torch.distributed.broadcast_object_list(found)
        path, step, error = found[0]  # type: ignore[misc]
        if error:
            raise error
        if path is None:
            return Chosen(None, 0, ())
        reasons = _agree(_find_unreadable(path, rank), world_size)
        if not reasons:
            passed = [s for s in checkpoints.list_steps(output_dir) if s > step]
            if rank == 0:
                sys.stderr.write(f"resuming from {path}\n")
            return Chosen(path, step, tuple(passed))
        refused.append(step)
        if rank == 0:
            checkpoints.say_refused(path, "; ".join(reasons))


def _look(
    output_dir: Path, identity: dict[str, Any], refused: list[int]
) -> tuple[Path | None, int, Exception | None]:
    """Find the newest complete checkpoint but the refused ones; errors are for all ranks."""
    try:
        found = checkpoints.find_newest(output_dir, refused)
        if found is None:
            checkpoints.raise_if_any(output_dir)
            return None, 0, None
        path, step = found
        saved = checkpoints.read_marker(path).get("identity")
        if saved is None:
            sys.stderr.write(f"warning: {path} does not say of what training it is\n")
            return path, step, None
        differences = find_differences(saved, identity)
        if differences:
            raise checkpoints.AgreedMistake(
                f"{path} is of another training: {', '.join(differences)}; use another "
                "--output_dir, or move its checkpoints away"
            )
        roundings = find_roundings(saved, identity)
        if roundings:
            sys.stderr.write(
                f"warning: since {path.name} was saved: {', '.join(roundings)}; "
                "numbers may differ in their last digits\n"
            )
        return path, step, None
    except (OSError, ArgumentMistake, checkpoints.CheckpointFailure) as error:
        return None, 0, error


def _find_unreadable(path: Path, rank: int) -> str:
    """Check here the files that this rank will read; say what is wrong, else return nothing."""
    try:
        if rank > 0:  # rank 0 has done so
            checkpoints.verify(path, rank=rank)
        for name in checkpoints.files_of_rank(path, rank):
            if name.endswith(".pth") or name.startswith("progress_"):
                torch.load(path / name, weights_only=name.startswith("progress_"))
        json.loads((path / "trainer_state.json").read_text())
    except Exception as error:  # whatever a damaged file makes of a library
        return f"rank {rank}: {type(error).__name__}: {error}".replace("\n", " ")
    return ""


def _agree(reason: str, world_size: int) -> list[str]:
    """Return the reasons of all ranks."""
    if world_size == 1:
        return [reason] if reason else []
    reasons: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(reasons, reason)
    return [reason for reason in reasons if reason]


@contextlib.contextmanager
def loading(checkpoint: str) -> Iterator[None]:
    """Refuse a checkpoint for good if loading it fails; this rank cannot go on.

    Want of memory and of files that another node has not seen yet say nothing about it.

    Raises:
        checkpoints.LoadFailed: It did fail.
    """
    try:
        yield
    except (OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = f"it does not load: {type(error).__name__}: {error}".replace("\n", " ")
        checkpoints.refuse(Path(checkpoint), reason)
        raise checkpoints.LoadFailed(
            f"{checkpoint}: {reason}; it is refused from now on, run this again to go on from the "
            "one before it"
        ) from error
