"""Optimizer, learning rate and weight decay: the part of the Trainer that builds and sets them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
from arguments import ArgumentMistake, Arguments
from deepspeed_config import model_ranks
from lr_schedules import LrSchedule, multiplier
from optimizers import build_optimizer
from options.optimizer import sharding_mistake
from parameter_groups import holds_matrices
from torch.optim.lr_scheduler import LambdaLR
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from weight_decay import weight_decay_at

if TYPE_CHECKING:
    from options.optimizer import OptimizerOptions
    from plans import StepPlan


def make_lr_schedule(options: OptimizerOptions, warmup_steps: int, max_steps: int) -> LrSchedule:
    """Put the schedule of the arguments together; ``plans`` has scaled the steps."""
    return LrSchedule(
        name=options.lr_schedule,
        warmup_steps=warmup_steps,
        total_steps=max_steps,
        min_ratio=options.min_lr_ratio,
        cycles=options.lr_cycles,
        decay_ratio=options.decay_ratio,
        decay_shape=options.decay_shape,
        power=options.lr_power,
    )


def follow_lr_schedule(optimizer: torch.optim.Optimizer, schedule: LrSchedule) -> LambdaLR:
    """Let torch set the learning rate of every group, a multiple of the group's own peak."""
    return LambdaLR(optimizer, functools.partial(multiplier, schedule))


class OptimizingTrainer(Trainer):
    """Builds and drives the optimizer; see ``trainer.TrialTrainer``."""

    arguments: Arguments
    plan: StepPlan

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """Build ours: the Trainer knows no LAMB.

        Raises:
            ArgumentMistake: This optimizer does not work with this ZeRO stage or model.
        """
        if self.optimizer is None:
            stage = self.zero_stage()
            # Checked with the arguments, too; here is what DeepSpeed has really read.
            shared = model_ranks(self.arguments.deepspeed)
            mistake = sharding_mistake(self.arguments.optimizer, stage, shared)
            if mistake:
                raise ArgumentMistake(mistake)
            self.optimizer = build_optimizer(
                self.arguments,
                model or self.model,
                is_sharded=stage in (1, 2),
                on_gpu=self.args.device.type == "cuda",
            )
            if self.arguments.weight_decay_schedule != "constant":
                # Asked now, while the tensors still have their shapes: ZeRO flattens them.
                decaying = [holds_matrices(group) for group in self.optimizer.param_groups]
                self.remove_callback(WeightDecayCallback)
                self.add_callback(WeightDecayCallback(self.arguments, decaying))
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> LambdaLR:
        """Build ours: more schedules than the Trainer has, each a pure function of the step."""
        if self.lr_scheduler is None:
            schedule = make_lr_schedule(self.arguments, self.plan.warmup_steps, num_training_steps)
            self.lr_scheduler = follow_lr_schedule(optimizer or self.optimizer, schedule)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def zero_stage(self) -> int:
        """Say which ZeRO stage it trains under; 0: none."""
        plugin = getattr(self.accelerator.state, "deepspeed_plugin", None)
        return plugin.zero_stage if plugin else 0


class WeightDecayCallback(TrainerCallback):
    """Sets the weight decay of the groups that decay before every optimizer step."""

    def __init__(self, options: OptimizerOptions, decaying: list[bool]):
        """Note which groups decay, in the optimizer's order; the others keep none."""
        self.options, self.decaying = options, decaying

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Set it, under DeepSpeed too: its optimizer shows the groups of ours."""
        options = self.options
        value = weight_decay_at(
            options.weight_decay_schedule,
            options.weight_decay,
            options.final_weight_decay,
            state.global_step,
            state.max_steps,
        )
        groups = kwargs["optimizer"].param_groups
        for group, decays in zip(groups, self.decaying, strict=True):
            if decays:
                group["weight_decay"] = value
