"""Encoded data: split, tokenized once, cached for all trials.

Sources: the self-made dialogues, a JSONL file, or a directory written by
``datasets.Dataset.save_to_disk``. A row is ``{"messages": [{"role": ..., "content": ...}, ...]}``
or ``{"prompt": ..., "response": ...}``.

Encoded data is cached in a directory named after the hash of all it depends on, so that of a
hundred trials one encodes and the others load arrays in milliseconds. An entry appears by one
rename: trials that start at the same moment all build it, and the first one wins.

Runs on the compute node. Not covered: data sets larger than memory, streaming, packing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizer as tokenizers_
from arguments import ArgumentMistake, Arguments
from batches import Examples
from rows import Row, split_rows

# Files above this size are recognised by size and time instead of by content.
MAX_HASHED_BYTES = 64 * 2**20
_HERE = Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True)
class Data:
    """What a training needs of its data."""

    train: Examples
    eval: Examples
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
    for source in (arguments.data, arguments.eval_data):
        if source not in ("", "dialogues") and not os.path.exists(source):
            raise ArgumentMistake(
                f"--data={source}: no such file or directory; use dialogues, a JSONL file or a "
                "directory of datasets.save_to_disk"
            )
    key = _cache_key(arguments, model_dir)
    places = cache_places(arguments)
    for place in places:
        # Another user's entry may be unreadable here, which is as good as none.
        if os.access(place / key / "meta.json", os.R_OK):
            return _load_entry(place / key)
    return _load_entry(_build_entry(arguments, model_dir, places, key))


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
    for name in ("data.py", "dialogues.py", "rows.py", "tokenizer.py"):
        digest.update((_HERE / name).read_bytes())
    for source in (arguments.data, arguments.eval_data):
        digest.update(f"\0{source}\0".encode())
        if source not in ("", "dialogues"):
            _update_with_files(digest, Path(source), "*")
    if model_dir:
        _update_with_files(digest, Path(model_dir), "*token*")
        _update_with_files(digest, Path(model_dir), "chat_template*")
    digest.update(f"\0{arguments.seq_len}\0{arguments.eval_fraction}".encode())
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
    train, held_back = split_rows(arguments)
    if model_dir:
        tokenizer = tokenizers_.load_tokenizer(model_dir)
    else:
        texts = [m["content"] for messages, _ in train for m in messages]
        tokenizer = tokenizers_.train_tokenizer(texts)
    parts = {
        "train": _encode(tokenizer, train, arguments.seq_len, arguments.data),
        "eval": _encode(
            tokenizer, held_back, arguments.seq_len, arguments.eval_data or arguments.data
        ),
    }
    staging = _make_staging(places)
    for name, examples in parts.items():
        for array in ("ids", "labels", "starts"):
            np.save(staging / f"{name}.{array}.npy", getattr(examples, array))
    tokenizer.save_pretrained(str(staging / "tokenizer"))
    meta = {
        "vocab_size": max(len(tokenizer), 1 + int(max(p.ids.max() for p in parts.values()))),
        "pad_id": tokenizer.pad_token_id,
        "bos_id": tokenizer.bos_token_id,
        "eos_id": tokenizer.eos_token_id,
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


def _load_entry(entry: Path) -> Data:
    meta = json.loads((entry / "meta.json").read_text())
    parts = {}
    for name in ("train", "eval"):
        arrays = [np.load(entry / f"{name}.{a}.npy", mmap_mode="r") for a in _ARRAYS]
        parts[name] = Examples(*arrays)
        if arrays[2][-1] != len(arrays[0]) or len(arrays[0]) != len(arrays[1]):
            raise ArgumentMistake(f"{entry}: the cached data is damaged; delete this directory")
    return Data(tokenizer_dir=str(entry / "tokenizer"), **parts, **meta)


_ARRAYS = ("ids", "labels", "starts")


def _encode(tokenizer: Any, rows: Sequence[Row], seq_len: int, source: str) -> Examples:
    pairs = []
    n_dropped = 0
    for messages, _ in rows:
        ids, labels = tokenizers_.encode_dialogue(tokenizer, messages)
        ids, labels = ids[:seq_len], labels[:seq_len]
        if any(label != tokenizers_.IGNORED for label in labels):
            pairs.append((ids, labels))
        else:
            n_dropped += 1
    if not pairs:
        raise ArgumentMistake(
            f"--seq_len={seq_len}: none of {len(rows)} dialogues of {source} has an answer within "
            "it; use a larger one"
        )
    if n_dropped:
        sys.stderr.write(
            f"{source}: {n_dropped} of {len(rows)} dialogues have no answer within the first "
            f"{seq_len} tokens and are left out\n"
        )
    return Examples.from_pairs(pairs)
