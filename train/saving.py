"""Checkpoints a preemption cannot hurt: the part of the Trainer that saves and resumes.

``checkpoints`` holds what does not need torch. Overrides private methods of the Trainer
(transformers 5.23); each says why.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import checkpoints
import torch
from evaluation import EvaluationStopped
from transformers import Trainer

from orchestrator.runtime import session


class SavingTrainer(Trainer):
    """Saves and resumes; see ``trainer.TrialTrainer``."""

    def begin(self) -> None:
        """Take up the progress of a checkpoint, if there is one; called when training begins.

        Raises:
            EvaluationStopped: The evaluation that was owed was broken off once more.
        """
        self._began = time.monotonic()
        if self.progress["loss_sum"] is not None:
            # The Trainer starts a new window for its mean loss whenever it resumes; a window that
            # a preemption cut in two must go on, or the reported curve would differ.
            self._tr_loss = self.progress["loss_sum"].to(self.args.device)
            self._globalstep_last_logged = self.progress["last_logged"]
        if self.progress["owes_evaluation"]:
            self.evaluate()
            if self.is_preempted:  # again; the checkpoint says already what it owes
                raise EvaluationStopped

    def load_progress(self, checkpoint: Path) -> None:
        """Read the progress that this rank saved; the Trainer does not know of it."""
        path = checkpoint / f"progress_{self.args.process_index}.pt"
        if path.is_file():  # else the number of ranks has grown
            self.progress.update(torch.load(path, weights_only=True))

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: torch.nn.Module | None = None
    ) -> None:
        """Load weights the way they were saved.

        ``save_pretrained`` writes the experts of DeepSeek-V3 one by one while the model holds them
        in one tensor. The Trainer (5.23) loads the file without translating back, warns, and goes
        on with experts of random weights.
        """
        target = model or self.model
        loaded = type(self.model).from_pretrained(resume_from_checkpoint, dtype=self.model.dtype)
        target.load_state_dict(loaded.state_dict())

    def _save_rng_state(self, output_dir: str) -> None:
        """Save this rank's progress along: the one method that every rank calls for its files."""
        super()._save_rng_state(output_dir)
        self._settle_progress()
        self.progress["loss_sum"] = self._tr_loss.detach().cpu().clone()
        self.progress["last_logged"] = self._globalstep_last_logged
        path = os.path.join(output_dir, f"progress_{self.args.process_index}.pt")
        torch.save(self.progress, path)

    def _get_output_dir(self, trial: Any) -> str:
        """Lead the Trainer's saving into the staging directory."""
        return str(self._staging) if self._staging else super()._get_output_dir(trial)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Save aside, then publish: the Trainer writes in place, and a kill leaves a torso."""
        began = time.monotonic()
        output_dir, step = Path(self.args.output_dir), self.state.global_step
        if self.is_world_process_zero():
            checkpoints.make_staging(output_dir, step)
        self.accelerator.wait_for_everyone()
        self._staging = checkpoints.staging_path(output_dir, step)
        try:
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.is_world_process_zero():
                written = self._staging / f"{checkpoints.PREFIX}{step}"
                shutil.copytree(self.data.tokenizer_dir, written, dirs_exist_ok=True)
                details = {"attempt": session.attempt(), "world_size": self.args.world_size}
                checkpoints.publish(written, output_dir, step, details)
                checkpoints.rotate(output_dir, self.arguments.keep_checkpoints)
        finally:
            self._staging = None
        self.accelerator.wait_for_everyone()
        session.checkpoint_saved(time.monotonic() - began)
