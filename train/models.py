"""The models: two tiny ones with random weights, or any local model directory.

Runs on the compute node. Nothing is ever downloaded.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch
from arguments import ArgumentMistake, Arguments

if TYPE_CHECKING:
    from data import Data
    from transformers import PreTrainedConfig, PreTrainedModel

PRESETS = ("tiny-deepseek", "tiny-llama")


def build_model(arguments: Arguments, data: Data) -> PreTrainedModel:
    """Build or load the model; random weights come from torch's generator, so seed it first.

    Raises:
        ArgumentMistake: No such preset or directory, or one that does not load.
    """
    if arguments.model in PRESETS:
        model = _build_preset(arguments, data)
    elif os.path.isdir(arguments.model):
        model = _load_directory(arguments, data)
    else:
        raise ArgumentMistake(
            f"--model={arguments.model}: neither {' nor '.join(PRESETS)} nor a local directory"
        )
    model.config.use_cache = False
    return model


def _build_preset(arguments: Arguments, data: Data) -> PreTrainedModel:
    # Lazy, one model's code instead of all: importing AutoModel alone takes longer than a step.
    if arguments.model == "tiny-llama":
        from transformers import LlamaForCausalLM

        return LlamaForCausalLM(tiny_llama(arguments, data))
    from transformers import DeepseekV3ForCausalLM

    return DeepseekV3ForCausalLM(tiny_deepseek(arguments, data))


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


def tiny_llama(arguments: Arguments, data: Data) -> PreTrainedConfig:
    """Configure a Llama of 150 000 parameters: the plain alternative without experts."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=data.vocab_size,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=max(512, arguments.seq_len),
        attention_dropout=arguments.attention_dropout,
        tie_word_embeddings=True,
        pad_token_id=data.pad_id,
        bos_token_id=data.bos_id,
        eos_token_id=data.eos_id,
    )


def _load_directory(arguments: Arguments, data: Data) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    try:
        # fp32 weights: autocast or DeepSpeed lower the precision of the arithmetic, not these.
        model = AutoModelForCausalLM.from_pretrained(
            arguments.model,
            local_files_only=True,
            dtype=torch.float32,
            attention_dropout=arguments.attention_dropout,
        )
    except (OSError, ValueError, TypeError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise ArgumentMistake(f"--model={arguments.model}: does not load: {first_line}") from None
    n_embeddings = model.get_input_embeddings().weight.shape[0]
    if data.vocab_size > n_embeddings:
        raise ArgumentMistake(
            f"--model={arguments.model}: its tokenizer has {data.vocab_size} tokens, the model "
            f"embeds only {n_embeddings}"
        )
    return model
