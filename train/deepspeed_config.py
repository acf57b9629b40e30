"""Reads a DeepSpeed configuration before DeepSpeed does, and says what cannot work with it.

Standard library only: on the login node by ``check_trials.py``, on the compute node before anything
slow is imported. The rules are those of DeepSpeed 0.19, transformers 5.23 and accelerate 1.15, each
with the file that it was read in. What is not covered: the values within sections that we have no
arguments for (DeepSpeed checks them), and whether a model fits.
"""

from __future__ import annotations

import difflib
import functools
import json
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from arguments import Arguments
    from machine import Machine

# deepspeed/runtime/config.py and the modules that it reads sections with.
KNOWN_KEYS = (
    "activation_checkpointing",
    "aio",
    "autotuning",
    "bf16",
    "bfloat16",
    "checkpoint",
    "comet",
    "comms_logger",
    "communication_data_type",
    "compile",
    "csv_monitor",
    "data_efficiency",
    "data_parallel_size",
    "data_types",
    "dataloader_drop_last",
    "datastates_ckpt",
    "disable_allgather",
    "disable_python_gc",
    "dump_state",
    "expert_parallel",
    "flops_profiler",
    "fp16",
    "gradient_accumulation_steps",
    "gradient_allreduce_op",
    "gradient_clipping",
    "gradient_predivide_factor",
    "hybrid_engine",
    "log_level",
    "managed_gradient_accumulation",
    "memory_breakdown",
    "optimizer",
    "pipeline",
    "prescale_gradients",
    "scheduler",
    "seq_parallel_communication_data_type",
    "sequence_parallel_size",
    "steps_per_print",
    "tensor_parallel",
    "tensorboard",
    "timers",
    "torch_autocast",
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "use_data_before_expert_parallelism",
    "vocabulary_size",
    "wall_clock_breakdown",
    "wandb",
    "weight_quantization",
    "zero_allow_untested_optimizer",
    "zero_force_ds_cpu_optimizer",
    "zero_optimization",
)
# No key of DeepSpeed, or no longer one (its config.py refuses those), and what to write instead.
_INSTEAD = {
    "tensor_model_parallel_size": "it is tensor_parallel: {autotp_size: N}",
    "tensor_parallel_size": "it is tensor_parallel: {autotp_size: N}",
    "pipeline_model_parallel_size": "pipelines are built in the program (PipelineModule), and "
    "train/main.py has none; remove it",
    "pipeline_parallel_size": "pipelines are built in the program (PipelineModule), and "
    "train/main.py has none; remove it",
    "micro_batch_size": "it is train_micro_batch_size_per_gpu",
    "amp": "use fp16, bf16 or torch_autocast",
    "compression_training": "it was removed from DeepSpeed",
    "curriculum_learning": "it was removed from DeepSpeed",
    "eigenvalue": "it was removed from DeepSpeed",
    "elasticity": "it was removed from DeepSpeed",
    "graph_harvesting": "it was removed from DeepSpeed",
    "nebula": "it was removed from DeepSpeed",
    "progressive_layer_drop": "it was removed from DeepSpeed",
    "quantize_training": "it was removed from DeepSpeed",
    "sparse_attention": "it was removed from DeepSpeed",
    "sparse_gradients": "it was removed from DeepSpeed",
}
_STAGES = (0, 1, 2, 3)
_SECTIONS = ("zero_optimization", "bf16", "fp16", "tensor_parallel", "pipeline")


def zero_stage(path: str) -> int | None:
    """Say which ZeRO stage the configuration at ``path`` asks for.

    Args:
        path: The file of ``--deepspeed``, or ``none``.

    Returns:
        0 to 3; 0 for ``none`` and for a configuration without ZeRO; None if the file cannot be read
        or says something else: then it is not known.
    """
    if path == "none":
        return 0
    found = _read(path)
    if not isinstance(found, dict):
        return None
    zero = found.get("zero_optimization", {})
    stage = zero.get("stage", 0) if isinstance(zero, dict) else None
    return stage if stage in _STAGES and not isinstance(stage, bool) else None


def model_ranks(path: str) -> int:
    """Say how many ranks share one copy of the model (tensor parallel); 1 if that is not known."""
    found = _read(path) if path != "none" else None
    size = _section(found, "tensor_parallel").get("autotp_size") if isinstance(found, dict) else 1
    return size if isinstance(size, int) and not isinstance(size, bool) and size > 1 else 1


def find_mistakes(arguments: Arguments, machine: Machine) -> Iterator[str]:
    """Say what cannot work, a line each; what is unknown of the machine is no mistake."""
    path = arguments.deepspeed
    if path == "none":
        return
    config = _read(path)
    if not isinstance(config, dict):
        yield f"--deepspeed={path}{config}"
        return
    for place, words in (
        *_structure(config),
        *_zero(config),
        *_precision(config, arguments, machine),
        *_batch(config, arguments, machine),
        *_overridden(config, arguments),
    ):
        yield f"--deepspeed={path}: {place}: {words}"


def _read(path: str) -> dict[str, Any] | str:
    """Return the configuration, or in words, after the file's name, why there is none."""
    try:
        stat = os.stat(path)
    except OSError:
        return ": no such file; or use none"
    return _read_version(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=64)
def _read_version(path: str, mtime_ns: int, size: int) -> dict[str, Any] | str:
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file, object_pairs_hook=_refuse_twice)
    except json.JSONDecodeError as error:
        return f":{error.lineno}: not JSON: {error.msg} (column {error.colno})"
    except RecursionError:
        return ": not a configuration: nested too deeply"
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return f": cannot be read: {reason}"
    return config if isinstance(config, dict) else ": not a JSON object; write {...}"


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object; DeepSpeed refuses a key that stands twice (runtime/config_utils.py)."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(k for k in keys if keys.count(k) > 1)} stands there twice")
    return found


def _structure(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key in config:
        if key in _INSTEAD:
            yield key, f"no key of DeepSpeed: {_INSTEAD[key]}"
        elif key not in KNOWN_KEYS:
            near = difflib.get_close_matches(key, KNOWN_KEYS, n=1)
            hint = f"did you mean {near[0]}?" if near else "remove it"
            yield key, f"no key of DeepSpeed, which would ignore it; {hint}"
    for key in _SECTIONS:
        if key in config and not isinstance(config[key], dict):
            yield key, f"{json.dumps(config[key])} is not allowed; use an object {{...}}"


def _zero(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    zero = _section(config, "zero_optimization")
    stage = zero.get("stage", 0)
    if stage not in _STAGES or isinstance(stage, bool):
        yield "zero_optimization.stage", f"{json.dumps(stage)} is not allowed; use 0, 1, 2 or 3"
        return
    pipeline = _section(config, "pipeline").get("stages", 1)
    if stage >= 2 and pipeline not in (0, 1, "auto"):
        # deepspeed/runtime/pipe/engine.py: stage < ZeroStageEnum.gradients
        yield (
            "zero_optimization.stage",
            f"{stage} is refused by DeepSpeed with pipeline parallelism; use stage 0 or 1, or no "
            "pipeline",
        )
    if _device(zero, "offload_param") and stage != 3:
        yield (
            "zero_optimization.offload_param",
            f"only stage 3 partitions parameters, and this is {stage}; use 3, or remove it",
        )
    if _device(zero, "offload_optimizer") and stage == 0:
        yield (
            "zero_optimization.offload_optimizer",
            "there is no optimizer state to offload with stage 0; use 1, 2 or 3, or remove it",
        )
    for key in ("offload_param", "offload_optimizer"):
        if _device(zero, key) == "nvme" and not zero[key].get("nvme_path"):
            yield f"zero_optimization.{key}", "device nvme needs an nvme_path"
    ratio = _section(zero, "offload_optimizer").get("ratio", 1.0)
    if _is_number(ratio) and ratio < 1 and stage != 3:  # runtime/zero/config.py
        yield "zero_optimization.offload_optimizer.ratio", "partial offloading needs stage 3"


def _precision(
    config: Mapping[str, Any], arguments: Arguments, machine: Machine
) -> Iterator[tuple[str, str]]:
    bf16 = _section(config, "bf16").get("enabled", None)
    fp16 = _section(config, "fp16").get("enabled", None)
    if bf16 is True and fp16 is True:  # runtime/config.py
        yield "fp16.enabled", "and bf16.enabled: DeepSpeed takes one; set one to false"
        return
    if fp16 is True and machine.has_gpu is False:
        yield "fp16.enabled", "needs a GPU; use bf16, or false"
        return
    # transformers refuses what is neither "auto" nor what its own arguments say.
    for name, enabled in (("bf16", bf16), ("fp16", fp16)):
        wanted = arguments.precision == name
        if arguments.precision == "auto":  # bf16 on a GPU that has it, else fp32
            if name == "bf16" and enabled is True and machine.has_gpu is False:
                yield "bf16.enabled", "true, but without a GPU auto is fp32; give --precision=bf16"
            if name == "fp16" and enabled is True:
                yield "fp16.enabled", "true, but --precision=auto is never fp16; give it"
        elif isinstance(enabled, bool) and enabled != wanted:
            yield (
                f"{name}.enabled",
                f'{json.dumps(enabled)} contradicts --precision={arguments.precision}; use "auto"',
            )


def _batch(
    config: Mapping[str, Any], arguments: Arguments, machine: Machine
) -> Iterator[tuple[str, str]]:
    world = machine.world_size
    batch, steps = arguments.batch_size, arguments.gradient_accumulation_steps
    micro: int | None = arguments.micro_batch_size or None
    if world and not _section(config, "tensor_parallel").get("autotp_size"):
        if micro:
            steps = batch // (micro * world)
        else:
            micro = batch // (steps * world)
    ours = {
        "train_batch_size": (batch, "--batch_size"),
        "train_micro_batch_size_per_gpu": (micro, "the micro-batch of our arguments"),
        "gradient_accumulation_steps": (
            None if arguments.micro_batch_size and not world else steps,
            "the accumulation of our arguments",
        ),
        "gradient_clipping": (arguments.max_grad_norm, "--max_grad_norm"),
    }
    for key, (value, words) in ours.items():
        found = config.get(key, "auto")
        if found == "auto" or value is None:
            continue
        if not _is_number(found) or found != value:
            yield key, f'{json.dumps(found)} is not {value:g}, {words}; use "auto"'
    numbers = [config.get(key) for key in list(ours)[:3]]
    if world and all(_is_number(number) for number in numbers):
        whole, per_device, passes = numbers
        if whole != per_device * passes * world:
            yield (
                "train_batch_size",
                f"{whole} is not {per_device} x {passes} accumulated x {world} ranks = "
                f'{per_device * passes * world}; use "auto"',
            )


def _overridden(config: Mapping[str, Any], arguments: Arguments) -> Iterator[tuple[str, str]]:
    """Find what would train instead of what the arguments say."""
    for key, argument in (("optimizer", "optimizer"), ("scheduler", "lr_schedule")):
        if config.get(key):  # transformers, integrations/deepspeed.py: deepspeed_optim_sched
            value = getattr(arguments, argument)
            yield (
                key,
                f"would train instead of --{argument}={value}, whatever the sweep says; remove it",
            )
    zero = _section(config, "zero_optimization")
    is_forced = config.get("zero_force_ds_cpu_optimizer", True)
    if _device(zero, "offload_optimizer") and is_forced and arguments.optimizer != "adamw":
        # accelerate, utils/deepspeed.py: map_pytorch_optim_to_deepspeed
        yield (
            "zero_force_ds_cpu_optimizer",
            f"with offload_optimizer DeepSpeed's Adam would train instead of --optimizer="
            f"{arguments.optimizer}; set it to false",
        )


def _section(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = config.get(key)
    return found if isinstance(found, dict) else {}


def _device(zero: Mapping[str, Any], key: str) -> str:
    """Return where something is offloaded to, empty for nowhere."""
    device = _section(zero, key).get("device", "none")
    return "" if device in ("none", None) else str(device)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
