"""Low-rank adapters by peft: put on a base model, saved, loaded and merged.

LoRA: arXiv 2106.09685; QLoRA (a base of 4-bit NF4 numbers, by bitsandbytes): arXiv 2305.14314.

Covered: linear layers, and experts that are held in one tensor (DeepSeek-V3, Mixtral), there
without dropout and without DoRA. Not covered: experts in 4 bits; bitsandbytes quantises linear
layers alone, so the routed experts of a mixture stay in fp32 with qlora, and its other layers of
a name that the experts have too (gate_proj, up_proj, down_proj) get no adapter then.

Runs on the compute node. peft and bitsandbytes are imported by what needs them, and only then: a
full training has no use for their 1.5 s.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from arguments import ArgumentMistake, Arguments
from precision import resolve_precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from peft import PeftModel
    from transformers import BitsAndBytesConfig, PreTrainedModel

BASE_FILE = "base.json"
# Of a larger tensor, its first and last part of so many elements are fingerprinted.
_MAX_WHOLE = 2**16
_PART = 2**12
# transformers 5 holds the experts' projections of these names in one tensor for each, or joined
# ("gate_up_proj"); peft (0.21) takes such a name as the experts' and leaves linear layers of that
# name without an adapter. Named as parameters they get theirs.
_EXPERT_LEAVES = ("gate_proj", "up_proj", "down_proj")


class OtherBase(ArgumentMistake):
    """A checkpoint's adapters belong to another base model."""


@dataclasses.dataclass(frozen=True)
class Targets:
    """What gets an adapter, by full names."""

    modules: list[str]
    """Linear layers."""
    parameters: list[str]
    """Tensors that are adapted as such: experts in one tensor, and layers beside them."""
    left_out: list[str]
    """Linear layers that cannot have one."""


def adapt(model: PreTrainedModel, arguments: Arguments) -> PeftModel:
    """Freeze a base model and put fresh adapters on it.

    Fresh adapters change nothing: their second matrix is zero. The first one comes from torch's
    generator, so seed it first.

    Raises:
        ArgumentMistake: ``--lora_targets`` names nothing in this model, or something that cannot
            have such an adapter.
    """
    # Lazy: see the module's docstring.
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    targets = choose_targets(model, arguments)
    fingerprint = fingerprint_base(model)
    if arguments.finetuning == "qlora":
        # Norms in fp32, gradients through a base that has none; the Trainer does the checkpointing.
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    if arguments.gradient_checkpointing:
        # Recomputed layers need an input with a gradient, which a frozen embedding has not.
        model.enable_input_require_grads()
    config = LoraConfig(
        r=arguments.lora_rank,
        lora_alpha=arguments.lora_alpha,  # type: ignore[arg-type] # floats are fine
        lora_dropout=arguments.lora_dropout,
        target_modules=targets.modules,
        target_parameters=targets.parameters or None,
        use_rslora=arguments.lora_variant == "rslora",
        use_dora=arguments.lora_variant == "dora",
        task_type=_task_type(model),
    )
    adapted = get_peft_model(model, config)
    adapted.base_fingerprint = fingerprint
    adapted.base_name = f"{arguments.model}, seed {arguments.seed}"
    return adapted


def is_adapted(model: Any) -> bool:
    """Whether a model has adapters, without importing peft."""
    return hasattr(model, "base_fingerprint")


def _task_type(model: PreTrainedModel) -> str:
    # Of a classifier, peft trains and saves the new head as a whole.
    is_classifier = type(model).__name__.endswith("ForSequenceClassification")
    return "SEQ_CLS" if is_classifier else "CAUSAL_LM"


def choose_targets(model: PreTrainedModel, arguments: Arguments) -> Targets:
    """Choose what gets an adapter; see ``adapt`` for what it raises."""
    head = model.get_output_embeddings()
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head and name != "score"
    ]
    experts = [name for name, p in model.named_parameters() if p.ndim == 3]
    if arguments.lora_targets != "auto":
        wanted = [word.strip() for word in arguments.lora_targets.split(",")]
        linear, experts = _named(wanted, linear, experts)
    beside = [n for n in linear if _has_experts(model) and n.rpartition(".")[2] in _EXPERT_LEAVES]
    modules = [name for name in linear if name not in beside]
    parameters = [*experts, *(f"{name}.weight" for name in beside)]
    if arguments.finetuning == "qlora":
        _say_left_out(experts, beside)
        return Targets(modules, experts, beside)
    if parameters and (arguments.lora_dropout or arguments.lora_variant == "dora"):
        raise ArgumentMistake(
            f"--lora_targets={arguments.lora_targets}: {parameters[0]} is adapted as a tensor, for "
            "which peft knows neither --lora_dropout nor --lora_variant=dora; leave those out, or "
            f"name other layers, such as {modules[0].rpartition('.')[2] if modules else 'q_proj'}"
        )
    return Targets(modules, parameters, [])


def _has_experts(model: PreTrainedModel) -> bool:
    return any(parameter.ndim == 3 for parameter in model.parameters())


def _named(
    wanted: Sequence[str], linear: Sequence[str], experts: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Find what the user named; a name stands for all that end in it."""

    def matches(name: str) -> bool:
        return any(name == word or name.endswith(f".{word}") for word in wanted)

    for word in wanted:
        if not any(name == word or name.endswith(f".{word}") for name in (*linear, *experts)):
            leaves = sorted({name.rpartition(".")[2] for name in (*linear, *experts)})
            raise ArgumentMistake(
                f"--lora_targets: no layer's name ends in {word!r}; this model has "
                f"{', '.join(leaves)}"
            )
    return [n for n in linear if matches(n)], [n for n in experts if matches(n)]


def _say_left_out(experts: Sequence[str], beside: Sequence[str]) -> None:
    if experts:
        sys.stderr.write(
            f"warning: --finetuning=qlora: {len(experts)} tensors of experts stay in fp32, and "
            f"{len(beside)} 4-bit layers of the same names get no adapter\n"
        )


def quantization_config(arguments: Arguments) -> BitsAndBytesConfig:
    """Configure a base of 4-bit NF4 numbers that computes in the training's precision."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,  # 0.4 bits less per weight (QLoRA, section 3)
        bnb_4bit_compute_dtype=compute_dtype(arguments),
    )


def compute_dtype(arguments: Arguments) -> torch.dtype:
    """Return the type of numbers that 4-bit weights are unpacked to."""
    kinds = {"bf16": torch.bfloat16, "fp8": torch.bfloat16, "fp16": torch.float16}
    return kinds.get(resolve_precision(arguments.precision), torch.float32)


def quantize(model: PreTrainedModel, arguments: Arguments) -> PreTrainedModel:
    """Quantise a model that exists only in memory, such as a preset with its random start."""
    with tempfile.TemporaryDirectory(prefix="quantize-") as directory:
        model.save_pretrained(directory)
        quantized = type(model).from_pretrained(
            directory,
            local_files_only=True,
            dtype=torch.float32,
            quantization_config=quantization_config(arguments),
        )
    return train_in_four_bits(quantized)


def train_in_four_bits(model: PreTrainedModel) -> PreTrainedModel:
    """Keep the 4-bit weights as they are stored.

    On a CPU with AVX512-BF16, bitsandbytes (0.50) repacks them in place at the first evaluation,
    for a kernel that rounds otherwise and refuses layers whose width is no multiple of 32: what an
    evaluation touched would train on differently.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def fingerprint_base(model: torch.nn.Module) -> str:
    """Hash the weights of a base model: names, shapes, and numbers.

    Of a tensor above 65 536 elements its two ends are read, so that 70 billion parameters cost
    milliseconds; a base that differs only in between is not told apart. Under ZeRO 3 a rank sees
    its own shards.
    """
    digest = hashlib.sha256()
    for name, tensor in model.state_dict(keep_vars=True).items():
        here = getattr(tensor, "ds_tensor", tensor).detach().reshape(-1)
        digest.update(f"\0{name}\0{tuple(tensor.shape)}\0{here.dtype}\0".encode())
        parts = (here,) if here.numel() <= _MAX_WHOLE else (here[:_PART], here[-_PART:])
        for part in parts:
            digest.update(part.contiguous().view(torch.uint8).cpu().numpy().tobytes())
    return digest.hexdigest()[:32]


def save(model: PeftModel, directory: str, state_dict: dict[str, Any] | None) -> None:
    """Write the adapters, and which base they belong to; of the base, not a weight."""
    model.save_pretrained(directory, state_dict=state_dict, save_embedding_layers=False)
    (Path(directory) / "README.md").unlink(missing_ok=True)  # a form to fill in
    base = {"base": model.base_name, "fingerprint": model.base_fingerprint}
    (Path(directory) / BASE_FILE).write_text(json.dumps(base, indent=1))


def refuse_other_base(model: PeftModel, checkpoint: Path) -> None:
    """Check that the adapters of a checkpoint belong to this base.

    Raises:
        OtherBase: They were trained on other weights, or it holds no adapters.
    """
    try:
        saved = json.loads((checkpoint / BASE_FILE).read_text())
    except FileNotFoundError:
        raise OtherBase(
            f"{checkpoint}: has no adapters; give --finetuning as it was, or another --output_dir"
        ) from None
    if saved["fingerprint"] != model.base_fingerprint:
        raise OtherBase(
            f"{checkpoint}: its adapters belong to another base ({saved['base']}), this is "
            f"{model.base_name}; give that --model, --seed and --finetuning, or another "
            "--output_dir"
        )


def load(model: PeftModel, checkpoint: str) -> None:
    """Load the adapters of a checkpoint.

    Raises:
        OtherBase: It holds other layers' adapters.
    """
    from peft import get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict

    weights = load_peft_weights(checkpoint, device="cpu")
    own = get_peft_model_state_dict(model, save_embedding_layers=False)
    different = own.keys() ^ weights.keys()
    different |= {n for n in own.keys() & weights.keys() if own[n].shape != weights[n].shape}
    if different:
        raise OtherBase(
            f"{checkpoint}: its adapters are not those of this training, such as "
            f"{min(different)}; give --lora_rank and --lora_targets as they were"
        )
    set_peft_model_state_dict(model, weights)


def merge(model: PeftModel, probe: dict[str, torch.Tensor]) -> tuple[PreTrainedModel, float]:
    """Merge the adapters into a plain model; ``model`` is used up.

    A 4-bit base is unpacked first: merged into 4 bits, adapters would be rounded away.

    Args:
        model: The trained model.
        probe: A batch to compare on.

    Returns:
        The merged model, and the largest difference of its logits to those with the adapters
        apart, relative to the largest logit.
    """
    from peft import PeftModel

    model.eval()
    before = _logits(model, probe)
    if getattr(model, "is_loaded_in_4bit", False):
        with tempfile.TemporaryDirectory(prefix="merge-") as directory:
            model.save_pretrained(directory, save_embedding_layers=False)
            base = model.unload().dequantize(torch.float32)
            model = PeftModel.from_pretrained(base, directory).eval()
    merged: PreTrainedModel = model.merge_and_unload(safe_merge=True)  # type: ignore[operator]
    after = _logits(merged, probe)
    return merged, float((after - before).abs().max() / before.abs().max().clamp(min=1e-12))


@torch.no_grad()
def _logits(model: torch.nn.Module, probe: dict[str, torch.Tensor]) -> torch.Tensor:
    return model(**probe).logits.float()  # type: ignore[no-any-return]
