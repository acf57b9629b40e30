"""Which parameters share a learning rate and a weight decay.

Works on any model with any subset of its parameters trainable, such as adapters only. Where a
parameter stands is read from module types and names: layers are numbered in their names
(``layers.3.``, ``h.3.``, ``layer.3.``, ``blocks.3.``), as in transformers' language models; what
stands in no layer and is neither an embedding nor a head (a last norm) goes with the top.

Called by ``optimizing`` on the compute node.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from arguments import ArgumentMistake

if TYPE_CHECKING:
    from options.optimizer import OptimizerOptions

_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")
# Names that transformers gives to the parts above the last layer, and to the first part.
_HEADS = {"lm_head", "embed_out", "score", "classifier", "qa_outputs"}
_EMBEDDINGS = {"embed_tokens", "embeddings", "wte", "wpe"}


@dataclasses.dataclass(frozen=True)
class TrainedParameter:
    """A trainable parameter and where it stands."""

    name: str
    parameter: torch.nn.Parameter
    n_dims: int
    """Dimensions of the whole tensor; under ZeRO 3 a rank may hold none of it."""
    part: str
    """``embedding``, ``layer``, ``head``, or ``other``."""
    layer: int | None
    """Number of its layer, from 0 at the bottom."""

    @property
    def is_matrix(self) -> bool:
        """Whether it decays: matrices do, vectors (norms, biases) do not."""
        return self.n_dims >= 2

    @property
    def is_hidden_matrix(self) -> bool:
        """Whether Muon may have it: a matrix, or a stack of them, between embedding and head."""
        return self.is_matrix and self.part in ("layer", "other")


def find_trained(model: torch.nn.Module) -> list[TrainedParameter]:
    """List the trainable parameters in the model's order, tied ones once, by their first name."""
    embeddings = tuple(
        f"{name}."
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Embedding)
    )
    found = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        layer = _LAYER.search(name)
        words = set(name.split("."))
        if layer:
            part = "layer"
        elif name.startswith(embeddings) or words & _EMBEDDINGS:
            part = "embedding"
        else:
            part = "head" if words & _HEADS else "other"
        number = int(layer.group(1)) if layer else None
        found.append(TrainedParameter(name, parameter, _n_dims(parameter), part, number))
    return found


def holds_matrices(group: dict[str, Any]) -> bool:
    """Whether a group of ``group_parameters`` is one that decays, whatever its decay is now."""
    return _n_dims(group["params"][0]) >= 2


def _n_dims(parameter: torch.Tensor) -> int:
    return len(getattr(parameter, "ds_shape", parameter.shape))  # ds_shape: before ZeRO 3 cut it


def count_layers(model: torch.nn.Module) -> int:
    """Count the layers, frozen ones too, by the largest number in a parameter's name."""
    numbers = [_LAYER.search(name) for name, _ in model.named_parameters()]
    return max((int(found.group(1)) + 1 for found in numbers if found), default=0)


def group_parameters(
    model: torch.nn.Module,
    options: OptimizerOptions,
    *,
    one_each: bool = False,
    splits_hidden: bool = False,
) -> list[dict[str, Any]]:
    """Group the trainable parameters by learning rate and weight decay; no group is empty.

    Groups of the learning rate itself come first, for it is the first group's that is reported;
    among equals those that decay.

    Args:
        model: The model.
        options: Learning rate, weight decay and ratios.
        one_each: Put every tensor into a group of its own. ZeRO joins the tensors of a group into
            one flat tensor; a group each keeps the layers apart for LAMB.
        splits_hidden: Give hidden matrices groups apart, marked by ``use_muon``.

    Raises:
        ArgumentMistake: Nothing to train, or a ratio for a part that is not trained.
    """
    trained = find_trained(model)
    ratios = lr_ratios(trained, count_layers(model), options)
    grouped: dict[tuple[float, bool, bool], list[torch.nn.Parameter]] = {}
    for item, ratio in zip(trained, ratios, strict=True):
        key = (ratio, item.is_matrix, splits_hidden and item.is_hidden_matrix)
        grouped.setdefault(key, []).append(item.parameter)
    groups = []
    for key in sorted(grouped, key=lambda key: (key[0] != 1.0, -key[0], not key[1], not key[2])):
        ratio, decays, is_hidden = key
        shared = {
            "lr": options.learning_rate * ratio,
            "weight_decay": options.weight_decay if decays else 0.0,
            **({"use_muon": is_hidden} if splits_hidden else {}),
        }
        parts = [[p] for p in grouped[key]] if one_each else [grouped[key]]
        groups += [{"params": part, **shared} for part in parts]
    return groups


def lr_ratios(
    trained: Sequence[TrainedParameter], n_layers: int, options: OptimizerOptions
) -> list[float]:
    """Give each parameter's learning rate as a multiple of ``--learning_rate``.

    Layer-wise decay as in MAE's fine-tuning (facebookresearch/mae, util/lr_decay.py; the idea is
    ELECTRA's, arXiv 2003.10555): with decay d and n layers, what is above the layers has 1, layer i
    (from 0) d^(n - i), the embeddings d^(n + 1).

    Raises:
        ArgumentMistake: Nothing to train, or a ratio for a part that is not trained.
    """
    if not trained:
        raise ArgumentMistake("the model has no trainable parameter")
    parts = {item.part for item in trained}
    if options.layer_lr_decay != 1 and not n_layers:
        raise ArgumentMistake(
            f"--layer_lr_decay={options.layer_lr_decay:g}: no numbered layers in this model; use 1"
        )
    for part in ("embedding", "head"):
        ratio = getattr(options, f"{part}_lr_ratio")
        if ratio != 1 and part not in parts:
            raise ArgumentMistake(
                f"--{part}_lr_ratio={ratio:g}: no {part} of its own is trained (frozen, or tied to "
                "the embeddings); use 1"
            )
    decay = options.layer_lr_decay
    ratios = []
    for item in trained:
        if item.part == "embedding":
            ratios.append(options.embedding_lr_ratio * decay ** (n_layers + 1))
        elif item.layer is not None:
            ratios.append(decay ** (n_layers - item.layer))
        else:
            ratios.append(options.head_lr_ratio if item.part == "head" else 1.0)
    return ratios
