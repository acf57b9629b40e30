"""What makes a training the one it is: kept with each checkpoint, compared before one is used.

A training is its arguments (but for those in ``arguments.may_change``), the content of its encoded
data, of its base model's files and of its DeepSpeed configuration, its trial, and under DeepSpeed
its number of ranks. Paths do not count, contents do: a folder that moved is the same. The version
of the code does not count either; an argument that one of two versions does not know stands at its
default there.

One rule says what may change: whatever leaves each step's examples, and its gradient but for
rounding. What moves the last digits (``_ROUNDING``, ranks, versions of libraries) is kept, and a
change is said, not refused.

Large files count by size and both ends, large arrays by a sample: a change of single weights or
tokens in the midst of them is not seen. Standard library only but for arrays that the caller hands
over. Called by ``main`` and ``resuming`` on the compute node.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arguments import Arguments, may_change
from checkpoints import checksum

if TYPE_CHECKING:
    from data import Data

# Arguments that name a file or directory; what is in it is compared instead.
_SOURCES = frozenset({"data", "eval_data", "chat_template", "model", "deepspeed"})
# Arguments that may change and yet move a number's last digits.
_ROUNDING = (
    "attention",
    "compile",
    "gradient_accumulation_steps",
    "micro_batch_size",
    "packing",
    "threads",
)
_LIBRARIES = ("torch", "transformers", "accelerate", "deepspeed", "peft", "bitsandbytes", "torchao")
_WHOLE_BYTES = 64 * 2**20
_PIECE_BYTES = 2**20
_N_PIECES = 64


def describe_training(
    arguments: Arguments, data: Data, world_size: int, environ: Mapping[str, str]
) -> dict[str, Any]:
    """Describe a training, ready for ``COMPLETE.json``."""
    changing = may_change()
    return {
        "arguments": {
            name: value
            for name, value in dataclasses.asdict(arguments).items()
            if name not in changing and name not in _SOURCES
        },
        "rounding": {name: getattr(arguments, name) for name in _ROUNDING},
        "data": {name: _fingerprint_examples(getattr(data, name)) for name in ("train", "eval")},
        "model": _fingerprint_model(arguments.model),
        "deepspeed": _read_configuration(arguments.deepspeed),
        "world_size": world_size,
        "trial": os.path.basename(environ.get("TRIAL_DIR", "").rstrip("/")),
        "libraries": _versions(),
    }


def find_differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Name what makes two trainings different ones, a few words each; empty if nothing does.

    Args:
        saved: What stands in a checkpoint; what is missing there is not compared.
        now: The training that would go on from it.
    """
    found = []
    if saved.get("trial") and now["trial"] and saved["trial"] != now["trial"]:
        found.append(f"trial {saved['trial']}, not {now['trial']}")
    defaults = {field.name: field.default for field in dataclasses.fields(Arguments)}
    then = saved.get("arguments", now["arguments"])
    for name in sorted(then.keys() | now["arguments"].keys()):
        if name in may_change() or name not in defaults:
            continue  # of another version of the code
        theirs, ours = (side.get(name, defaults[name]) for side in (then, now["arguments"]))
        if theirs != ours:
            found.append(f"--{name}={theirs}, not {ours}")
    for name in ("train", "eval"):
        if saved.get("data", now["data"]).get(name) != now["data"][name]:
            found.append(f"other {name} data")
    if _content(saved.get("model", now["model"])) != _content(now["model"]):
        found.append(f"another model ({_name(saved['model'])}, not {_name(now['model'])})")
    if saved.get("deepspeed", now["deepspeed"]) != now["deepspeed"]:
        found.append("another --deepspeed configuration")
    ranks = saved.get("world_size", now["world_size"])
    if ranks != now["world_size"] and now["deepspeed"] is not None:
        found.append(f"{ranks} ranks, not {now['world_size']} (DeepSpeed's files fit no other)")
    return found


def find_roundings(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Name what changed since and moves last digits, such as ``torch 2.12.0 -> 2.13.0``."""
    found = []
    for kind, prefix in (("libraries", ""), ("rounding", "--")):
        then = saved.get(kind, {})
        found += [
            f"{prefix}{name} {then[name]} -> {value}"
            for name, value in now[kind].items()
            if then.get(name, value) != value
        ]
    ranks = saved.get("world_size", now["world_size"])
    if ranks != now["world_size"]:
        found.append(f"ranks {ranks} -> {now['world_size']}")
    return found


def _fingerprint_examples(examples: Any) -> str:
    """Fingerprint encoded examples by their length and content."""
    value = 0
    for name in ("ids", "labels", "starts"):
        array = getattr(examples, name)
        size, item = array.nbytes, max(1, array.itemsize)
        if size <= _WHOLE_BYTES:
            value = zlib.crc32(array, value)
        else:
            piece = _PIECE_BYTES // item
            for number in range(_N_PIECES):
                first = number * (len(array) - piece) // (_N_PIECES - 1)
                value = zlib.crc32(array[first : first + piece], value)
        value = zlib.crc32(str(array.shape).encode(), value)
    return f"{len(examples)} rows, {value:08x}"


def _fingerprint_model(model: str) -> dict[str, Any] | str:
    """Fingerprint a model's directory by its weights and configuration; a preset by its name."""
    if not os.path.isdir(model):
        return model
    names = sorted(n for n in os.listdir(model) if n.endswith((".safetensors", ".bin")))
    names += ["config.json"] if os.path.isfile(os.path.join(model, "config.json")) else []
    files = {name: [os.path.getsize(p := Path(model, name)), checksum(p)] for name in names}
    return {"name": os.path.basename(os.path.abspath(model)), "files": files}


def _content(model: dict[str, Any] | str) -> Any:
    return model if isinstance(model, str) else model.get("files")


def _name(model: dict[str, Any] | str) -> str:
    return model if isinstance(model, str) else str(model.get("name"))


def _read_configuration(deepspeed: str) -> Any:
    if deepspeed == "none":
        return None
    if not os.path.isfile(deepspeed):
        return deepspeed
    with open(deepspeed, encoding="utf-8") as file:
        return json.load(file)


def _versions() -> dict[str, str]:
    """Look up versions without importing anything."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass  # not installed here, so not used
    return found
