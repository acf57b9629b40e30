"""What happens at each step: when to log, evaluate, save and stop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from spacing import is_due
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

if TYPE_CHECKING:
    from plans import StepPlan
    from trainer import TrialTrainer


class TrialCallback(TrainerCallback):
    """Drives a ``TrialTrainer`` by a step plan, and stops it when Slurm takes the node."""

    def __init__(self, trainer: TrialTrainer, plan: StepPlan):
        """Bind to the trainer that this callback is added to."""
        self.trainer, self.plan = trainer, plan

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Take up where the checkpoint was left."""
        self.trainer.note_training_begins()
        self.trainer.begin()

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Start the clock of this step."""
        self._started = time.monotonic()

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Set the control's flags; the Trainer then logs, evaluates and saves, in this order."""
        step = state.global_step
        is_last = step >= state.max_steps
        is_preempted = self.trainer.agree(step)  # waits for the device: the clock is right after
        self.trainer.progress["step_time_s"] += time.monotonic() - self._started
        control.should_log = is_last or is_due(step, self.trainer.log_every)
        control.should_evaluate = is_last or is_due(step, self.plan.eval_steps)
        by_time = self.trainer.is_checkpoint_due
        control.should_save = is_last or by_time or is_due(step, self.plan.save_steps)
        if is_preempted:
            self.trainer.is_preempted = True
            self.trainer.owe_evaluation(control)
            control.should_save = control.should_training_stop = True
