"""Trains a model as one trial: ``python train/main.py --learning_rate=1e-4 --batch_size=32 ...``.

Runs on the compute node, from the project's root, alone or as one rank of several (``launch.py``
or torchrun). Exit codes: 0 done, 75 checkpointed (run me again), 2 a mistake in the arguments, the
data or the model, 1 anything else, such as a loss that is not finite.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import socket
import sys
from pathlib import Path

from arguments import ArgumentMistake, Arguments, fail, parse_arguments, refuse_mistakes
from launch import EXIT_CHECKPOINTED
from machine import Machine
from plans import choose_threads, plan_batch, plan_steps

try:
    from orchestrator.runtime import session
except ModuleNotFoundError:  # not installed: the project's root holds the package
    sys.path.append(str(Path(__file__).resolve().parent.parent))
    from orchestrator.runtime import session


def main(argv: list[str]) -> None:
    """Run one trial and exit."""
    # First, before the slow imports: a signal must find a handler.
    session.install_signal_handlers()
    try:
        arguments = _complete(parse_arguments(argv))
        plan_batch(arguments, _world_size(), session.micro_batch_divisor())
        _prepare_environment(arguments)
        _hide_unused_packages(arguments)
        _train(arguments)
    except ArgumentMistake as error:
        fail(str(error), 2)


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
    """Keep transformers from importing what this trial has no use for: 0.5 s each time.

    It imports these wherever they are installed; None in ``sys.modules`` says they are not.
    """
    if arguments.deepspeed == "none":
        sys.modules.setdefault("deepspeed", None)  # type: ignore[arg-type]
    is_own = not os.path.isdir(arguments.model)
    if is_own and not os.path.isdir(arguments.data) and not os.path.isdir(arguments.eval_data):
        sys.modules.setdefault("datasets", None)  # type: ignore[arg-type]
        sys.modules.setdefault("scipy", None)  # type: ignore[arg-type]


def _train(arguments: Arguments) -> None:
    # Slow imports, two thirds of a short trial's time: only after the arguments were checked.
    # They make millions of objects and next to no garbage: collecting costs a fifth of their time.
    gc.disable()
    import torch

    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit():
        torch.set_num_threads(int(threads))
    if not torch.cuda.is_available() and arguments.deepspeed != "none":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    refuse_mistakes(arguments, Machine(_world_size(), torch.cuda.is_available()))
    import checkpoints
    from data import load_data
    from evaluation import EvaluationStopped
    from models import build_model

    data = load_data(arguments)
    _leave_early()
    import trainer as trainers
    from training_arguments import make_training_arguments

    gc.freeze()
    gc.enable()
    plan = plan_steps(arguments, len(data.train))
    if plan.warmup_steps >= plan.max_steps:
        sys.stderr.write(
            f"warning: {plan.warmup_steps} warm-up steps of {plan.max_steps}: the learning rate "
            "does not reach its peak\n"
        )
    batch = plan_batch(arguments, _world_size(), session.micro_batch_divisor())
    output_dir = Path(arguments.output_dir)
    training_arguments = make_training_arguments(arguments, batch, plan, arguments.output_dir)
    torch.manual_seed(arguments.seed)
    model = build_model(arguments, data)
    trainer = trainers.TrialTrainer(arguments, training_arguments, model, data, plan)
    is_first_rank = trainer.is_world_process_zero()
    if is_first_rank:
        n_parameters = sum(p.numel() for p in model.parameters())
        sys.stderr.write(
            f"{arguments.model}: {n_parameters:,} parameters; {len(data.train)} dialogues to train "
            f"on, {len(data.eval)} to evaluate; effective batch {arguments.batch_size} = "
            f"{batch.per_device} x {batch.accumulation} accumulated x {batch.world_size} ranks; "
            f"{plan.max_steps} steps\n"
        )
    found = [checkpoints.find_newest(output_dir) if is_first_rank else None]
    if batch.world_size > 1:  # rank 0 decides: a file system may show others an older state
        torch.distributed.broadcast_object_list(found)
    checkpoint, step = found[0] or (None, 0)
    if checkpoint:
        trainer.load_progress(checkpoint)
    if is_first_rank:
        if checkpoint:
            sys.stderr.write(f"resuming from {checkpoint}\n")
        trainer.rewind_reports(step)
    code = 0
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if not trainer.is_preempted:
            trainer.report_end()
    except EvaluationStopped:
        trainer.is_preempted = True
    except trainers.NonFiniteLoss as error:
        sys.stderr.write(f"train/main.py: {error}\n")
        code = 1
    if trainer.is_preempted:
        code = EXIT_CHECKPOINTED
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        # All ranks are here. gloo's threads, left to the interpreter's end or destroyed, abort
        # now and then a rank that is done ("terminate called without an active exception", torch
        # 2.13); nothing is open any more, so leave without an end.
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
