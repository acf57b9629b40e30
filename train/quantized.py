"""A model's weights in 8 or 4 bits, to see what that costs in quality: copies for evaluation.

8 bits are LLM.int8 (arXiv 2208.07339), 4 bits are NF4 with nested scales (arXiv 2305.14314), both
by bitsandbytes, whose kernels run on CUDA and on the CPU. Quantised are the linear layers and the
experts of mixture models (3-dimensional weights, which are spelled out as bf16 while their layer
works); embeddings, norms and the last layer stay in bf16. So 8 bits take somewhat more than half
of bf16, and 4 bits more than a quarter, the more the larger the embeddings' share.

Not covered: calibrated methods (GPTQ, AWQ), weights that are sharded over ranks (ZeRO 3, tensor
parallel), further training. GPU paths follow the library's documentation and are not measured here.
Runs on the compute node; bitsandbytes is imported on first use.
"""

from __future__ import annotations

# E experts, R rows, C columns of a weight
import contextlib
import copy
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.utils import parametrize

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BITS = {"8bit": 8, "4bit": 4}
FORMATS = ("fp32", "bf16", *BITS)
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# LLM.int8: activations above this go through the unquantised path.
OUTLIER_THRESHOLD = 6.0


def explain_unusable(name: str, device: torch.device | str) -> str | None:
    """Try a format on a small layer, and say why it cannot be used on a device; None if it can."""
    if name not in BITS:
        return None
    try:
        layer = _quantize_linear(nn.Linear(64, 64, bias=False, device=device), BITS[name])
        layer(torch.ones(1, 64, dtype=torch.bfloat16, device=device))
    except ModuleNotFoundError as error:
        return f"{error.name} is not installed; make setup-train installs it (on Linux)"
    except (ImportError, RuntimeError, NotImplementedError, ValueError) as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return f"bitsandbytes cannot do it on {device} here: {first_line}"
    return None


@torch.no_grad()
def convert(model: PreTrainedModel, name: str) -> PreTrainedModel:
    """Return a copy of a model in another format; the model is as it was.

    Layer by layer, so that no whole copy in full precision is held. Not ``deepcopy``, which would
    take along what DeepSpeed hangs on parameters.

    Args:
        model: A model with whole weights, or one that ``merged`` lends.
        name: One of ``FORMATS``.
    """
    bits = BITS.get(name)
    dtype = _DTYPES.get(name, torch.bfloat16)
    from transformers.quantizers.base import get_keys_to_not_convert  # lazy: as bitsandbytes

    with torch.device("meta"):
        clone: Any = type(model)(copy.deepcopy(model.config))
    kept = set(get_keys_to_not_convert(model))
    made: dict[int, nn.Parameter] = {}  # tied weights stay tied
    for path, module in list(clone.named_modules()):
        source = _find(model, path)
        if bits and type(module) is nn.Linear and path not in kept:
            clone.set_submodule(path, _quantize_linear(source, bits))
            continue
        for key, buffer in source._buffers.items():
            module._buffers[key] = None if buffer is None else buffer.detach().clone()
        for key, parameter in source._parameters.items():
            if parameter is None:
                module._parameters[key] = None
            elif bits and parameter.dim() == 3:
                _quantize_experts(module, key, parameter.detach(), bits)
            else:
                if id(parameter) not in made:
                    data = parameter.detach().to(dtype, copy=True)
                    made[id(parameter)] = nn.Parameter(data, requires_grad=False)
                module._parameters[key] = made[id(parameter)]
        for key, value in vars(module).items():
            if isinstance(value, torch.Tensor) and value.is_meta:
                setattr(module, key, getattr(source, key))
    clone.generation_config = copy.deepcopy(getattr(model, "generation_config", None))
    clone.config.use_cache = model.config.use_cache
    return clone.eval()


@contextlib.contextmanager
def merged(model: Any) -> Iterator[PreTrainedModel]:
    """Lend the model itself; adapters are merged into it meanwhile, and taken out afterwards."""
    if not hasattr(model, "merge_adapter"):
        yield model
        return
    model.merge_adapter()
    try:
        yield model.get_base_model()
    finally:
        model.unmerge_adapter()


def _find(model: nn.Module, path: str) -> Any:
    """Find a module, passing through peft's layers, which hold the original as ``base_layer``."""
    module = _unwrap(model)
    for part in path.split(".") if path else ():
        module = _unwrap(getattr(module, part))
    return module


def _unwrap(module: Any) -> Any:
    while hasattr(module, "base_layer"):
        module = module.base_layer
    return module


def _bitsandbytes() -> Any:
    # On a CPU it looks for an optional package of faster kernels, and says so at every import.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    import bitsandbytes  # lazy: a second, for trials that quantise

    return bitsandbytes


def _quantize_linear(layer: nn.Linear, bits: int) -> nn.Module:
    """Return a linear layer's counterpart; quantising happens as it is moved to its device."""
    bnb = _bitsandbytes()
    shape = (layer.in_features, layer.out_features, layer.bias is not None)
    weight = layer.weight.detach().to(torch.bfloat16)
    made: Any
    with torch.device("meta"):
        if bits == 8:
            made = bnb.nn.Linear8bitLt(*shape, has_fp16_weights=False, threshold=OUTLIER_THRESHOLD)
        else:
            made = bnb.nn.Linear4bit(*shape, compute_dtype=torch.bfloat16, quant_type="nf4")
            if layer.in_features % 64 or layer.out_features % 32:
                # Its AVX-512 kernel (0.50) takes whole blocks only, and fails on other shapes.
                made.support_avx512bf16_for_cpu = False
    if bits == 8:
        made.weight = bnb.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    else:
        made.weight = bnb.nn.Params4bit(weight, requires_grad=False, quant_type="nf4", module=made)
    if layer.bias is not None:
        bias = layer.bias.detach().to(torch.bfloat16, copy=True)
        made.bias = nn.Parameter(bias, requires_grad=False)
    moved: nn.Module = made.to(weight.device)
    return _Flattened(moved) if bits == 8 else moved


class _Flattened(nn.Module):
    """Gives an 8-bit layer rows of numbers, whatever the input's shape.

    bitsandbytes 0.50's product in 8 bits takes inputs of 2 and 3 dimensions only; DeepSeek-V3's
    latent attention has 4. To be dropped once it takes them.
    """

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.layer(hidden.reshape(-1, hidden.shape[-1]))
        return made.reshape(*hidden.shape[:-1], made.shape[-1])


class _EightBitRows(nn.Module):
    """Spells out a weight of one scale a row: w = q x scale / 127, as LLM.int8 keeps it."""

    def __init__(self, scales: torch.Tensor):
        super().__init__()
        self.register_buffer("scales", scales)  # (E, R, 1)

    def forward(self, quantized: torch.Tensor) -> torch.Tensor:
        return (quantized.float() * (self.scales / 127)).to(torch.bfloat16)  # (E, R, C)


def _quantize_experts(module: nn.Module, key: str, weight: torch.Tensor, bits: int) -> None:
    """Keep a layer's experts quantised, and spell them out once for each of its passes."""
    if bits == 8:
        scales = weight.float().abs().amax(dim=-1, keepdim=True).clamp_min(1e-12)  # (E, R, 1)
        quantized = torch.round(weight.float() * (127 / scales)).to(torch.int8)
        module._parameters[key] = nn.Parameter(quantized, requires_grad=False)
        parametrize.register_parametrization(module, key, _EightBitRows(scales), unsafe=True)
    else:
        functional = _bitsandbytes().functional
        data, state = functional.quantize_4bit(
            weight.to(torch.bfloat16), compress_statistics=True, quant_type="nf4"
        )
        module._parameters[key] = nn.Parameter(data, requires_grad=False)
        parametrize.register_parametrization(module, key, _FourBits(state), unsafe=True)
    passes = contextlib.ExitStack()  # its layer reads a weight once for each expert
    module.register_forward_pre_hook(lambda *_: passes.enter_context(parametrize.cached()))
    module.register_forward_hook(lambda *_: passes.close(), always_call=True)


class _FourBits(nn.Module):
    """Spells out a weight in NF4."""

    def __init__(self, state: Any):
        super().__init__()
        self.state = state
        for name, tensor in state.as_dict(packed=True).items():
            self.register_buffer(f"_{name.replace('.', '_')}", tensor)

    def forward(self, quantized: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = _bitsandbytes().functional.dequantize_4bit(quantized, self.state)
        return made


def weight_bytes(model: nn.Module) -> int:
    """Count the bytes of a model's weights, their scales included; what is tied counts once.

    Adapters do not count: they are merged where this is asked.
    """
    found: dict[tuple[int, int], int] = {}
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, torch.Tensor) and ".lora_" not in name:
            place = (tensor.untyped_storage().data_ptr(), tensor.storage_offset())
            found[place] = tensor.numel() * tensor.element_size()
    return sum(found.values())
