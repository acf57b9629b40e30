"""What a trial reports: the part of the Trainer that measures, evaluates and writes metrics."""

from __future__ import annotations

import math
import resource
import sys
import time
from typing import Any

import torch
from evaluation import EvaluationStopped, evaluate_answers, perplexity
from transformers import Trainer, TrainerControl

from orchestrator.runtime import session

_GIB = 2**30


def new_progress() -> dict[str, Any]:
    """Start what is saved with each checkpoint, per rank, so that attempts add up."""
    return {
        "n_tokens": 0,  # tokens trained on by this rank, without padding
        "step_time_s": 0.0,  # time in optimizer steps
        "run_time_s": 0.0,  # time in training, evaluation and saving
        "eval_loss": math.nan,  # of the newest evaluation
        "owes_evaluation": False,  # a preemption took the evaluation due at this step
        "last_logged": 0,
        "loss_sum": None,  # since last_logged
        "reports": [],  # (step, metrics) of the newest reports
    }


class ReportingTrainer(Trainer):
    """Reports metrics; see ``trainer.TrialTrainer``."""

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


def _peak_memory_bytes() -> float:
    """Peak of this rank: GPU memory where there is one, else resident memory of the process."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): kilobytes on Linux
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
