"""How many floating-point operations a token of training takes, by formula.

Model FLOPs: what the mathematics needs, whatever the program does besides. Recomputed activations
(``--gradient_checkpointing``), padding, the optimizer and norms do not count, so that a trick which
costs arithmetic never looks like better use of the machine.

    FLOPs per token = 6 x trained + 4 x frozen + 6 x T x sum over layers of heads x (qk + v)

A weight matrix costs two operations per weight and token (multiply, add) forward, two backward for
the gradient of its input and, only if it is trained, two for its own gradient: 6 N (Kaplan et al.,
arXiv 2001.08361, section 2.1). Attention multiplies each token with T others, over ``qk`` numbers
of each head for the scores and ``v`` for the values; with qk = v = Q it is the 12 L H Q T of PaLM
(Chowdhery et al., arXiv 2204.02311, appendix B), which, as there, is not halved for causal masks.

Of routed experts only the chosen share counts. An embedding is a look-up; tied to the output it
counts once, as the output's matrix. Not covered: windows of attention shorter than the sequence
(counted as full), and that no input gradient is needed below the first trained layer.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import torch


@dataclasses.dataclass(frozen=True)
class TokenCost:
    """What decides the cost of one token."""

    trained: float
    """Weights in matrices that each token is multiplied with, and that are trained."""
    frozen: float
    """The same, not trained: the base of a LoRA training."""
    attention_width: float
    """Sum over layers of heads x (query-key dimension + value dimension)."""


def flops_per_token(cost: TokenCost, seq_len: float) -> float:
    """Return the floating-point operations of training on one token; see the module.

    Args:
        cost: Of the model.
        seq_len: Tokens in the sequence that the token stands in.
    """
    return 6 * cost.trained + 4 * cost.frozen + 6 * seq_len * cost.attention_width


def typical_seq_len(lengths: Any) -> float:
    """Return the length of the sequence that the mean token stands in, not of the mean sequence.

    Attention costs the square of the length: the sum of squares over the sum. 0 without tokens.

    Args:
        lengths: Tokens in each sequence, an array of whole numbers.
    """
    total = float(lengths.sum())
    return float((lengths.astype(float) ** 2).sum()) / total if total else 0.0


def token_cost(model: torch.nn.Module) -> TokenCost:
    """Count the weights of a model; call it before anything wraps or shards the model.

    A model without the names that transformers gives (``config.num_attention_heads`` and so on) is
    taken to have no attention.
    """
    config = getattr(model, "config", None)
    share = _share_of_experts(config)
    sums = {True: 0.0, False: 0.0}
    for parameter, n_weights, is_routed in _matrices(model):
        sums[_is_trained(parameter)] += n_weights * (share if is_routed else 1.0)
    return TokenCost(sums[True], sums[False], _attention_width(config))


def _is_trained(parameter: torch.nn.Parameter) -> bool:
    return bool(parameter.requires_grad)


def _matrices(model: torch.nn.Module) -> Iterator[tuple[torch.nn.Parameter, float, bool]]:
    """Yield each matrix once: parameter, number of weights, whether it is a routed expert's."""
    seen: set[int] = set()
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.Embedding):
            continue
        is_expert = "experts" in path.split(".")
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            n_weights = _n_weights(module, name, parameter)
            if n_weights:
                yield parameter, n_weights, is_expert


def _n_weights(module: torch.nn.Module, name: str, parameter: torch.nn.Parameter) -> float:
    """Return the weights of a matrix, 0 for a vector; quantised ones are stored in other shapes."""
    if name == "weight" and hasattr(module, "in_features") and hasattr(module, "out_features"):
        return float(module.in_features * module.out_features)
    shape = getattr(parameter, "ds_shape", parameter.shape)  # ZeRO 3 leaves an empty parameter
    return float(math.prod(shape)) if len(shape) > 1 else 0.0


def _first(config: Any, *names: str) -> Any:
    return next((getattr(config, n) for n in names if getattr(config, n, None)), None)


def _share_of_experts(config: Any) -> float:
    chosen = _first(config, "num_experts_per_tok")
    of = _first(config, "n_routed_experts", "num_local_experts", "num_experts")
    return chosen / of if chosen and of else 1.0


def _attention_width(config: Any) -> float:
    heads = _first(config, "num_attention_heads", "n_head")
    layers = _first(config, "num_hidden_layers", "n_layer")
    hidden = _first(config, "hidden_size", "n_embd")
    if not (heads and layers and hidden):
        return 0.0
    rotated = _first(config, "qk_rope_head_dim")  # multi-head latent attention (DeepSeek)
    if rotated:
        keys, values = rotated + config.qk_nope_head_dim, config.v_head_dim
    else:
        keys = values = _first(config, "head_dim") or hidden // heads
    return float(layers * heads * (keys + values))
