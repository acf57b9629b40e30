"""A Trainer of transformers that takes part in the trial protocol.

What it adds: safe checkpoints, an exact evaluation, LAMB, adapters, a stop on which all ranks
agree, a stop when the training has diverged or no longer improves, and progress that goes on over
attempts as if there had been one. It overrides a few private methods of the Trainer (transformers
5.23); each says why.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from adapting import AdaptingTrainer
from arguments import Arguments
from batches import TrainingOrder
from callbacks import TrialCallback
from curriculum import parse_curriculum
from curriculum_order import CurriculumOrder
from data import Data
from guard import Diverged, judge_step
from optimizing import OptimizingTrainer
from packing import choose_collate, count_tokens
from plans import StepPlan
from precision import ScalerCallback, prepare_model, show_deepspeed, watch_norm_of_stage_0
from reporting import ReportingTrainer, new_progress
from stopping import StoppingTrainer, TrainingOver
from transformers import PreTrainedModel, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.utils import logging

from orchestrator.runtime import session


class TrialTrainer(StoppingTrainer, ReportingTrainer, AdaptingTrainer, OptimizingTrainer):
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
        self.arguments, self.data, self.plan = arguments, data, plan
        self.is_preempted = False
        self.is_checkpoint_due = False  # by time; all ranks agree at each step
        self._staging: Path | None = None
        self.progress = new_progress()
        show_deepspeed(training_arguments)
        super().__init__(
            model=prepare_model(model, arguments),
            args=training_arguments,
            train_dataset=self._order(),
            data_collator=choose_collate(arguments, data),
            compute_loss_func=data.task.compute_loss,
        )
        self.remove_callback(PrinterCallback)
        logging.disable_progress_bar()  # a bar per saved file
        self.add_callback(TrialCallback(self, plan))
        if self.args.fp16:
            self.add_callback(ScalerCallback(self))
        self._is_bad = self._flag()
        self._is_norm_bad = self._flag()
        self._judged = -1  # newest step that was looked at
        self.start_measuring(plan)

    def _order(self) -> TrainingOrder:
        """Put the training's examples in order, cut by the curriculum if there is one."""
        arguments, plan = self.arguments, self.plan
        n_items = plan.max_steps * arguments.batch_size
        stages = parse_curriculum(arguments.curriculum)
        if stages:
            batch_size = arguments.batch_size
            return CurriculumOrder(self.data.train, n_items, arguments.seed, stages, batch_size)
        return TrainingOrder(self.data.train, n_items, arguments.seed)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Report, with the length of the curriculum's stage."""
        order = self.train_dataset
        if isinstance(order, CurriculumOrder) and "loss" in logs and self.is_world_process_zero():
            self._report(current_seq_len=order.length_of_step(self.state.global_step - 1))
        super().log(logs, start_time)

    def _flag(self) -> torch.Tensor:
        return torch.zeros((), dtype=torch.bool, device=self.args.device)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train to the end, or until an evaluation says that it is over."""
        try:
            return super().train(*args, **kwargs)
        except TrainingOver:
            return None  # before its first step: an earlier attempt, or what it left to evaluate

    def finish(self) -> None:
        """Report the end, of the best evaluation's weights if asked to, and merge adapters."""
        self.take_best()
        self.report_end()
        self.report_stopping()
        if self.arguments.merge_adapters:
            self.merge_adapters()

    def begin(self) -> None:
        """Start; called when training begins."""
        if self.is_deepspeed_enabled and self.zero_stage() == 0:
            watch_norm_of_stage_0(self.deepspeed)
        super().begin()

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Count the tokens of each step; the Trainer's own counter gathers per micro-batch."""
        batches, n_items = super().get_batch_samples(*args, **kwargs)
        for batch in batches:
            self._n_tokens += count_tokens(batch)
        return batches, n_items

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Watch the loss, before fp16 scales it, on the device, without waiting for it."""
        loss = super().training_step(*args, **kwargs)
        self._is_bad |= ~torch.isfinite(loss.detach())
        return loss

    def _get_grad_norm(self, *args: Any, **kwargs: Any) -> Any:
        """Watch the gradient's norm before the step that would spread it over the weights."""
        norm = super()._get_grad_norm(*args, **kwargs)
        if norm is not None:
            self._is_norm_bad |= ~torch.isfinite(torch.as_tensor(norm, device=self.args.device))
        return norm

    def agree(self, step: int) -> bool:
        """Ask all ranks whether one of them was told to stop, and note whether a save is due.

        Raises:
            Diverged: A rank had a loss or a gradient norm that is not finite.
        """
        here = torch.tensor([session.should_stop(), self._is_due_here()], device=self.args.device)
        flags = torch.cat([here, self._is_bad[None], self._is_norm_bad[None]]).to(torch.int32)
        if self.args.world_size > 1:
            torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
        should_stop, is_due, is_bad, is_norm_bad = flags.tolist()
        self.is_checkpoint_due = bool(is_due)
        if is_bad or is_norm_bad:
            self._judge_step(step, is_bad=bool(is_bad), is_norm_bad=bool(is_norm_bad))
        elif step != self._judged:  # evaluations ask, too, at a step that was judged already
            self.progress["n_skipped"] = 0
        self._judged = step
        return bool(should_stop)

    def _judge_step(self, step: int, *, is_bad: bool, is_norm_bad: bool) -> None:
        """End a training that diverged; go on where fp16's scaler skipped the step."""
        was_skipped = bool(self.accelerator.optimizer_step_was_skipped)
        self.progress["n_skipped"] = self.progress.get("n_skipped", 0) + 1 if was_skipped else 0
        cause = judge_step(
            is_loss_finite=not is_bad,
            is_norm_finite=not is_norm_bad,
            was_skipped=was_skipped,
            n_skipped=self.progress["n_skipped"],
        )
        if cause:
            self.end_as_diverged(cause, step)
        self._is_bad.zero_()
        self._is_norm_bad.zero_()

    def end_as_diverged(self, cause: str, step: int) -> None:
        """Report NaN for what a diverged training has no honest number for, and end.

        Raises:
            Diverged: Always.
        """
        if self.is_world_process_zero():
            names = ("train_loss", *self.data.task.metrics)
            session.report(step, **dict.fromkeys(names, math.nan))
        raise Diverged(f"{cause} at step {step}")

    def _is_due_here(self) -> bool:
        minutes = self.arguments.save_minutes
        by_time = self.arguments.save_steps < 0
        return by_time and session.checkpoint_due(minutes * 60 if minutes else None)
