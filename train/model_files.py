"""What is wrong with a local model directory, as far as its files say it without torch.

Looks for the files that must be there, and whether each file of weights is as long as its header
says: a copy that was cut short is the usual damage. Standard library only, so that it is said in
milliseconds, on the login node too. Not covered: what only loading shows (``models.py``), such as
layers that the weights lack; and older formats than safetensors, of which only presence is checked.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_INDEX = "model.safetensors.index.json"
# As transformers (5.23) names them.
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_TOKENIZERS = ("tokenizer*", "vocab*", "*.model", "*.tiktoken", "tekken.json")
_MOST_HEADER_BYTES = 100_000_000  # the format's own bound


def find_mistakes(directory: str) -> Iterator[str]:
    """Say what is missing or damaged, a line each."""
    place = Path(directory)
    try:
        yield from _find_in_config(place)
        if not any(any(place.glob(pattern)) for pattern in _WEIGHTS):
            yield f"no weights in it ({' or '.join(_WEIGHTS)}); save the model with save_pretrained"
        if not any(any(place.glob(pattern)) for pattern in _TOKENIZERS):
            yield (
                "no tokenizer in it (tokenizer.json, or vocab.* and the like); put the model's own "
                "there: AutoTokenizer.from_pretrained(...).save_pretrained(DIRECTORY)"
            )
        for path in _weight_files(place):
            if fault := _check_weights(path):
                yield f"{path.name} {fault}; copy it anew"
    except OSError as error:
        name = os.path.basename(error.filename or directory)
        yield f"{name} cannot be read: {error.strerror or error}"


def _find_in_config(place: Path) -> Iterator[str]:
    path = place / "config.json"
    if not path.is_file():
        yield "no config.json in it; name the directory that a model was saved to"
        return
    config = _read_json(path)
    if not isinstance(config, dict):
        yield f"config.json is no JSON object{config}; copy it anew"


def _read_json(path: Path) -> Any:
    """Return what a file holds; a text of why, with a colon before it, if it is not JSON."""
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        return f": {error}"


def _weight_files(place: Path) -> list[Path]:
    """List the safetensors files that loading reads: those of the index, else the only one."""
    single = place / "model.safetensors"
    if single.is_file():
        return [single]
    index = place / _INDEX
    if not index.is_file():
        return []
    content = _read_json(index)
    shards = content.get("weight_map") if isinstance(content, dict) else None
    return [place / name for name in sorted(set(shards.values()))] if shards else [index]


def _check_weights(path: Path) -> str:
    """Say what is wrong with a file of weights; empty: its header and its length agree.

    The format: 8 bytes of header length, little-endian; a JSON object, whose entries give the
    ``data_offsets`` of each tensor; the tensors.
    """
    if not path.is_file():
        return f"is missing, which {_INDEX} names"
    if path.name == _INDEX:
        return "is no index of weights"
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(8).ljust(8, b"\xff"))[0]
        if length > min(size, _MOST_HEADER_BYTES):
            return "is no safetensors file, or is cut short"
        try:
            header = json.loads(file.read(length))
            ends = [t["data_offsets"][1] for name, t in header.items() if name != "__metadata__"]
        except (ValueError, AttributeError, KeyError, TypeError, IndexError):
            return "is no safetensors file, or is damaged in its header"
    expected = 8 + length + max(ends, default=0)
    return "" if size == expected else f"has {size:,} bytes, its header says {expected:,}"
