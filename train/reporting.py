"""What a trial reports: the part of the Trainer that measures, evaluates and writes metrics.

Measuring costs no step anything: the device is waited for where it is anyway (once a step, when
the ranks agree), and what needs all ranks is summed at a report.
"""

from __future__ import annotations

import math
import os
import resource
import shutil
import sys
import textwrap
from collections.abc import Mapping
from typing import Any

import torch
from clocks import PHASES, PhaseClock, process_age_s
from devices import peak_tflops
from evaluation import EvaluationStopped, evaluate
from event_files import EventFile, events_folder
from final_evaluation import evaluate_finally
from flops import flops_per_token, token_cost, typical_seq_len
from gpu_sampler import UtilizationSampler, start_sampler
from guard import judge_evaluation
from plans import StepPlan
from spacing import is_due, space_out
from transformers import Trainer, TrainerControl

from orchestrator.runtime import session

_GIB = 2**30


def new_progress() -> dict[str, Any]:
    """Start what is saved with each checkpoint, per rank, so that attempts add up."""
    return {
        "n_tokens": 0,  # tokens trained on by this rank, without padding
        "n_skipped_steps": 0,  # by the scaler of fp16
        "step_time_s": 0.0,  # time in optimizer steps
        "times_s": dict.fromkeys(PHASES, 0.0),  # from the begin of training, by phase
        "startup_s": 0.0,  # before it, of the attempts so far
        "peak_host_bytes": 0,  # of the largest attempt
        "peak_gpu_bytes": 0,
        "gpu_percent": (0.0, 0),  # sum and number of samples
        "window": (0, 0.0),  # n_tokens and step_time_s at the last report
        "eval_metrics": {},  # of the newest evaluation
        "owes_evaluation": False,  # a preemption took the evaluation due at this step
        "last_logged": 0,
        "loss_sum": None,  # since last_logged
        "reports": [],  # (step, metrics) of the newest reports
    }


def is_watched() -> bool:
    """Tell whether a person at a terminal reads the reports, no program and no file."""
    return "TRIAL_METRICS" not in os.environ and sys.stdout.isatty()


def describe_report(
    step: int, max_steps: int, metrics: Mapping[str, float], told: Mapping[str, float]
) -> str:
    """Put a report into a line for people, without what was told at this step before."""
    new = {name: value for name, value in metrics.items() if told.get(name) != value}
    words = (f"{name} {_shorten(value)}" for name, value in new.items())
    return f"step {step}/{max_steps}: {', '.join(words)}"


def _shorten(value: float) -> str:
    """Four digits, but for whole numbers and large ones, of which all before the point stand."""
    is_long = isinstance(value, int) or 1e4 <= abs(value) < 1e12
    return f"{value:.0f}" if is_long else f"{value:.4g}"


class ReportingTrainer(Trainer):
    """Reports metrics; see ``trainer.TrialTrainer``."""

    def start_measuring(self, plan: StepPlan) -> None:
        """Set up the measurements; the model must not be wrapped yet, the device be known."""
        most = self.arguments.max_reports
        self.log_every = space_out(plan.logging_steps, plan.max_steps, most)
        self._report_evaluation_every = space_out(plan.eval_steps, plan.max_steps, most)
        self.clock = PhaseClock()
        self._n_tokens = torch.zeros((), dtype=torch.long, device=self.args.device)
        self._startup_s = math.nan
        self._flops_per_token = flops_per_token(
            token_cost(self.model), typical_seq_len(self.data.train.lengths())
        )
        self._events: EventFile | None = None
        self._sampler: UtilizationSampler | None = None
        self._peak_tflops: float | None = None
        if self.args.device.type == "cuda":
            properties = torch.cuda.get_device_properties(self.args.device)
            self._peak_tflops = peak_tflops(properties.name, self._arithmetic())
            self._sampler = start_sampler(str(properties.uuid))

    def _arithmetic(self) -> str:
        if self.arguments.precision == "fp8":
            return "fp8"
        if self.args.bf16 or self.args.fp16:
            return "bf16" if self.args.bf16 else "fp16"
        return "tf32" if self.args.tf32 else "fp32"

    def note_training_begins(self) -> None:
        """Draw the line between start-up and the time that counts as the trial's."""
        self._startup_s = process_age_s()
        self.progress["startup_s"] += self._startup_s
        self.clock.restart()

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Count the time of fetching a step's batches as that of the data."""
        with self.clock.phase("data"):
            return super().get_batch_samples(*args, **kwargs)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Count the time of saving as that of the checkpoint."""
        with self.clock.phase("checkpoint"):
            super()._save_checkpoint(*args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Report the training loss; the Trainer's summary at the end is left out."""
        if "loss" in logs:
            window = self._measure_window()  # needs all ranks
            if self.is_world_process_zero():
                self._report(
                    train_loss=logs["loss"],
                    current_learning_rate=logs["learning_rate"],
                    grad_norm=float(logs["grad_norm"]),
                    **window,
                )
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)

    def _measure_window(self) -> dict[str, float]:
        """Measure what happened since the last report."""
        self._settle_progress()
        (n_before, s_before), progress = self.progress["window"], self.progress
        (tokens,) = self._sum_over_ranks(self._own_share(progress["n_tokens"] - n_before))
        seconds = progress["step_time_s"] - s_before
        progress["window"] = (progress["n_tokens"], progress["step_time_s"])
        speed = self._speed(tokens, seconds)
        return {f"current_{name}": value for name, value in speed.items()}

    def _speed(self, n_tokens: float, seconds: float) -> dict[str, float]:
        """Say how fast tokens of all ranks were trained on, and what each device achieved."""
        per_second = n_tokens / max(seconds, 1e-9)
        tflops = per_second * self._flops_per_token / self.args.world_size / 1e12
        speed = {"tokens_per_second": per_second, "achieved_tflops": tflops}
        if self._peak_tflops:
            speed["mfu"] = tflops / self._peak_tflops
        return speed

    def _own_share(self, n_tokens: int) -> float:
        """Part tokens among the ranks that saw the same ones: tensor parallelism."""
        return n_tokens / self.get_tp_size()

    def _sum_over_ranks(self, *numbers: float) -> list[float]:
        if self.args.world_size == 1:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64, device=self.args.device)
        torch.distributed.all_reduce(sums)
        return sums.tolist()

    def _largest_of_ranks(self, *numbers: float) -> list[float]:
        if self.args.world_size == 1:
            return list(numbers)
        largest = torch.tensor(numbers, dtype=torch.float64, device=self.args.device)
        torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
        return largest.tolist()

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate exactly, and report. A preemption ends it; the next attempt makes up for it.

        Raises:
            guard.Diverged: The loss is not finite. All ranks have the same sums, so all raise.
        """
        with self.clock.phase("evaluation"):
            return self._evaluate_and_report()

    def _evaluate_and_report(self) -> dict[str, float]:
        try:
            metrics = evaluate(
                self.data.task,
                self.model,
                self.data.eval,
                batch_size=self.args.per_device_eval_batch_size,
                pad_id=self.data.pad_id,
                device=self.args.device,
                rank=self.args.process_index // self.get_tp_size(),
                world_size=self.args.world_size // self.get_tp_size(),
                should_stop=lambda: self.agree(self.state.global_step),
            )
        except EvaluationStopped:
            self.is_preempted = True
            self.progress["owes_evaluation"] = True
            self.control.should_save = self.control.should_training_stop = True
            self.control.should_evaluate = False
            return {}
        if cause := judge_evaluation(metrics):
            self.end_as_diverged(cause, self.state.global_step)  # before it is saved, or the best
        self.progress["eval_metrics"] = metrics
        self.progress["owes_evaluation"] = False
        step = self.state.global_step
        is_reported = step >= self.state.max_steps or is_due(step, self._report_evaluation_every)
        if is_reported and self.is_world_process_zero():
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
        reports = [report for report in self.progress["reports"] if report[0] == step]
        told = {name: value for _, before in reports for name, value in before.items()}
        line = describe_report(step, self.state.max_steps, metrics, told)
        self.progress["reports"] = [*reports, (step, metrics)]
        if is_watched():
            columns = shutil.get_terminal_size().columns
            sys.stdout.write("".join(f"{row}\n" for row in textwrap.wrap(line, columns)))
        else:
            if session.is_trial():  # for the log; by hand, the reports themselves are printed
                sys.stderr.write(f"{line}\n")
            session.report(step, **metrics)
        if self._events:
            self._events.add(step, metrics)

    def rewind_reports(self, step: int) -> None:
        """Bring the metrics file to where it was when the checkpoint of ``step`` was saved.

        An attempt may have reported more at this very step (an evaluation that it owed, the end)
        before it was killed; so the reports of the step itself come from the checkpoint.
        """
        session.rewind(max(0, step - 1))
        if self.arguments.tensorboard:
            self._events = EventFile(events_folder(self.args.output_dir), from_step=step)
        for at, metrics in self.progress["reports"]:
            if at == step:
                if not is_watched():
                    session.report(at, **metrics)
                if self._events:
                    self._events.add(at, metrics)

    def report_end(self) -> None:
        """Report what stands in the leaderboard; every rank must call it.

        Raises:
            EvaluationStopped: A preemption; the next attempt makes up for it.
        """
        measured = self._measure_all()
        also = evaluate_finally(self)  # type: ignore[arg-type]
        if self.is_world_process_zero():
            unknown = dict.fromkeys(self.data.task.metrics, math.nan)
            self._report(
                **(self.progress["eval_metrics"] or unknown),
                **measured,
                steps=self.state.global_step,
                **({"skipped_steps": self.progress["n_skipped_steps"]} if self.args.fp16 else {}),
                **also,
            )

    def _measure_all(self) -> dict[str, float]:
        """Measure the whole trial, over its attempts; every rank must call it."""
        self._settle_progress()
        progress, times_s = self.progress, self.progress["times_s"]
        percent, n_samples = progress["gpu_percent"]
        tokens, percent, n_samples = self._sum_over_ranks(
            self._own_share(progress["n_tokens"]), percent, n_samples
        )
        peak, host, gpu = self._largest_of_ranks(
            _peak_memory_bytes(), progress["peak_host_bytes"], progress["peak_gpu_bytes"]
        )
        measured = {
            **self._speed(tokens, progress["step_time_s"]),
            "run_time_s": math.fsum(times_s.values()),
            **{f"time_{phase}_s": times_s[phase] for phase in PHASES},
            "startup_time_s": self._startup_s,
            "startup_total_s": progress["startup_s"],
            "peak_memory_gb": peak / _GIB,
            "peak_host_memory_gb": host / _GIB,
        }
        if gpu:
            measured["peak_gpu_memory_gb"] = gpu / _GIB
        if n_samples:
            measured["gpu_utilization_percent"] = percent / n_samples
        return measured

    def _settle_progress(self) -> None:
        """Bring ``progress`` up to now; called before it is saved and when it is reported."""
        progress = self.progress
        for phase, seconds in self.clock.take().items():
            progress["times_s"][phase] += seconds
        progress["n_tokens"] += int(self._n_tokens.item())
        self._n_tokens.zero_()
        progress["peak_host_bytes"] = max(progress["peak_host_bytes"], _peak_host_bytes())
        progress["peak_gpu_bytes"] = max(progress["peak_gpu_bytes"], _peak_gpu_bytes())
        if self._sampler:
            before, (percent, n_samples) = progress["gpu_percent"], self._sampler.take()
            progress["gpu_percent"] = (before[0] + percent, before[1] + n_samples)


def _peak_memory_bytes() -> int:
    """Peak of this rank: GPU memory where there is one, else resident memory of the process."""
    return _peak_gpu_bytes() if torch.cuda.is_available() else _peak_host_bytes()


def _peak_gpu_bytes() -> int:
    """Most GPU memory that tensors of this process took at once; 0 without a GPU."""
    return int(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else 0


def _peak_host_bytes() -> int:
    """Most memory of the host that this process had at once.

    VmHWM, since getrusage(2) gives a child process the peak of the one that started it.
    """
    if sys.platform.startswith("linux"):
        with open("/proc/self/status", encoding="utf-8") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024  # kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
