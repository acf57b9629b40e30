"""The models: presets with random weights, or any local model directory.

``build_model`` = a preset or a directory, then adapters on it if ``--finetuning`` asks for them.
Runs on the compute node. Nothing is ever downloaded.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from arguments import ArgumentMistake, Arguments, find_missing_model
from options.model import PRESETS
from safetensors import SafetensorError

if TYPE_CHECKING:
    from data import Data
    from transformers import PreTrainedConfig, PreTrainedModel

# Random starts: two to learn and test with, two for measurements on a CPU and on a GPU.
LLAMAS = {
    "tiny-llama": {
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "small-llama": {  # 2 million parameters
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
    },
    "llama-1b": {  # the shape of Llama 3.2 1B: 1.0 billion parameters with our small vocabulary
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}


def build_model(arguments: Arguments, data: Data) -> PreTrainedModel:
    """Build or load the model; random weights come from torch's generator, so seed it first.

    Raises:
        ArgumentMistake: No such preset or directory, or one that does not load.
    """
    model = build_base(arguments, data)
    model.config.use_cache = False
    if arguments.finetuning == "full":
        return model
    import adapters  # lazy: most trials are without

    return adapters.adapt(model, arguments)  # type: ignore[return-value] # it acts as one


def build_base(arguments: Arguments, data: Data) -> PreTrainedModel:
    """Build or load the model itself, with qlora in 4 bits; see ``build_model``."""
    is_quantized = arguments.finetuning == "qlora"
    if arguments.model in PRESETS:
        model = _build_preset(arguments, data)
        if is_quantized:
            import adapters

            model = adapters.quantize(model, arguments)
        return model
    if os.path.isdir(arguments.model):
        if is_quantized:
            import adapters

            config = adapters.quantization_config(arguments)
            model = _load_directory(arguments, data, quantization_config=config)
            return adapters.train_in_four_bits(model)
        return _load_directory(arguments, data)
    raise ArgumentMistake(find_missing_model(arguments))


def _build_preset(arguments: Arguments, data: Data) -> PreTrainedModel:
    # Lazy, one model's code instead of all: importing AutoModel alone takes longer than a step.
    # The class is named in full by the task, as LlamaForCausalLM.
    if arguments.model in LLAMAS:
        from transformers.models.llama import modeling_llama as models

        config, family = configure_llama(arguments, data), "Llama"
    else:
        from transformers.models.deepseek_v3 import modeling_deepseek_v3 as models

        config, family = tiny_deepseek(arguments, data), "DeepseekV3"
    config.update(data.task.model_config(data.labels, data.pad_id))
    return getattr(models, family + data.task.architecture)(config)


def tiny_deepseek(arguments: Arguments, data: Data) -> PreTrainedConfig:
    """Configure DeepSeek-V3's architecture at 170 000 parameters.

    Latent attention with low-rank queries, one dense layer, one layer of 4 routed experts (2 per
    token) and a shared one. Architecture: arXiv 2412.19437.
    """
    from transformers import DeepseekV3Config

    return DeepseekV3Config(
        vocab_size=data.vocab_size,
        hidden_size=64,
        intermediate_size=128,
        moe_intermediate_size=64,
        num_hidden_layers=2,
        first_k_dense_replace=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        q_lora_rank=32,
        kv_lora_rank=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=16,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_shared_experts=1,
        n_group=1,
        topk_group=1,
        num_mtp_layers=0,
        max_position_embeddings=max(512, arguments.seq_len),
        attention_dropout=arguments.attention_dropout,
        tie_word_embeddings=True,
        pad_token_id=data.pad_id,
        bos_token_id=data.bos_id,
        eos_token_id=data.eos_id,
    )


def configure_llama(arguments: Arguments, data: Data) -> PreTrainedConfig:
    """Configure a Llama of the preset's size: the plain alternative without experts."""
    from transformers import LlamaConfig

    return LlamaConfig(
        **LLAMAS[arguments.model],
        vocab_size=data.vocab_size,
        max_position_embeddings=max(512, arguments.seq_len),
        attention_dropout=arguments.attention_dropout,
        tie_word_embeddings=True,
        pad_token_id=data.pad_id,
        bos_token_id=data.bos_id,
        eos_token_id=data.eos_id,
    )


# What damaged or foreign files make the libraries raise.
_UNLOADABLE = (
    OSError,
    ValueError,
    TypeError,
    RuntimeError,
    KeyError,
    EOFError,
    pickle.UnpicklingError,
    SafetensorError,
)


def _load_directory(arguments: Arguments, data: Data, **extra: Any) -> PreTrainedModel:
    import transformers

    try:
        # fp32 weights: autocast or DeepSpeed lower the precision of the arithmetic, not these.
        model, loaded = getattr(transformers, f"AutoModel{data.task.architecture}").from_pretrained(
            arguments.model,
            local_files_only=True,
            output_loading_info=True,
            dtype=torch.float32,
            attention_dropout=arguments.attention_dropout,
            **data.task.model_config(data.labels, data.pad_id),
            **extra,
        )
    except _UNLOADABLE as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ArgumentMistake(f"--model={arguments.model}: does not load: {first_line}") from None
    _refuse_incomplete(arguments, model, loaded["missing_keys"])
    n_embeddings = model.get_input_embeddings().weight.shape[0]
    if data.vocab_size > n_embeddings:
        raise ArgumentMistake(
            f"--model={arguments.model}: its tokenizer has {data.vocab_size} tokens, the model "
            f"embeds only {n_embeddings}"
        )
    return model


def _refuse_incomplete(
    arguments: Arguments, model: PreTrainedModel, missing: Iterable[str]
) -> None:
    """Refuse a model of which weights are missing, which transformers starts at random.

    A classifier's head is new, and so is the pooler before it, which encoders do not always have.
    """
    is_classifier = type(model).__name__.endswith("ForSequenceClassification")
    inner = f"{model.base_model_prefix}."
    lacking = sorted(
        name
        for name in missing
        if not (is_classifier and (not name.startswith(inner) or ".pooler." in name))
    )
    if lacking:
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        raise ArgumentMistake(
            f"--model={arguments.model}: its weights lack {', '.join(lacking[:3])}{more}, which "
            "would start at random; config.json and weights are not of one model, or a file is "
            "missing"
        )
