"""Encoded data: split, tokenized once, cached for all trials.

Where rows come from is in ``sources``, how they are split in ``rows``, what they mean in the task
(``tasks``).

Encoded data is cached in a directory named after the hash of all it depends on, so that of a
hundred trials one encodes and the others load arrays in milliseconds. An entry appears by one
rename: trials that start at the same moment all build it, and the first one wins.

Runs on the compute node. Not covered: data sets larger than memory, streaming.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tokenizer as tokenizers_
from arguments import ArgumentMistake, Arguments
from batches import Examples
from rows import split_rows
from sources import list_paths, refuse_missing
from tasks import Task, find_task

# Files above this size are recognised by size and time instead of by content.
MAX_HASHED_BYTES = 64 * 2**20
_HERE = Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True)
class Data:
    """What a training needs of its data."""

    task: Task
    """What it is for."""
    train: Examples
    eval: Examples
    labels: tuple[str, ...]
    """Names of the classes, by number; empty for a language model."""
    tokenizer_dir: str
    """A directory with the tokenizer's files, to be copied beside the weights."""
    vocab_size: int
    """Largest token id + 1."""
    pad_id: int
    bos_id: int | None
    eos_id: int


def load_data(arguments: Arguments) -> Data:
    """Load the data from the cache, building it first if need be.

    Raises:
        ArgumentMistake: A source or tokenizer that is not there or cannot be used.
    """
    model_dir = arguments.model if os.path.isdir(arguments.model) else ""
    refuse_missing("data", arguments.data)
    refuse_missing("eval_data", arguments.eval_data)
    key = _cache_key(arguments, model_dir)
    places = cache_places(arguments)
    task = find_task(arguments.task)
    for place in places:
        # Another user's entry may be unreadable here, which is as good as none.
        if os.access(place / key / "meta.json", os.R_OK):
            try:
                return _load_entry(place / key, task)
            except DamagedEntry as damage:
                _discard(place / key, damage)
    return _load_entry(_build_entry(arguments, model_dir, places, key), task)


def cache_places(arguments: Arguments) -> list[Path]:
    """List where cache entries may be, best first.

    ``$TRAIN_CACHE`` if set; else ``train/.cache`` (one for all trials of a checkout), then a
    private folder of the temporary directory, for a checkout that is read-only here.
    """
    if os.environ.get("TRAIN_CACHE"):
        return [Path(os.environ["TRAIN_CACHE"])]
    return [_HERE / ".cache", Path(tempfile.gettempdir()) / f"train-cache-{os.getuid()}"]


def _cache_key(arguments: Arguments, model_dir: str) -> str:
    digest = hashlib.sha256()
    for name in _RULES:
        digest.update((_HERE / name).read_bytes())
    for source in (arguments.data, arguments.eval_data):
        digest.update(f"\0{source}\0".encode())
        for path in list_paths(source):
            _update_with_files(digest, Path(path), "*")
    if model_dir:
        _update_with_files(digest, Path(model_dir), "*token*")
        _update_with_files(digest, Path(model_dir), "chat_template*")
        _update_with_files(digest, Path(model_dir), "config.json")  # names of its classes
    if arguments.chat_template:
        _update_with_files(digest, Path(arguments.chat_template), "*")
    digest.update("".join(f"\0{getattr(arguments, name)}" for name in _SETTINGS).encode())
    return digest.hexdigest()[:24]


def _update_with_files(digest: Any, path: Path, pattern: str) -> None:
    files = [path] if path.is_file() else sorted(p for p in path.rglob(pattern) if p.is_file())
    for file in files:
        status = file.stat()
        digest.update(f"\0{file.name}\0{status.st_size}".encode())
        if status.st_size > MAX_HASHED_BYTES:
            digest.update(f"{file.resolve()}\0{status.st_mtime_ns}".encode())
        else:
            digest.update(file.read_bytes())


def _build_entry(arguments: Arguments, model_dir: str, places: list[Path], key: str) -> Path:
    task = find_task(arguments.task)
    split = split_rows(arguments)
    if model_dir:
        tokenizer = tokenizers_.load_tokenizer(model_dir)
    else:
        tokenizer = tokenizers_.train_tokenizer(task.texts(split.train))
    if arguments.chat_template:
        tokenizer.chat_template = tokenizers_.read_template(arguments.chat_template)
    encoded = task.encode(tokenizer, split, arguments)
    parts = {"train": encoded.train, "eval": encoded.eval}
    staging = _make_staging(places)
    for name, examples in parts.items():
        for array in _ARRAYS:
            np.save(staging / f"{name}.{array}.npy", getattr(examples, array))
    tokenizer.save_pretrained(str(staging / "tokenizer"))
    meta = {
        "vocab_size": max(len(tokenizer), 1 + int(max(p.ids.max() for p in parts.values()))),
        "pad_id": tokenizer.pad_token_id,
        "bos_id": tokenizer.bos_token_id,
        "eos_id": tokenizer.eos_token_id,
        "labels": encoded.labels,
    }
    (staging / "meta.json").write_text(json.dumps(meta))
    entry = staging.parent / key
    try:
        os.rename(staging, entry)
    except OSError:
        if not os.access(entry / "meta.json", os.R_OK):
            raise
        shutil.rmtree(staging, ignore_errors=True)  # another trial was first; theirs is the same
    return entry


def _make_staging(places: list[Path]) -> Path:
    for place in places:
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            if place.stat().st_uid == os.getuid() or place != places[-1] or len(places) == 1:
                return Path(tempfile.mkdtemp(prefix=".tmp-", dir=place))
        except OSError:
            continue  # read-only here: the next place
    return Path(tempfile.mkdtemp(prefix="train-cache-"))


class DamagedEntry(Exception):
    """A cache entry that is there and cannot be read."""


def _load_entry(entry: Path, task: Task) -> Data:
    try:
        meta = json.loads((entry / "meta.json").read_text())
        meta["labels"] = tuple(meta["labels"])
        parts = {}
        for name in ("train", "eval"):
            arrays = [np.load(entry / f"{name}.{a}.npy", mmap_mode="r") for a in _ARRAYS]
            parts[name] = Examples(*arrays)
            if arrays[2][-1] != len(arrays[0]) or len(arrays[0]) != len(arrays[1]):
                raise DamagedEntry(f"the arrays of {name} do not fit together")
        if not (entry / "tokenizer" / "tokenizer_config.json").is_file():
            raise DamagedEntry("there is no tokenizer in it")
        return Data(task=task, tokenizer_dir=str(entry / "tokenizer"), **parts, **meta)
    except (OSError, ValueError, EOFError, LookupError, TypeError) as error:
        raise DamagedEntry(f"{type(error).__name__}: {error}") from None


def _discard(entry: Path, damage: DamagedEntry) -> None:
    """Move a damaged entry out of the way, so that it is built anew.

    Raises:
        ArgumentMistake: It belongs to somebody else.
    """
    sys.stderr.write(f"warning: {entry}: the cached data is damaged ({damage}); building it anew\n")
    aside = Path(tempfile.mkdtemp(prefix=".tmp-", dir=entry.parent))
    try:
        os.rename(entry, aside / "damaged")  # by one rename: another trial may do the same
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ArgumentMistake(
            f"{entry}: the cached data is damaged and cannot be removed ({error.strerror}); delete "
            "this directory, or set TRAIN_CACHE to another place"
        ) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


_ARRAYS = ("ids", "labels", "starts")
# What the encoding depends on: code, and arguments beside the sources.
_RULES = (
    "causal_lm.py",
    "classification.py",
    "data.py",
    "dialogues.py",
    "pairs.py",
    "rows.py",
    "sft.py",
    "sources.py",
    "tokenizer.py",
)
_SETTINGS = (
    "task",
    "seq_len",
    "eval_fraction",
    "eval_split",
    "max_train_examples",
    "text_columns",
    "label_column",
    "eval_stride",
)
