"""Checkpoints a preemption cannot hurt: the part of the Trainer that saves and resumes.

``checkpoints`` holds what does not need torch. Overrides private methods of the Trainer
(transformers 5.23); each says why.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import checkpoints
import torch
from evaluation import EvaluationStopped
from resuming import loading
from transformers import Trainer
from transformers.integrations.deepspeed import deepspeed_load_checkpoint
from transformers.trainer import SCHEDULER_NAME

from orchestrator.runtime import failpoint, session

if TYPE_CHECKING:
    from resuming import Chosen

# More than a file system rounds up to, so that it does not fit where a block of torch's did not.
_PROBE_BYTES = 2**20


class SavingTrainer(Trainer):
    """Saves and resumes; see ``trainer.TrialTrainer``."""

    identity: dict[str, Any]
    """What is trained, for ``COMPLETE.json``; see ``identity``."""
    refused_steps: tuple[int, ...] = ()
    """Checkpoints that were refused when this attempt began."""
    _staging: Path | None = None

    def __init__(self, *args: Any, **kwargs: Any):
        """Set up as the Trainer does."""
        self._warned: set[str] = set()
        self._write_errors: list[str] = []
        super().__init__(*args, **kwargs)

    def begin(self) -> None:
        """Take up the progress of a checkpoint, if there is one; called when training begins.

        Raises:
            EvaluationStopped: The evaluation that was owed was broken off once more.
        """
        if self.progress["loss_sum"] is not None:
            # The Trainer starts a new window for its mean loss whenever it resumes; a window that
            # a preemption cut in two must go on, or the reported curve would differ.
            self._tr_loss = self.progress["loss_sum"].to(self.args.device)
            self._globalstep_last_logged = self.progress["last_logged"]
        if self.progress["owes_evaluation"]:
            self.evaluate()
            if self.is_preempted:  # again; the checkpoint says already what it owes
                raise EvaluationStopped

    def resume(self, chosen: Chosen) -> None:
        """Bring progress and metrics file to where the checkpoint was saved; call before training.

        The Trainer does not know of them. The metrics are rewound also without a checkpoint: an
        earlier attempt may have reported and died before it saved.
        """
        if chosen.path is not None:
            self.load_progress(chosen.path)
        if self.is_world_process_zero():
            self.rewind_reports(chosen.step)

    def load_progress(self, checkpoint: Path) -> None:
        """Read the progress that this rank saved."""
        path = checkpoint / f"progress_{self.args.process_index}.pt"
        if path.is_file():  # else the number of ranks has grown
            self.progress.update(torch.load(path, weights_only=True))

    def _prepare_for_training(
        self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None
    ) -> Any:
        """Load what comes after the model apart, so that what fails to load can be refused."""
        prepared = super()._prepare_for_training(max_steps, train_dataloader, None)
        if resume_from_checkpoint is not None:
            with loading(resume_from_checkpoint):
                if self.is_deepspeed_enabled:
                    is_whole = not hasattr(self.model, "peft_config")  # else adapters alone
                    deepspeed_load_checkpoint(
                        self.model_wrapped, resume_from_checkpoint, load_module_strict=is_whole
                    )
                self._load_optimizer_and_scheduler(resume_from_checkpoint)
                self._load_scaler(resume_from_checkpoint)
        return prepared

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: torch.nn.Module | None = None
    ) -> None:
        """Load weights the way they were saved.

        ``save_pretrained`` writes the experts of DeepSeek-V3 one by one while the model holds them
        in one tensor. The Trainer (5.23) loads the file without translating back, warns, and goes
        on with experts of random weights.
        """
        target = model or self.model
        with loading(resume_from_checkpoint):
            loaded = type(self.model).from_pretrained(
                resume_from_checkpoint, dtype=self.model.dtype
            )
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

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write weights; a full disk must not part this rank from the others in their midst."""
        with self._collecting():
            super().save_model(output_dir, _internal_call)
        failpoint.reach("checkpoint.weights.after")

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Write the optimizer; under DeepSpeed all ranks must come to the end of it."""
        if not self.is_deepspeed_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        engine = self.model_wrapped
        if not isinstance(engine.checkpoint_engine, _CollectingEngine):
            engine.checkpoint_engine = _CollectingEngine(engine.checkpoint_engine, self)
            copy_scripts = engine._copy_recovery_script
            engine._copy_recovery_script = lambda path: self._collect(copy_scripts, path)
        # "latest" comes last below: DeepSpeed writes it while the other ranks wait.
        is_adapter = hasattr(self.model, "peft_config")
        engine.save_checkpoint(output_dir, save_latest=False, exclude_frozen_parameters=is_adapter)
        failpoint.reach("checkpoint.optimizer.after")
        if self.is_world_process_zero():
            with self._collecting():
                latest = Path(output_dir) / "latest"
                latest.write_text(f"global_step{engine.global_steps}")
                # By name: accelerate has this class only where DeepSpeed is installed.
                if type(self.lr_scheduler).__name__ != "DeepSpeedSchedulerWrapper":
                    torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Save aside, then publish: the Trainer writes in place, and a kill leaves a torso.

        A save that fails leaves the older checkpoints as they were. In between, training goes on:
        what is lost is only insurance. Before leaving and at the end it is the end.

        Raises:
            checkpoints.SaveFailed: The last save of this attempt failed, on whatever rank.
        """
        began = time.monotonic()
        problem = self._save_aside(model, trial)
        if problem and self._make_room():
            problem = self._save_aside(model, trial)
        if not problem:
            session.checkpoint_saved(time.monotonic() - began)
            return
        session.checkpoint_failed()
        step = self.state.global_step
        is_last = step >= self.state.max_steps or self.control.should_training_stop
        if self.is_preempted or is_last:
            raise checkpoints.SaveFailed(f"the checkpoint of step {step} was not saved: {problem}")
        if self.is_world_process_zero() and problem not in self._warned:
            self._warned.add(problem)
            sys.stderr.write(
                f"warning: the checkpoint of step {step} was not saved: {problem}; training goes "
                "on, and the one before it stays\n"
            )

    def _save_aside(self, model: torch.nn.Module, trial: Any) -> str:
        """Save and publish; return what went wrong on any rank, else nothing."""
        output_dir, step = Path(self.args.output_dir), self.state.global_step
        self._write_errors: list[str] = []
        self._staging = checkpoints.staging_path(output_dir, step)
        written = self._staging / f"{checkpoints.PREFIX}{step}"
        try:
            if self.is_world_process_zero():
                self._collect(checkpoints.make_staging, output_dir, step)
            problem = self._agree_on_errors()
            if not problem:
                with self._collecting():
                    super()._save_checkpoint(model, trial)
                problem = self._agree_on_errors()  # all have written, too
            if not problem:
                share, n_shares = self.args.local_process_index, _ranks_of_this_node()
                self._collect(checkpoints.flush_share, written, share, n_shares)
                problem = self._agree_on_errors()
            if not problem:
                if self.is_world_process_zero():
                    self._collect(self._publish, written)
                problem = self._agree_on_errors()
            return problem
        finally:
            if self.is_world_process_zero():  # gives the room back
                shutil.rmtree(self._staging, ignore_errors=True)
            self._staging = None

    def _publish(self, written: Path) -> None:
        shutil.copytree(self.data.tokenizer_dir, written, dirs_exist_ok=True)
        details = {
            "attempt": session.attempt(),
            "world_size": self.args.world_size,
            "identity": self.identity,
        }
        output_dir, step = Path(self.args.output_dir), self.state.global_step
        checkpoints.publish(written, output_dir, step, details)
        # The refused one of this step, if there was one, is replaced by it.
        self.refused_steps = tuple(refused for refused in self.refused_steps if refused != step)
        self._rotate(self.arguments.keep_checkpoints)

    def _rotate(self, keep: int) -> None:
        output_dir = Path(self.args.output_dir)
        checkpoints.rotate(output_dir, keep, self.refused_steps, self.protected_steps())

    def _make_room(self) -> bool:
        """Give up checkpoints beyond the newest two, if there are any; tell whether."""
        made = False
        if self.is_world_process_zero():
            output_dir = Path(self.args.output_dir)
            n_before = len(checkpoints.list_steps(output_dir))
            self._rotate(2)
            made = len(checkpoints.list_steps(output_dir)) < n_before
        answer = torch.tensor(made, dtype=torch.int32, device=self.args.device)
        if self.args.world_size > 1:
            torch.distributed.broadcast(answer, 0)
        return bool(answer.item())

    @contextlib.contextmanager
    def _collecting(self) -> Iterator[None]:
        """Note that writing failed here, for all ranks to learn it when they next agree."""
        try:
            yield
        except Exception as error:
            if not _is_about_writing(error):
                raise
            self._write_errors.append(_explain(error, self.args.output_dir))

    def _collect(self, function: Callable[..., Any], *args: Any) -> None:
        with self._collecting():
            function(*args)

    def _agree_on_errors(self) -> str:
        """Return what went wrong on the first rank where something did; all must call it."""
        # What the system says is clearer than what a library makes of it.
        clear = [error for error in self._write_errors if "Errno" in error]
        here = [*clear, *self._write_errors, ""][0]
        if self.args.world_size == 1:
            return here
        everywhere: list[Any] = [None] * self.args.world_size
        torch.distributed.all_gather_object(everywhere, here)
        return next((problem for problem in everywhere if problem), "")


class _CollectingEngine:
    """DeepSpeed's writer of files, that lets all ranks come to the end of a save that fails."""

    def __init__(self, engine: Any, trainer: SavingTrainer):
        self._engine, self._trainer = engine, trainer

    def save(self, state_dict: Any, path: str) -> None:
        self._trainer._collect(self._engine.save, state_dict, path)
        failpoint.reach("checkpoint.shard.after")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def _ranks_of_this_node() -> int:
    """Ranks that share this node's memory, as torchrun and launch.py say; 1 if nobody says."""
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _explain(error: Exception, output_dir: str) -> str:
    """Say in one line why writing failed: in the system's words where a library hides them.

    Of a full disk, torch's writer (2.13) tells positions in its file. A little more, written there
    while the torso still takes the room, finds the reason.
    """
    line = str(error).strip().splitlines()[0]
    if isinstance(error, OSError) or "os error" in line:
        return line
    try:
        with tempfile.TemporaryFile(dir=output_dir) as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as reason:
        return f"{reason} ({output_dir})"
    return line


def _is_about_writing(error: Exception) -> bool:
    """Tell a disk that is full or away from a mistake in the program.

    torch.save of a full disk raises a RuntimeError of its C++ writer, safetensors its own class.
    """
    if isinstance(error, OSError):
        return True
    words = ("inline_container", "PytorchStreamWriter", "os error", "iostream error")
    return any(word in str(error) for word in words)
