"""From dialogues to batches: reading, splitting, encoding, caching, ordering, padding.

Sources: the self-made dialogues, a JSONL file, or a directory written by
``datasets.Dataset.save_to_disk``. A row is ``{"messages": [{"role": ..., "content": ...}, ...]}``
or ``{"prompt": ..., "response": ...}``.

Encoded data is cached in a directory named after the hash of all it depends on, so that of a
hundred trials one encodes and the others load arrays in milliseconds. An entry appears by one
rename: trials that start at the same moment all build it, and the first one wins.

Runs on the compute node. Not covered: data sets larger than memory, streaming, packing.
"""

from __future__ import annotations

# B batch, T tokens of the longest sequence in the batch, rounded up to a multiple of 8
import dataclasses
import hashlib
import json
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dialogues
import numpy as np
import tokenizer as tokenizers_
import torch
from arguments import ArgumentMistake, Arguments

ROLES = ("system", "user", "assistant")
PAD_TO_MULTIPLE_OF = 8
# Files above this size are recognised by size and time instead of by content.
MAX_HASHED_BYTES = 64 * 2**20
_HERE = Path(__file__).resolve().parent


class Examples:
    """Encoded dialogues in three flat arrays; item ``i`` is ``ids[starts[i]:starts[i + 1]]``."""

    def __init__(self, ids: np.ndarray, labels: np.ndarray, starts: np.ndarray):
        """Wrap arrays: token ids and labels of all examples (int32), and their bounds (int64)."""
        self.ids, self.labels, self.starts = ids, labels, starts

    @classmethod
    def from_pairs(cls, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Examples:
        """Join encoded dialogues: pairs of token ids and labels."""
        starts = np.cumsum([0, *(len(ids) for ids, _ in pairs)], dtype=np.int64)
        flat = [np.fromiter((t for p in pairs for t in p[k]), np.int32) for k in (0, 1)]
        return cls(flat[0], flat[1], starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        part = slice(self.starts[index], self.starts[index + 1])
        return {"input_ids": self.ids[part], "labels": self.labels[part]}

    def lengths(self) -> np.ndarray:
        """Length of each example in tokens."""
        return np.diff(self.starts)


class TrainingOrder(torch.utils.data.Dataset):
    """All examples a training sees, in order: shuffled passes, one after the other.

    Item ``i`` belongs to optimizer step ``i // batch_size``, whatever the number of ranks and of
    accumulation steps, so a trial that is moved to other resources sees the same batches, and
    resuming at a step is a matter of an index.
    """

    def __init__(self, examples: Examples, n_items: int, seed: int):
        """Order ``examples`` for a training of ``n_items`` = steps x effective batch."""
        self.examples, self.n_items, self.seed = examples, n_items, seed
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def __len__(self) -> int:
        return self.n_items

    def __getitem__(self, position: int) -> dict[str, np.ndarray]:
        epoch, offset = divmod(position, len(self.examples))
        if epoch != self._epoch:
            # RandomState's stream is frozen (NEP 19), so every version gives the same order.
            self._order = np.random.RandomState([self.seed, epoch]).permutation(len(self.examples))
            self._epoch = epoch
        return self.examples[int(self._order[offset])]


def collate(examples: Sequence[Mapping[str, np.ndarray]], pad_id: int) -> dict[str, torch.Tensor]:
    """Pad examples on the right and stack them."""
    longest = max(len(example["input_ids"]) for example in examples)
    width = -(-longest // PAD_TO_MULTIPLE_OF) * PAD_TO_MULTIPLE_OF
    shape = (len(examples), width)
    input_ids = torch.full(shape, pad_id, dtype=torch.long)  # (B, T)
    labels = torch.full(shape, tokenizers_.IGNORED, dtype=torch.long)  # (B, T)
    attention_mask = torch.zeros(shape, dtype=torch.long)  # (B, T), 1 = token, 0 = padding
    for row, example in enumerate(examples):
        n_tokens = len(example["input_ids"])
        input_ids[row, :n_tokens] = torch.from_numpy(example["input_ids"].astype(np.int64))
        labels[row, :n_tokens] = torch.from_numpy(example["labels"].astype(np.int64))
        attention_mask[row, :n_tokens] = 1
    return {"input_ids": input_ids, "labels": labels, "attention_mask": attention_mask}


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
    for name in ("data.py", "dialogues.py", "tokenizer.py"):
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
# A row: its messages, and where it stands (a 1-based line or row number).
Row = tuple[Sequence[dict[str, str]], int]


def split_rows(arguments: Arguments) -> tuple[list[Row], list[Row]]:
    """Read the training and the evaluation rows.

    Without ``eval_data``, a row is held back if the checksum of its content falls below
    ``eval_fraction``: equal rows never stand on both sides, every seed has the same split, and
    adding rows moves none.

    Raises:
        ArgumentMistake: A row that cannot be read, or an empty side.
    """
    rows = list(read_rows(arguments.data))
    if arguments.eval_data:
        train, held_back = rows, list(read_rows(arguments.eval_data))
    else:
        train, held_back = [], []
        for row in rows:
            text = json.dumps(row[0], ensure_ascii=False, sort_keys=True)
            is_held_back = zlib.crc32(text.encode()) < arguments.eval_fraction * 2**32
            (held_back if is_held_back else train).append(row)
    for side, name in ((train, "training"), (held_back, "evaluation")):
        if not side:
            raise ArgumentMistake(
                f"--data={arguments.data}: {len(rows)} rows leave none for {name}; give more rows, "
                "--eval_data, or another --eval_fraction"
            )
    return train, held_back


def read_rows(source: str) -> Iterator[Row]:
    """Read the dialogues of a source.

    Raises:
        ArgumentMistake: Names file, line and what is wrong.
    """
    if source == "dialogues":
        for number, dialogue in enumerate(dialogues.make_dialogues(), 1):
            yield dialogue, number
    elif os.path.isdir(source):
        for number, row in enumerate(_load_dataset(source), 1):
            yield check_row(row, f"{source}: row {number}"), number
    else:
        with open(source, "rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _parse_line(line, f"{source}:{number}"), number


def _parse_line(line: bytes, where: str) -> list[dict[str, str]]:
    try:
        row = json.loads(line)
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError
        raise ArgumentMistake(f"{where}: not JSON: {error}") from None
    return check_row(row, where)


def check_row(row: Any, where: str) -> list[dict[str, str]]:
    """Bring a row into the form of messages.

    Raises:
        ArgumentMistake: The row has another form, or no answer.
    """
    if not isinstance(row, Mapping):
        raise ArgumentMistake(f"{where}: found {type(row).__name__}, an object is needed")
    if "messages" in row:
        messages = row["messages"]
        if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
            raise ArgumentMistake(f"{where}: messages: a list of at least one message is needed")
    elif "prompt" in row and "response" in row:
        messages = [
            {"role": "user", "content": row["prompt"]},
            {"role": "assistant", "content": row["response"]},
        ]
    else:
        raise ArgumentMistake(
            f"{where}: found the keys {', '.join(map(str, row)) or 'none'}; needed are messages, "
            "or prompt and response"
        )
    for index, message in enumerate(messages):
        place = f"{where}: messages[{index}]"
        if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
            raise ArgumentMistake(f"{place}: an object with role and content is needed")
        if message["role"] not in ROLES:
            raise ArgumentMistake(
                f"{place}: role {message['role']!r} is not known; allowed: {', '.join(ROLES)}"
            )
        if not isinstance(message["content"], str):
            raise ArgumentMistake(f"{place}: content is not a text")
    roles = [message["role"] for message in messages]
    if "assistant" not in roles or roles[0] == "assistant":
        raise ArgumentMistake(f"{where}: needs a question and an answer (role assistant) after it")
    return [{"role": m["role"], "content": m["content"]} for m in messages]


def _load_dataset(directory: str) -> Any:
    # Lazy: the library brings pyarrow and pandas, which most trials do without.
    from datasets import Dataset, DatasetDict, load_from_disk

    try:
        loaded: Dataset | DatasetDict = load_from_disk(directory)
    except (OSError, ValueError) as error:
        raise ArgumentMistake(
            f"{directory}: not a directory of datasets.save_to_disk: {error}"
        ) from None
    if isinstance(loaded, DatasetDict):
        if "train" not in loaded:
            raise ArgumentMistake(f"{directory}: has the splits {', '.join(loaded)}, no train")
        return loaded["train"]
    return loaded


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
