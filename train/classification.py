"""Sequence classification: one of several classes for a text or for a pair of texts.

A row has one or two texts and a class, as the MRPC task: ``{"sentence1": ..., "sentence2": ...,
"label": 1}``. Other usual names are known (``_COLUMNS``); any are named by ``--text_columns=a,b``
and ``--label_column=c``. Classes are numbers or texts; their names are recorded in the model's
configuration (``id2label``), so that a checkpoint says what it answers.

A tokenizer with a separator (BERT's kind) joins a pair in its own way; another one writes
begin-of-text, first text, end-of-text, second text, end-of-text. A pair longer than ``seq_len`` is
shortened token by token at the end of its longer text. Padding is on the right; the model reads its
answer off the last token that is none.

Not covered: regression (a grade such as 3.8), several classes at once, and segment ids (BERT's
``token_type_ids``: such a model takes both texts for one segment, told apart by the separator).
"""

from __future__ import annotations

# B batch, C classes
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from arguments import ArgumentMistake, Arguments
from batches import Examples, collate
from tasks import Encoded, Row, Split, Task
from tokenizer import IGNORED

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedTokenizerBase

# Columns of texts as known data sets call them; the first row of this table that fits is taken.
_COLUMNS = (
    ("sentence1", "sentence2"),
    ("text_a", "text_b"),
    ("#1 String", "#2 String"),  # MRPC as its authors gave it
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("text",),
    ("sentence",),
)
_LABELS = ("label", "Quality")
_MOST_CLASSES = 1000  # more are a mistake in the column's name


class ClassificationTask(Task):
    """Texts or pairs of texts, and the class of each."""

    name = "classification"
    rows = "rows"
    own_data = "pairs"
    architecture = "ForSequenceClassification"
    metrics = ("eval_loss", "eval_accuracy", "eval_f1")
    can_pack = False

    def parse(self, record: Any, where: str, arguments: Arguments) -> dict[str, Any]:
        """Bring a row into the form ``{"texts": [...], "label": ...}``."""
        if not isinstance(record, Mapping):
            raise ArgumentMistake(f"{where}: found {type(record).__name__}, an object is needed")
        columns = _find_columns(record, where, arguments.text_columns)
        texts = [record[column] for column in columns]
        for column, text in zip(columns, texts, strict=True):
            if not isinstance(text, str):
                raise ArgumentMistake(f"{where}: {column}: found {type(text).__name__}, not a text")
        column = find_label_column(record, where, arguments.label_column)
        return {"texts": texts, "label": _check_label(record[column], column, where)}

    def texts(self, rows: Iterable[Row]) -> list[str]:
        """List the texts."""
        return [text for content, _ in rows for text in content["texts"]]

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, split: Split, arguments: Arguments
    ) -> Encoded:
        """Encode both sides; the class stands in the labels, at the last token."""
        column = arguments.label_column or next((c for c in _LABELS if c in split.class_names), "")
        classes, numbers = number_classes(
            [*split.train, *split.eval],
            split.class_names.get(column, ()),
            _read_model_names(arguments.model),
        )
        _say_what_is_unknown(split, arguments)
        sides = []
        for rows, source in (
            (split.train, arguments.data),
            (split.eval, arguments.eval_data or arguments.data),
        ):
            pairs, n_cut = [], 0
            for content, where in rows:
                if not any(text.strip() for text in content["texts"]):
                    raise ArgumentMistake(f"{where}: the texts are empty")
                ids, is_cut = _encode_texts(tokenizer, content["texts"], arguments.seq_len)
                n_cut += is_cut
                pairs.append((ids, [IGNORED] * (len(ids) - 1) + [numbers[content["label"]]]))
            if n_cut:
                sys.stderr.write(
                    f"{source}: {n_cut} of {len(rows)} rows are longer than "
                    f"--seq_len={arguments.seq_len} tokens and shortened\n"
                )
            sides.append(Examples.from_pairs(pairs))
        return Encoded(sides[0], sides[1], classes)

    def collate(
        self, examples: Sequence[Mapping[str, np.ndarray]], pad_id: int
    ) -> dict[str, torch.Tensor]:
        """Pad on the right; one label for each row."""
        batch = collate(examples, pad_id)
        classes = [int(example["labels"][-1]) for example in examples]
        return {**batch, "labels": torch.tensor(classes)}  # (B,)

    def model_config(self, labels: Sequence[str], pad_id: int) -> dict[str, Any]:
        """Name the classes, and the padding that the model must not read its answer off."""
        return {
            "id2label": dict(enumerate(labels)),
            "label2id": {name: number for number, name in enumerate(labels)},
            "pad_token_id": pad_id,
            "problem_type": "single_label_classification",
        }

    @staticmethod
    def compute_loss(
        outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Compute the mean over the whole effective batch.

        The model's own loss is the mean of a micro-batch whatever it is told of the whole, which
        the Trainer (transformers 5.23) then takes for a part of the mean: gradients would be too
        long by the number of accumulation steps.
        """
        losses = torch.nn.functional.cross_entropy(
            outputs["logits"].float(), labels, reduction="sum"
        )
        return losses / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    def measure(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Sum the loss in nats, and count the answers by true class and predicted class."""
        n_classes = logits.shape[-1]
        losses = torch.nn.functional.cross_entropy(logits.float(), labels, reduction="none")  # (B,)
        cells = labels * n_classes + logits.argmax(-1)  # (B,)
        counts = torch.bincount(cells, minlength=n_classes**2).double()
        return torch.cat([losses.double().sum()[None], counts])

    def summarize(self, sums: torch.Tensor) -> dict[str, float]:
        """Return mean loss, share of right answers, and F1 (``score_f1``)."""
        n_classes = round(len(sums[1:]) ** 0.5)
        counts = [[round(x) for x in row] for row in sums[1:].view(n_classes, n_classes).tolist()]
        n_rows = sum(map(sum, counts))
        n_right = sum(counts[number][number] for number in range(n_classes))
        return {
            "eval_loss": float(sums[0]) / n_rows,
            "eval_accuracy": n_right / n_rows,
            "eval_f1": score_f1(counts),
        }


def score_f1(counts: Sequence[Sequence[int]]) -> float:
    """Compute F1 from the counts by true class and predicted class.

    Of two classes, that of class 1 (as GLUE scores MRPC); of more, the mean over all classes that
    occur or were predicted (macro F1). A class never predicted right has 0; with nothing to score,
    as with class 1 neither there nor predicted, it is 0.
    """
    scores = []
    for number in range(len(counts)):
        n_true = sum(counts[number])
        n_predicted = sum(row[number] for row in counts)
        total = n_true + n_predicted
        scores.append(2 * counts[number][number] / total if total else None)
    if len(counts) == 2:
        return scores[1] or 0.0
    there = [score for score in scores if score is not None]
    return sum(there) / len(there) if there else 0.0


def number_classes(
    rows: Sequence[Row], of_data: Sequence[str] = (), of_model: Sequence[str] = ()
) -> tuple[tuple[str, ...], dict[int | str, int]]:
    """Number the classes: as the model does, else as the data set does, else sorted.

    Args:
        rows: Rows of both sides.
        of_data: Names by number, as the data set has them for classes that are numbers.
        of_model: Names by number, of a model that is a classifier already.

    Returns:
        Names by number, and the number of each class as it stands in the rows.

    Raises:
        ArgumentMistake: Numbers and texts are mixed, there is but one class, or very many.
    """
    places: dict[int | str, str] = {}
    for content, where in rows:
        places.setdefault(content["label"], where)
    first = next(iter(places))
    for label, where in places.items():
        if type(label) is not type(first):
            raise ArgumentMistake(
                f"{where}: the class is {label!r}, but {first!r} at {places[first]}: all must be "
                "numbers, or all texts"
            )
        if of_data and isinstance(label, int) and label >= len(of_data):
            raise ArgumentMistake(f"{where}: class {label}, but names for {len(of_data)} classes")
    if len(places) < 2 or len(places) > _MOST_CLASSES:
        raise ArgumentMistake(
            f"{rows[0][1]}: found {len(places)} classes in {len(rows)} rows; 2 to {_MOST_CLASSES} "
            "are needed; name the column by --label_column"
        )
    has_names = isinstance(first, str) or bool(of_data)
    names = {
        label: of_data[label] if isinstance(label, int) and of_data else label for label in places
    }
    if has_names and set(names.values()) <= set(of_model):
        return tuple(of_model), {label: list(of_model).index(str(n)) for label, n in names.items()}
    if not has_names and all(0 <= int(label) < len(of_model) for label in places):
        return tuple(of_model), {label: int(label) for label in places}
    if of_data and not isinstance(first, str):
        return tuple(of_data), {label: int(label) for label in places}
    ordered = sorted(places, key=lambda label: (isinstance(label, str), label))
    return tuple(map(str, ordered)), {label: number for number, label in enumerate(ordered)}


def _say_what_is_unknown(split: Split, arguments: Arguments) -> None:
    """Name a class that is evaluated and not trained on; in data of its own it is a mistake.

    Raises:
        ArgumentMistake: ``--eval_data`` has such a class; it may be spelt otherwise there.
    """
    known = {content["label"] for content, _ in split.train}
    strange = [(content["label"], where) for content, where in split.eval]
    strange = [(label, where) for label, where in strange if label not in known]
    if not strange:
        return
    label, where = strange[0]
    message = f"{where}: the class {label!r} does not occur in training"
    if arguments.eval_data:
        raise ArgumentMistake(f"{message}; give more rows, or another --eval_data")
    sys.stderr.write(f"warning: {message}, as in {len(strange)} of {len(split.eval)} rows\n")


def _find_columns(record: Mapping[str, Any], where: str, wanted: str) -> Sequence[str]:
    choices = [[name.strip() for name in wanted.split(",")]] if wanted else _COLUMNS
    for columns in choices:
        if all(column in record for column in columns):
            return columns
    needed = " or ".join(" and ".join(columns) for columns in choices)
    raise ArgumentMistake(
        f"{where}: found the keys {', '.join(map(str, record)) or 'none'}; needed are the texts "
        f"{needed}; name others by --text_columns=a,b"
    )


def find_label_column(record: Mapping[str, Any], where: str, wanted: str) -> str:
    """Find the column of the class.

    Raises:
        ArgumentMistake: There is none.
    """
    choices = [wanted] if wanted else _LABELS
    for column in choices:
        if column in record:
            return column
    raise ArgumentMistake(
        f"{where}: found the keys {', '.join(map(str, record)) or 'none'}; needed is the class, "
        f"{' or '.join(choices)}; name another column by --label_column"
    )


def _check_label(label: Any, column: str, where: str) -> int | str:
    if isinstance(label, str) and label.strip():
        text = label.strip()
        if not text.lstrip("-").isascii() or not text.lstrip("-").isdigit():
            return text
        label = int(text)  # CSV knows texts only
    if isinstance(label, (bool, int)) or (isinstance(label, float) and label.is_integer()):
        label = int(label)
        if label >= 0:
            return label
    if label is None or label == "" or label == -1:
        raise ArgumentMistake(
            f"{where}: {column}: found {label!r}: this row has no class; use another split "
            "(--eval_split) or leave it out"
        )
    raise ArgumentMistake(
        f"{where}: {column}: found {label!r}; a class is a text or a number from 0 (grades are not "
        "covered)"
    )


def _read_model_names(model: str) -> list[str]:
    """Read the names of the classes of a directory that is a classifier; else none."""
    path = Path(model) / "config.json"
    if not path.is_file():
        return []
    try:
        config = json.loads(path.read_bytes())
    except ValueError:
        return []  # the model does not load either, and says why
    kinds = config.get("architectures") or []
    names = config.get("id2label") or {}
    if not any(str(kind).endswith("ForSequenceClassification") for kind in kinds):
        return []
    return [str(names[number]) for number in sorted(names, key=int)]


def _encode_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], seq_len: int
) -> tuple[list[int], bool]:
    """Join one text or two; say whether they had to be shortened."""
    if tokenizer.sep_token_id is not None:
        ids = tokenizer(*texts)["input_ids"]
        if len(ids) <= seq_len:
            return list(ids), False
        short = tokenizer(*texts, truncation="longest_first", max_length=seq_len)
        return list(short["input_ids"]), True
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    end = tokenizer.eos_token_id
    # The model reads its answer off the last token that is not padding.
    last = [] if end == tokenizer.pad_token_id else [end]
    parts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    room = seq_len - len(begin) - (len(parts) - 1) - len(last)
    if room < len(parts):
        raise ArgumentMistake(
            f"--seq_len={seq_len}: leaves no token for the texts; use a larger one"
        )
    lengths = _share_room([len(part) for part in parts], room)
    joined = list(begin)
    for index, (part, length) in enumerate(zip(parts, lengths, strict=True)):
        joined += [*([end] if index else []), *part[:length]]
    return joined + last, sum(lengths) < sum(map(len, parts))


def _share_room(lengths: Sequence[int], room: int) -> list[int]:
    """Shorten the longer of two texts, then both alike, until they fit."""
    if sum(lengths) <= room:
        return list(lengths)
    if len(lengths) == 1:
        return [room]
    shorter = min(*lengths, room // 2)
    others = room - shorter
    return [shorter, others] if lengths[0] <= lengths[1] else [others, shorter]
