"""When a training ends before its last step: the part of the Trainer that decides it.

``guard`` and ``early_stopping`` hold the decisions, as pure functions; this keeps what they know
in the progress that is saved with each checkpoint. Every rank decides by the same numbers (a mean
loss over all ranks, an evaluation over all), so all decide alike without asking each other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import checkpoints
import early_stopping
import guard
from arguments import ArgumentMistake
from early_stopping import Best
from guard import Curve
from transformers import Trainer


class TrainingOver(Exception):
    """The training ended by an evaluation, before the first step of this attempt."""


class StoppingTrainer(Trainer):
    """Ends a training early; see ``trainer.TrialTrainer``."""

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Report, then judge the curve of the training loss.

        Raises:
            guard.Diverged: It left its course.
        """
        super().log(logs, start_time)
        if "loss" not in logs:
            return
        factor = self.arguments.divergence_factor
        curve = Curve.from_dict(self.progress.get("curve", {}))
        curve = guard.follow(curve, logs["loss"], factor)
        self.progress["curve"] = curve.as_dict()
        cause = guard.judge_curve(curve, factor, self.arguments.divergence_reports)
        if cause:
            self.end_as_diverged(cause, self.state.global_step)

    @property
    def best(self) -> Best:
        """The best evaluation so far, of all attempts."""
        return Best.from_dict(self.progress.get("best", {}))

    @property
    def is_over(self) -> bool:
        """Whether the evaluations have ended the training."""
        return early_stopping.should_stop(self.best, self.arguments.early_stopping_patience)

    def begin(self) -> None:
        """Take up a checkpoint; end if an evaluation has ended the training before.

        Raises:
            TrainingOver: There is nothing to train; the checkpoint is the last one.
        """
        super().begin()
        if self.is_over:
            raise TrainingOver

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate, compare with the best, and end if it has not been beaten for long enough."""
        metrics: dict[str, float] = super().evaluate(*args, **kwargs)
        arguments = self.arguments
        if not metrics or not (arguments.early_stopping_patience or arguments.load_best):
            return metrics
        best = self._compare(metrics)
        self.progress["best"] = best.as_dict()
        if arguments.load_best and best.step == self.state.global_step:
            self.control.should_save = True
        if self.is_over:
            self.control.should_save = self.control.should_training_stop = True
        return metrics

    def _compare(self, metrics: dict[str, float]) -> Best:
        metric = self.arguments.early_stopping_metric
        if metric not in metrics:
            raise ArgumentMistake(
                f"--early_stopping_metric={metric}: evaluations report {', '.join(sorted(metrics))}"
            )
        return early_stopping.take(
            self.best,
            self.state.global_step,
            metrics,
            metric,
            minimize=early_stopping.is_minimized(metric, self.arguments.early_stopping_goal),
            min_delta=self.arguments.early_stopping_min_delta,
        )

    def protected_steps(self) -> set[int]:
        """Steps whose checkpoints must outlive their turn: that of the best evaluation."""
        return {self.best.step} if self.arguments.load_best and self.best.step >= 0 else set()

    @property
    def weights_step(self) -> int:
        """Whose weights are reported and answer at the end: those of this step."""
        is_best = self.arguments.load_best and self.best.step >= 0
        return self.best.step if is_best else self.state.global_step

    def take_best(self) -> None:
        """Put the weights of the best evaluation into the model, if asked to.

        Raises:
            checkpoints.LoadFailed: Its checkpoint is gone, or must not be used.
        """
        step = self.best.step
        if not self.arguments.load_best or step in (-1, self.state.global_step):
            return
        path = Path(self.args.output_dir) / f"{checkpoints.PREFIX}{step}"
        try:
            checkpoints.verify(path)
        except (checkpoints.CheckpointDamaged, OSError) as error:
            raise checkpoints.LoadFailed(
                f"--load_best: {path}, the best evaluation's: {error}"
            ) from None
        if self.is_deepspeed_enabled:
            self.model_wrapped.load_checkpoint(
                str(path), load_module_strict=False, load_optimizer_states=False
            )
        else:
            self._load_from_checkpoint(str(path))
        self.progress["eval_metrics"] = dict(self.best.metrics)

    def report_stopping(self) -> None:
        """Report how the training ended, after all else; every rank may call it."""
        if not self.is_world_process_zero():
            return
        metrics: dict[str, float] = {}
        if self.arguments.load_best and self.best.step >= 0:
            metrics["best_step"] = self.best.step
        if self.arguments.early_stopping_patience:
            metrics["stopped_early"] = int(self.state.global_step < self.state.max_steps)
        if metrics:
            self._report(**metrics)
