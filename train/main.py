"""Trains a model as one trial: ``python train/main.py --learning_rate=1e-4 --batch_size=32 ...``.

Runs on the compute node, from the project's root, alone or as one rank of several (``launch.py``
or torchrun). Exit codes: 0 done, 75 checkpointed (run me again), 2 a mistake in the arguments, the
data or the model, 65 diverged, 1 anything else.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from arguments import ArgumentMistake, Arguments, parse_arguments, refuse_mistakes
from guard import EXIT_DIVERGED
from launch import EXIT_CHECKPOINTED, is_first_to_say
from machine import Machine
from plans import BatchPlan, StepPlan, choose_threads, plan_batch, plan_steps

try:
    from orchestrator.runtime import session
except ModuleNotFoundError:  # not installed: the project's root holds the package
    sys.path.append(str(Path(__file__).resolve().parent.parent))
    from orchestrator.runtime import session

import log_noise
from checkpoints import AgreedMistake, CheckpointFailure, LoadFailed
from identity import describe_training

if TYPE_CHECKING:
    from data import Data
    from resuming import Chosen
    from trainer import TrialTrainer
    from transformers import TrainingArguments


def main(argv: list[str]) -> None:
    """Run one trial and exit."""
    # First, before the slow imports: a signal must find a handler.
    session.install_signal_handlers()
    try:
        arguments = _complete(parse_arguments(argv))
        plan_batch(arguments, _world_size(), session.micro_batch_divisor())
        _prepare_environment(arguments)
        _hide_unused_packages(arguments)
        log_noise.hush(is_fp8=arguments.precision == "fp8")
        _train(arguments)
    except AgreedMistake as error:
        _say(error)
        _leave(2)
    except ArgumentMistake as error:
        _say(error, by_all=False)
        _leave(2, with_all=False)
    except CheckpointFailure as error:
        is_known_to_all = not isinstance(error, LoadFailed)
        _say(error, by_all=is_known_to_all)
        _leave(1, with_all=is_known_to_all)


def _complete(arguments: Arguments) -> Arguments:
    """Fill in what depends on the trial: seed and output directory."""
    seed = arguments.seed if arguments.seed >= 0 else session.seed() or 0
    output_dir = arguments.output_dir or session.checkpoint_dir() or "output"
    return dataclasses.replace(arguments, seed=seed, output_dir=output_dir)


def _world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _prepare_environment(arguments: Arguments) -> None:
    """Set what libraries read when they are imported."""
    threads = choose_threads(arguments, os.environ, is_trial=session.is_trial())
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # compute nodes have no way out; do not try
    if arguments.deepspeed != "none" and "RANK" not in os.environ:
        # DeepSpeed would look for MPI.
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        os.environ.update(
            RANK="0",
            LOCAL_RANK="0",
            WORLD_SIZE="1",
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
        )


def _hide_unused_packages(arguments: Arguments) -> None:
    """Keep transformers and peft from importing what this trial has no use for.

    They import these wherever they are installed, which is half of a plain start-up, and of LoRA's
    more than half; None in ``sys.modules`` says they are not.
    """
    for name in _find_unused_packages(arguments):
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]


def _find_unused_packages(arguments: Arguments) -> list[str]:
    """Name the packages that transformers and peft would import, and are not asked to use."""
    is_own = not os.path.isdir(arguments.model)
    has_directories = any(map(os.path.isdir, (arguments.data, arguments.eval_data)))
    is_quantized = arguments.finetuning == "qlora" or _is_quantized(arguments.model)
    is_used = {
        "deepspeed": arguments.deepspeed != "none",
        "datasets": not is_own or has_directories,
        "scipy": not is_own or has_directories,
        "peft": arguments.finetuning != "full",
        "bitsandbytes": is_quantized or bool(arguments.eval_quantized),
        "torchao": is_quantized or arguments.precision == "fp8",
    }
    return [name for name, used in is_used.items() if not used]


def _is_quantized(model: str) -> bool:
    """Tell whether a model's directory says that its weights are quantised."""
    path = Path(model, "config.json")
    return path.is_file() and "quantization_config" in path.read_text(errors="replace")


def _train(arguments: Arguments) -> None:
    """Set up, take up the newest checkpoint, train, and leave with an exit code."""
    _import_torch(arguments)
    from data import load_data

    data = load_data(arguments)
    _leave_early()
    _import_trainer()
    from resuming import choose_checkpoint
    from training_arguments import make_training_arguments

    plan = plan_steps(arguments, len(data.train))
    batch = plan_batch(arguments, _world_size(), session.micro_batch_divisor())
    training_arguments = make_training_arguments(arguments, batch, plan, arguments.output_dir)
    identity = describe_training(arguments, data, batch.world_size, os.environ)
    chosen = choose_checkpoint(Path(arguments.output_dir), identity, training_arguments)
    trainer = _set_up(arguments, data, plan, training_arguments)
    trainer.identity, trainer.refused_steps = identity, chosen.refused_steps
    if trainer.is_world_process_zero():
        _say_what_is_trained(trainer, batch)
    _leave(_run(trainer, chosen))


def _import_torch(arguments: Arguments) -> None:
    """Import torch, only after the arguments were checked; then check what it knows.

    Slow imports are two thirds of a short trial's time. They make millions of objects and next to
    no garbage: collecting costs a fifth of their time, so it begins after ``_import_trainer``.
    """
    gc.disable()
    import torch

    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit():
        torch.set_num_threads(int(threads))
    if not torch.cuda.is_available() and arguments.deepspeed != "none":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    has_gpu = torch.cuda.is_available()
    capability = torch.cuda.get_device_capability() if has_gpu else None
    refuse_mistakes(arguments, Machine(_world_size(), has_gpu, capability, is_here=True))
    if arguments.deepspeed != "none" and not torch.cuda.is_available():
        _skip_unused_build()


def _skip_unused_build() -> None:
    """Keep DeepSpeed (0.19) from compiling, on CPUs, all-reduces that only inference uses.

    It would take 30 s at the first start on a machine, and a kill in its midst leaves a lock file
    on which all later starts wait without end.
    """
    import deepspeed.ops

    # It looks this up when it joins the ranks; probing all others runs the compiler, too.
    deepspeed.ops.__compatible_ops__ = {"deepspeed_shm_comm": False}


def _import_trainer() -> None:
    """Import transformers and what builds on it: after the data, whose mistakes come sooner."""
    is_new = "trainer" not in sys.modules
    import trainer  # noqa: F401

    log_noise.hush_progress_bars()
    if is_new:  # else there are trainings of this process that must be collected
        gc.freeze()
    gc.enable()


def _set_up(
    arguments: Arguments, data: Data, plan: StepPlan, training_arguments: TrainingArguments
) -> TrialTrainer:
    """Build the model and the trainer around it."""
    import torch
    from models import build_model
    from trainer import TrialTrainer

    if plan.warmup_steps >= plan.max_steps:
        sys.stderr.write(
            f"warning: {plan.warmup_steps} warm-up steps of {plan.max_steps}: the learning rate "
            "does not reach its peak\n"
        )
    torch.manual_seed(arguments.seed)
    model = build_model(arguments, data)
    return TrialTrainer(arguments, training_arguments, model, data, plan)


def _say_what_is_trained(trainer: TrialTrainer, batch: BatchPlan) -> None:
    arguments, data = trainer.arguments, trainer.data
    n_parameters = sum(p.numel() for p in trainer.model.parameters())
    sys.stderr.write(
        f"{arguments.model}: {n_parameters:,} parameters; {len(data.train)} {data.task.rows} "
        f"to train on, {len(data.eval)} to evaluate; effective batch {arguments.batch_size} = "
        f"{batch.per_device} x {batch.accumulation} accumulated x {batch.data_ranks} ranks; "
        f"{trainer.args.max_steps} steps\n"
    )


def _run(trainer: TrialTrainer, chosen: Chosen) -> int:
    """Train from the checkpoint on, and report the end; return the exit code."""
    from evaluation import EvaluationStopped
    from trainer import Diverged

    try:
        trainer.resume(chosen)
        trainer.train(resume_from_checkpoint=str(chosen.path) if chosen.path else None)
        if not trainer.is_preempted:
            trainer.finish()
    except EvaluationStopped:
        trainer.is_preempted = True
    except Diverged as error:
        _say(error)
        return EXIT_DIVERGED
    return EXIT_CHECKPOINTED if trainer.is_preempted else 0


def _say(error: Exception, *, by_all: bool = True) -> None:
    """Write one line; the first rank speaks for all where all know of it."""
    is_mine = os.environ.get("RANK", "0") == "0" if by_all else is_first_to_say(str(error))
    if is_mine:
        sys.stderr.write(f"train/main.py: {error}\n")


def _leave(code: int, *, with_all: bool = True) -> None:
    """End the program, all ranks together if they can; alone and with 0 just return."""
    torch = sys.modules.get("torch")  # not worth importing only to end
    if torch and torch.distributed.is_available() and torch.distributed.is_initialized():
        # All ranks are here. gloo's threads, left to the interpreter's end or destroyed, abort
        # now and then a rank that is done ("terminate called without an active exception", torch
        # 2.13); nothing is open any more, so leave without an end.
        if with_all:
            torch.distributed.barrier()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    if code:
        sys.exit(code)


def _leave_early() -> None:
    """Leave at once if told to stop before there is anything to save; alone, nobody waits."""
    if session.should_stop() and _world_size() == 1:
        session.exit_for_requeue()


if __name__ == "__main__":
    main(sys.argv[1:])
