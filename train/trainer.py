"""A Trainer of transformers that takes part in the trial protocol.

What it adds: safe checkpoints, an exact evaluation, LAMB, a stop on which all ranks agree, a
stop at the first loss that is not finite, and progress that goes on over attempts as if there had
been one. It overrides a few private methods of the Trainer (transformers 5.23); each says why.
"""

from __future__ import annotations

import functools
import math
import os
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import checkpoints
import torch
from arguments import ArgumentMistake, Arguments, BatchPlan, StepPlan
from callbacks import TrialCallback
from data import Data, TrainingOrder, collate
from evaluation import EvaluationStopped, evaluate_answers, perplexity
from optimizers import build_optimizer
from transformers import PreTrainedModel, Trainer, TrainerControl, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.utils import logging

from orchestrator.runtime import session

_LR_SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
_GIB = 2**30


class NonFiniteLoss(Exception):
    """The training diverged; nothing after this step is worth computing."""


class TrialTrainer(Trainer):
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
        # Saved with each checkpoint, per rank, so that attempts add up.
        self.progress: dict[str, Any] = {
            "n_tokens": 0,  # tokens trained on by this rank, without padding
            "step_time_s": 0.0,  # time in optimizer steps
            "run_time_s": 0.0,  # time in training, evaluation and saving
            "eval_loss": math.nan,  # of the newest evaluation
            "owes_evaluation": False,  # a preemption took the evaluation due at this step
            "last_logged": 0,
            "loss_sum": None,  # since last_logged
            "reports": [],  # (step, metrics) of the newest reports
        }
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

    # ---- training ----

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

    # ---- metrics ----

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Report the training loss; the Trainer's summary at the end is left out."""
        if "loss" in logs and self.is_world_process_zero():
            self._report(
                train_loss=logs["loss"],
                current_learning_rate=logs["learning_rate"],
                grad_norm=float(logs["grad_norm"]),
            )
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate exactly, and report. A preemption ends it; the next attempt makes up for it."""
        try:
            loss = evaluate_answers(
                self.model,
                self.data.eval,
                batch_size=self.args.per_device_eval_batch_size,
                pad_id=self.data.pad_id,
                device=self.args.device,
                rank=self.args.process_index,
                world_size=self.args.world_size,
                should_stop=lambda: self.agree(self.state.global_step),
            )
        except EvaluationStopped:
            self.is_preempted = True
            self.progress["owes_evaluation"] = True
            self.control.should_save = self.control.should_training_stop = True
            self.control.should_evaluate = False
            return {}
        self.progress["eval_loss"] = loss
        self.progress["owes_evaluation"] = False
        metrics = {"eval_loss": loss, "eval_perplexity": perplexity(loss)}
        if self.is_world_process_zero():
            self._report(**metrics)
        handler = self.callback_handler
        self.control = handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def owe_evaluation(self, control: TrainerControl) -> None:
        """Put an evaluation that is due off to the next attempt."""
        self.progress["owes_evaluation"] = control.should_evaluate
        control.should_evaluate = False

    def _report(self, **metrics: float) -> None:
        step = self.state.global_step
        if session.is_trial():  # for the log; by hand, the reports themselves are printed
            words = ", ".join(f"{name} {value:.6g}" for name, value in metrics.items())
            sys.stderr.write(f"step {step}/{self.state.max_steps}: {words}\n")
        reports = [report for report in self.progress["reports"] if report[0] == step]
        self.progress["reports"] = [*reports, (step, metrics)]
        session.report(step, **metrics)

    def rewind_reports(self, step: int) -> None:
        """Bring the metrics file to where it was when the checkpoint of ``step`` was saved.

        An attempt may have reported more at this very step (an evaluation that it owed, the end)
        before it was killed; so the reports of the step itself come from the checkpoint.
        """
        session.rewind(max(0, step - 1))
        for at, metrics in self.progress["reports"]:
            if at == step:
                session.report(at, **metrics)

    def report_end(self) -> None:
        """Report what stands in the leaderboard; every rank must call it."""
        self._settle_progress()
        sums = torch.tensor([float(self.progress["n_tokens"])], dtype=torch.float64)
        peak = torch.tensor([_peak_memory_bytes()], dtype=torch.float64)
        if self.args.world_size > 1:
            device = self.args.device
            sums, peak = sums.to(device), peak.to(device)
            torch.distributed.all_reduce(sums)
            torch.distributed.all_reduce(peak, torch.distributed.ReduceOp.MAX)
        if self.is_world_process_zero():
            self._report(
                eval_loss=self.progress["eval_loss"],
                eval_perplexity=perplexity(self.progress["eval_loss"]),
                tokens_per_second=sums.item() / max(self.progress["step_time_s"], 1e-9),
                run_time_s=self.progress["run_time_s"],
                peak_memory_gb=peak.item() / _GIB,
                steps=self.state.global_step,
            )

    def _settle_progress(self) -> None:
        now = time.monotonic()
        self.progress["run_time_s"] += now - self._began
        self._began = now
        self.progress["n_tokens"] += int(self._n_tokens.item())
        self._n_tokens.zero_()

    # ---- checkpoints ----

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


def make_training_arguments(
    arguments: Arguments, batch: BatchPlan, plan: StepPlan, output_dir: str
) -> TrainingArguments:
    """Translate our arguments; logging, evaluation and saving are driven by ``callbacks``."""
    has_gpu = torch.cuda.is_available()
    precision = arguments.precision
    if precision == "auto":
        precision = "bf16" if has_gpu and torch.cuda.is_bf16_supported() else "fp32"
    if precision == "fp16" and not has_gpu:
        raise ArgumentMistake("--precision=fp16: needs a GPU; use fp32 or bf16 here")
    return TrainingArguments(
        output_dir=output_dir,
        per_device_train_batch_size=batch.per_device,
        per_device_eval_batch_size=max(
            1, arguments.eval_batch_size // session.micro_batch_divisor()
        ),
        gradient_accumulation_steps=batch.accumulation,
        max_steps=plan.max_steps,
        learning_rate=arguments.learning_rate,
        weight_decay=arguments.weight_decay,
        warmup_steps=plan.warmup_steps,
        lr_scheduler_type=_LR_SCHEDULES[arguments.lr_schedule],
        max_grad_norm=arguments.max_grad_norm,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        activation_checkpointing=arguments.gradient_checkpointing,
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


def _peak_memory_bytes() -> float:
    """Peak of this rank: GPU memory where there is one, else resident memory of the process."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): kilobytes on Linux
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
