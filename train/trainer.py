"""A Trainer of transformers that takes part in the trial protocol.

What it adds: safe checkpoints, an exact evaluation, LAMB, a stop on which all ranks agree, a
stop at the first loss that is not finite, and progress that goes on over attempts as if there had
been one. It overrides a few private methods of the Trainer (transformers 5.23); each says why.
"""

from __future__ import annotations

import functools
import math
import time
from pathlib import Path
from typing import Any

import torch
from arguments import ArgumentMistake, Arguments
from batches import TrainingOrder, collate
from callbacks import TrialCallback
from data import Data
from optimizers import build_optimizer
from plans import StepPlan
from reporting import ReportingTrainer, new_progress
from saving import SavingTrainer
from transformers import PreTrainedModel, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.utils import logging

from orchestrator.runtime import session


class NonFiniteLoss(Exception):
    """The training diverged; nothing after this step is worth computing."""


class TrialTrainer(ReportingTrainer, SavingTrainer):
    """Trains one trial; see the module's docstring."""

    def __init__(
        self,
        arguments: Arguments,
        training_arguments: TrainingArguments,
        model: PreTrainedModel,
        data: Data,
        plan: StepPlan,
    ):
        """Set up; ``training_arguments`` come from ``make_training_arguments``."""
        self.arguments, self.data = arguments, data
        self.is_preempted = False
        self.is_checkpoint_due = False  # by time; all ranks agree at each step
        self._staging: Path | None = None
        self.progress = new_progress()
        order = TrainingOrder(data.train, plan.max_steps * arguments.batch_size, arguments.seed)
        super().__init__(
            model=model,
            args=training_arguments,
            train_dataset=order,
            data_collator=functools.partial(collate, pad_id=data.pad_id),
        )
        self.remove_callback(PrinterCallback)
        logging.disable_progress_bar()  # a bar per saved file
        self.add_callback(TrialCallback(self, plan))
        self._is_bad = torch.zeros((), dtype=torch.bool, device=self.args.device)
        self._n_tokens = torch.zeros((), dtype=torch.long, device=self.args.device)
        self._began = time.monotonic()

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """Build ours: the Trainer knows no LAMB."""
        if self.optimizer is None:
            stage = self._zero_stage()
            if stage == 3 and self.arguments.optimizer == "lamb":
                raise ArgumentMistake("--optimizer=lamb: not with ZeRO stage 3; use stage 1 or 2")
            self.optimizer = build_optimizer(
                self.arguments.optimizer,
                model or self.model,
                self.arguments.learning_rate,
                self.arguments.weight_decay,
                is_sharded=stage in (1, 2),
            )
        return self.optimizer

    def _zero_stage(self) -> int:
        plugin = getattr(self.accelerator.state, "deepspeed_plugin", None)
        return plugin.zero_stage if plugin else 0

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Count the tokens of each step; the Trainer's own counter gathers per micro-batch."""
        batches, n_items = super().get_batch_samples(*args, **kwargs)
        for batch in batches:
            self._n_tokens += batch["attention_mask"].sum()
        return batches, n_items

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Watch the loss, on the device, without waiting for it."""
        loss = super().training_step(*args, **kwargs)
        self._is_bad |= ~torch.isfinite(loss.detach())
        return loss

    def agree(self, step: int) -> bool:
        """Ask all ranks whether one of them was told to stop, and note whether a save is due.

        Raises:
            NonFiniteLoss: A rank had a loss that is not finite.
        """
        here = torch.tensor([session.should_stop(), self._is_due_here()], device=self.args.device)
        flags = torch.cat([here, self._is_bad[None]]).to(torch.int32)
        if self.args.world_size > 1:
            torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
        should_stop, is_due, is_bad = flags.tolist()
        self.is_checkpoint_due = bool(is_due)
        if is_bad:
            if self.is_world_process_zero():
                nan = math.nan
                session.report(step, train_loss=nan, eval_loss=nan, eval_perplexity=nan)
            raise NonFiniteLoss(f"loss is not finite at step {step}")
        return bool(should_stop)

    def _is_due_here(self) -> bool:
        minutes = self.arguments.save_minutes
        by_time = self.arguments.save_steps < 0
        return by_time and session.checkpoint_due(minutes * 60 if minutes else None)
