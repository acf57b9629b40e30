"""How a model computes: number formats, attention, compiling, and what fp16 needs on its way.

The formats: fp32 as torch does it; tf32 (fp32 weights, matrix products of 10-bit mantissas); bf16
and fp16 (fp32 weights, 16-bit arithmetic by autocast, or DeepSpeed's own); fp8 (like bf16, but the
linear layers' products in 8 bits by torchao, scaled per tensor and step).

Measured by tests on a CPU: fp32, bf16, the scaler's bookkeeping, fp8's rounding (emulated). tf32,
fp16 and fp8 on a GPU are written from the libraries' sources and not measured yet.

Called by ``main.py`` and ``trainer.py`` on the compute node.
"""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

if TYPE_CHECKING:
    from arguments import Arguments
    from trainer import TrialTrainer

# What torchao's scaled matrix product asks of a layer's two sizes (torch._scaled_mm).
FP8_MULTIPLE_OF = 16
# Names of ``--attention`` that transformers calls otherwise.
_ATTENTION_NAMES = {"flex": "flex_attention"}


def resolve_precision(name: str) -> str:
    """Return the precision that ``auto`` means here: bf16 on a GPU that has it, else fp32."""
    if name != "auto":
        return name
    # Without emulation, which torch counts in by default: it is slower than fp32.
    has_bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if has_bf16 else "fp32"


def precision_settings(arguments: Arguments) -> dict[str, Any]:
    """Return what of ``TrainingArguments`` depends on precision, memory levers and compiling.

    transformers turns TF32 on by itself when a model is compiled, unless told otherwise; fp32 shall
    mean fp32.
    """
    name = resolve_precision(arguments.precision)
    is_told = name == "tf32" or (name == "fp32" and arguments.compile)
    return {
        "bf16": name in ("bf16", "fp8"),
        "fp16": name == "fp16",
        "tf32": (name == "tf32") if is_told else None,
        "torch_compile": arguments.compile,
        "activation_checkpointing": arguments.gradient_checkpointing,
    }


def prepare_model(model: torch.nn.Module, arguments: Arguments) -> torch.nn.Module:
    """Set a model's attention and convert its layers, before an optimizer takes its parameters."""
    if arguments.attention != "auto":
        name = _ATTENTION_NAMES.get(arguments.attention, arguments.attention)
        model.set_attn_implementation(name)  # type: ignore[operator]
    if resolve_precision(arguments.precision) == "fp8":
        convert_to_fp8(model)
    return model


def convert_to_fp8(model: torch.nn.Module, *, emulate: bool = False) -> int:
    """Let linear layers multiply in fp8; weights, optimizer and checkpoints stay as they are.

    The output layer stays in 16 bits, as usual: its errors go straight into the loss; so do layers
    whose sizes the kernels cannot take, and experts that are held in one tensor (DeepSeek-V3),
    which are no linear layers.

    Args:
        model: Changed in place.
        emulate: Round as fp8 does but multiply in fp32: for tests without a GPU.

    Returns:
        The number of layers converted.
    """
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training  # lazy: 2 s

    head = getattr(model, "get_output_embeddings", lambda: None)()

    def is_chosen(module: torch.nn.Module, name: str) -> bool:
        sizes = getattr(module, "in_features", 1), getattr(module, "out_features", 1)
        return module is not head and all(size % FP8_MULTIPLE_OF == 0 for size in sizes)

    n_before = sum(_is_fp8(module) for module in model.modules())
    convert_to_float8_training(
        model, module_filter_fn=is_chosen, config=Float8LinearConfig(emulate=emulate)
    )
    return sum(_is_fp8(module) for module in model.modules()) - n_before


def _is_fp8(module: torch.nn.Module) -> bool:
    return type(module).__name__ == "Float8Linear"


class ScalerCallback(TrainerCallback):
    """Counts the steps that fp16's scaler skips.

    fp16 scales the loss so that small gradients do not vanish, starts too high on purpose, and
    where gradients overflow skips the step and halves the scale. Such a step counts as one of
    ``max_steps`` and has used up its examples, but moved neither weights nor learning rate; the
    trial reports how many there were. ``guard`` decides when they are a divergence.
    """

    def __init__(self, trainer: TrialTrainer):
        """Bind to the trainer that this callback is added to."""
        self.trainer = trainer

    def on_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Look at the step that was just done or skipped; alike on all ranks."""
        if self.trainer.accelerator.optimizer_step_was_skipped:
            self.trainer.progress["n_skipped_steps"] += 1


def hide_deepspeed() -> None:
    """Let each rank build or read the whole model in the host's memory, under ZeRO 3, too.

    DeepSpeed shares it out when training begins. transformers (5.23) would share it out while it
    reads, but before the Trainer has told DeepSpeed of the ranks: it counts one, and refuses the
    batch. Telling it earlier is untried; a model larger than the host's memory would need it.
    """
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config  # lazy, as deepspeed

    unset_hf_deepspeed_config()


def show_deepspeed(arguments: TrainingArguments) -> None:
    """Undo ``hide_deepspeed`` once the model is there."""
    config = getattr(arguments, "hf_deepspeed_config", None)
    if config is not None:
        from transformers.integrations.deepspeed import set_hf_deepspeed_config  # lazy, likewise

        set_hf_deepspeed_config(config)


def watch_norm_of_stage_0(engine: Any) -> None:
    """Let a DeepSpeed engine of stage 0 remember the gradients' norm as those of other stages do.

    DeepSpeed 0.19 drops the norm that its clipping has just computed when neither ZeRO nor 16-bit
    arithmetic is on, and the reported curve would lack it.
    """
    from deepspeed.runtime.utils import clip_grad_norm_  # lazy: with DeepSpeed only

    def clip() -> None:
        engine._global_grad_norm = clip_grad_norm_(
            parameters=engine.module.parameters(),
            max_norm=engine.gradient_clipping(),
            mpu=engine.mpu,
        )

    engine.clip_fp32_gradients = functools.wraps(engine.clip_fp32_gradients)(clip)


def hush_deprecations() -> None:
    """Keep DeepSpeed 0.19's calls of names that torch 2.13 deprecates from filling the log."""
    warnings.filterwarnings(
        "ignore", message="`torch.distributed.*is deprecated", category=FutureWarning
    )
