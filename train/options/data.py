"""What it is trained and evaluated on. Standard library only."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arguments import Arguments
    from machine import Machine


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """What it is trained and evaluated on."""

    task: str = "sft"
    """sft (dialogues, loss on answers), clm (plain texts), classification (texts or pairs)."""
    data: str = "dialogues"
    """dialogues, texts or pairs (self-made), files joined by commas (jsonl, json, csv, tsv, txt,
    parquet, arrow), or a directory of such files or of datasets.save_to_disk."""
    eval_data: str = ""
    """As --data; empty: the validation or test split of --data, else --eval_fraction of it."""
    eval_split: str = ""
    """Split that is evaluated on; empty: validation, else test."""
    eval_fraction: float = 0.1
    """Share of --data held back for evaluation, chosen by content, the same for every seed."""
    seq_len: int = 64
    """Longest sequence in tokens; longer dialogues are cut on the right, texts into blocks."""
    max_train_examples: int = 0
    """Train on at most so many rows, chosen by content: fewer are a part of more; 0: all."""
    chat_template: str = ""
    """File with a Jinja chat template for dialogues; empty: the tokenizer's, else a plain one."""
    text_columns: str = ""
    """Columns of the texts, joined by a comma; empty: the usual names, such as text, sentence1."""
    label_column: str = ""
    """Column of the class for --task=classification; empty: label or Quality."""
    eval_stride: int = 0
    """New tokens per window when --task=clm evaluates texts longer than --seq_len; fewer give each
    token more context and cost more; 0: seq_len - 1, each token read once."""


CHOICES = {"task": ("sft", "clm", "classification")}
# Self-made data, and the task it is for.
OWN_DATA = {"dialogues": "sft", "texts": "clm", "pairs": "classification"}
# Arguments that only some tasks know.
_TASKS_OF = {
    "chat_template": ("sft",),
    "text_columns": ("clm", "classification"),
    "label_column": ("classification",),
    "eval_stride": ("clm",),
    "packing": ("sft", "clm"),  # one answer for each sequence
    "curriculum": ("sft", "clm"),  # the answer is read off a sequence's end
}
# How families of models call the number of their positions in config.json.
_POSITIONS = (
    "max_position_embeddings",
    "n_positions",
    "n_ctx",
    "max_seq_len",
    "max_sequence_length",
)
AT_LEAST = {"seq_len": 2, "max_train_examples": 0, "eval_stride": 0}


def find_mistakes(arguments: Arguments, machine: Machine) -> Iterator[str]:
    """Say what cannot work, a line each; what is unknown of the machine is no mistake."""
    yield from _find_task_mistakes(arguments)
    limit = find_position_limit(arguments.model)
    if limit is not None and arguments.seq_len > limit:
        yield (
            f"--seq_len={arguments.seq_len}: longer than the {limit} positions of "
            f"--model={arguments.model} (config.json); use at most {limit}"
        )
    if not arguments.eval_data and not 0 < arguments.eval_fraction < 1:
        yield (
            f"--eval_fraction={arguments.eval_fraction}: use a number between 0 and 1, or give "
            "--eval_data"
        )


def _find_task_mistakes(arguments: Arguments) -> Iterator[str]:
    task = arguments.task
    for name in ("data", "eval_data"):
        source = getattr(arguments, name)
        fitting = next((t for own, t in OWN_DATA.items() if own == source), task)
        if fitting != task:
            own = next(own for own, t in OWN_DATA.items() if t == task)
            yield (
                f"--{name}={source}: for --task={fitting}, not {task}; use --{name}={own} or your "
                "own rows"
            )
    for name, tasks in _TASKS_OF.items():
        is_set = getattr(arguments, name, None) != getattr(type(arguments), name, None)
        if is_set and task not in tasks:
            yield f"--{name}: with --task={' or '.join(tasks)} only; found --task={task}"
    n_columns = len(arguments.text_columns.split(","))
    most = 2 if task == "classification" else 1
    if n_columns > most:
        yield (
            f"--text_columns={arguments.text_columns}: {n_columns} columns; --task={task} reads "
            f"{'one or two' if most == 2 else 'one'}"
        )
    if arguments.eval_stride >= arguments.seq_len:
        yield (
            f"--eval_stride={arguments.eval_stride}: use less than --seq_len={arguments.seq_len}, "
            "or tokens would have no context"
        )
    if arguments.eval_split and arguments.eval_data in OWN_DATA:
        yield f"--eval_split={arguments.eval_split}: {arguments.eval_data} has no splits"


def find_position_limit(model: str) -> int | None:
    """Read from a model directory how long a sequence may be; None if that is not known.

    Rotary scaling of the kinds linear and dynamic stretches the positions by its factor; the other
    kinds state the stretched number.
    """
    path = Path(model) / "config.json"
    if not model or not path.is_file():
        return None
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None  # loading the model says what is wrong
    if not isinstance(config, dict):
        return None
    if isinstance(config.get("text_config"), dict):
        config = {**config, **config["text_config"]}
    for name in _POSITIONS:
        limit = config.get(name)
        if isinstance(limit, int) and limit > 0:
            break
    else:
        return None
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type")) if isinstance(scaling, dict) else None
    factor = scaling.get("factor") if kind in ("linear", "dynamic") else None
    return int(limit * factor) if isinstance(factor, (int, float)) and factor > 1 else limit
