"""Adapters in checkpoints and at the end: the part of the Trainer for LoRA and QLoRA.

Overrides private methods of the Trainer (transformers 5.23); each says why. With
``--finetuning=full`` none of them does anything.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import adapters
import checkpoints
import torch
from resuming import loading
from saving import SavingTrainer

MERGED = "merged"
# Sums in another order, in fp32; a base in 4 bits also computes in bf16 or fp16.
_TOLERANCE = 1e-3
_TOLERANCE_LOW_PRECISION = 5e-2


class MergeFailed(Exception):
    """The merged model does not compute what the adapters do."""


class AdaptingTrainer(SavingTrainer):
    """Saves, loads and merges adapters; see ``trainer.TrialTrainer``."""

    def load_progress(self, checkpoint: Path) -> None:
        """Refuse adapters of another base before anything of them is used."""
        if adapters.is_adapted(self.model):
            adapters.refuse_other_base(self.model, checkpoint)
        super().load_progress(checkpoint)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """Save the adapters alone, and which base is theirs."""
        if not adapters.is_adapted(self.model):
            super()._save(output_dir, state_dict)
        elif self.args.should_save:
            directory = output_dir or self.args.output_dir
            os.makedirs(directory, exist_ok=True)
            adapters.save(self.model, directory, state_dict)

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: torch.nn.Module | None = None
    ) -> None:
        """Load adapters by peft; ``from_pretrained`` would look for a base."""
        if adapters.is_adapted(self.model):
            with loading(resume_from_checkpoint):
                adapters.load(self.model, resume_from_checkpoint)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def merge_adapters(self) -> Path | None:
        """Write the full model beside the checkpoints, complete or not at all; rank 0 does.

        The trainer's model is used up: call it last.

        Raises:
            MergeFailed: The merged model computes something else.
        """
        if not self.is_world_process_zero():
            return None
        output_dir = Path(self.args.output_dir) / MERGED
        step = self.state.global_step
        merged, difference = adapters.merge(self.model, self._probe())
        is_exact = self.arguments.precision in ("auto", "fp32") and not torch.cuda.is_available()
        tolerance = _TOLERANCE if is_exact else _TOLERANCE_LOW_PRECISION
        if not difference <= tolerance:
            raise MergeFailed(
                f"merged logits differ by {difference:.2g} of the largest, allowed are {tolerance}"
            )
        staging = checkpoints.make_staging(output_dir, step)
        merged.save_pretrained(staging)
        shutil.copytree(self.data.tokenizer_dir, staging, dirs_exist_ok=True)
        final = checkpoints.publish(staging, output_dir, step, {"logits_differ_by": difference})
        sys.stderr.write(
            f"merged adapters into {final}; logits differ by {difference:.2g} of the largest\n"
        )
        return final

    def _probe(self) -> dict[str, Any]:
        """Take a batch of the evaluation data without its answers."""
        examples = [self.data.eval[index] for index in range(min(4, len(self.data.eval)))]
        batch = self.data.task.collate(examples, self.data.pad_id)
        batch.pop("labels")
        return {name: tensor.to(self.args.device) for name, tensor in batch.items()}
