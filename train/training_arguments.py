"""Translates the arguments of ``main.py`` into those of the Trainer of transformers."""

from __future__ import annotations

import torch
from arguments import Arguments
from plans import BatchPlan, StepPlan
from precision import hide_deepspeed, hush_deprecations, precision_settings
from transformers import TrainingArguments

from orchestrator.runtime import session


def make_training_arguments(
    arguments: Arguments, batch: BatchPlan, plan: StepPlan, output_dir: str
) -> TrainingArguments:
    """Translate our arguments; logging, evaluation and saving are driven by ``callbacks``."""
    has_gpu = torch.cuda.is_available()
    if arguments.deepspeed != "none":
        hush_deprecations()
    translated = TrainingArguments(
        output_dir=output_dir,
        per_device_train_batch_size=batch.per_device,
        per_device_eval_batch_size=max(
            1, arguments.eval_batch_size // session.micro_batch_divisor()
        ),
        gradient_accumulation_steps=batch.accumulation,
        max_steps=plan.max_steps,
        learning_rate=arguments.learning_rate,
        weight_decay=arguments.weight_decay,
        max_grad_norm=arguments.max_grad_norm,
        **precision_settings(arguments),
        deepspeed=None if arguments.deepspeed == "none" else arguments.deepspeed,
        use_cpu=not has_gpu,
        ddp_backend=("nccl" if has_gpu else "gloo") if batch.world_size > 1 else None,
        seed=arguments.seed,
        train_sampling_strategy="sequential",  # TrainingOrder has shuffled already
        remove_unused_columns=False,
        dataloader_pin_memory=has_gpu,
        logging_strategy="no",
        logging_nan_inf_filter=False,  # it would hide a NaN from us
        eval_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    if arguments.deepspeed != "none":
        hide_deepspeed()
    return translated
