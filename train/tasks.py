"""What a training is for: the interface between the data and the rest, one class per task.

A task says how a row is read and encoded, how examples become a batch, which class of model it
trains, how its loss is computed where the model's own is not exact, and what an evaluation
measures. ``find_task`` is the only place that knows the names; no other file asks which task it
is. A new task is a new file and a line in ``_TASKS``.

``Data.task`` carries the task of a training to all who need it. Runs on the compute node.
"""

from __future__ import annotations

import abc
import dataclasses
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from batches import collate

if TYPE_CHECKING:
    import numpy as np
    import torch
    from arguments import Arguments
    from batches import Examples
    from transformers import PreTrainedTokenizerBase

# A row: its content as the task reads it, of JSON's types only; and where it stands, for messages.
Row = tuple[Any, str]
# Loss of a batch from the model's outputs, its labels, and the number of labels in the whole
# effective batch over all accumulation steps and ranks (the Trainer's ``compute_loss_func``).
LossFunction = Callable[..., "torch.Tensor"]

# name -> module and class
_TASKS = {
    "sft": ("sft", "DialogueTask"),
    "clm": ("causal_lm", "TextTask"),
    "classification": ("classification", "ClassificationTask"),
}


class Split(NamedTuple):
    """The rows of a training, on two sides; neither is empty."""

    train: Sequence[Row]
    eval: Sequence[Row]
    class_names: Mapping[str, Sequence[str]] = {}
    """Names by number for columns whose values are numbers of classes, if the data has them."""


@dataclasses.dataclass(frozen=True)
class Encoded:
    """The two sides of a data set, ready for batches."""

    train: Examples
    eval: Examples
    labels: tuple[str, ...] = ()
    """Names of the classes, by number; empty for a language model."""


class Task(abc.ABC):
    """What a training is for; stateless."""

    name: str
    """As in ``--task``."""
    rows: str
    """What a row is called in messages, in the plural."""
    own_data: str
    """The self-made data of this task, as in ``--data``."""
    architecture: str
    """End of the class's name in transformers: ``AutoModel`` + this loads a directory."""
    metrics: tuple[str, ...]
    """What ``summarize`` returns; the first is the mean loss, in nats."""
    can_pack: bool
    """Whether several examples may share a sequence (tokens predict tokens)."""
    compute_loss: LossFunction | None = None
    """The loss where the model's own is not exact under accumulation; None: the model's own."""

    @abc.abstractmethod
    def parse(self, record: Any, where: str, arguments: Arguments) -> Any:
        """Check a raw row and bring it into the task's form, of JSON's types only.

        Args:
            record: What stands in the file.
            where: File and line or row, for messages.
            arguments: The command line, for names of columns.

        Raises:
            ArgumentMistake: The row has another form.
        """

    @abc.abstractmethod
    def texts(self, rows: Iterable[Row]) -> list[str]:
        """List the texts of rows, to train a tokenizer on."""

    @abc.abstractmethod
    def encode(
        self, tokenizer: PreTrainedTokenizerBase, split: Split, arguments: Arguments
    ) -> Encoded:
        """Encode both sides.

        Raises:
            ArgumentMistake: Nothing is left to train on or to evaluate.
        """

    def collate(
        self, examples: Sequence[Mapping[str, np.ndarray]], pad_id: int
    ) -> dict[str, torch.Tensor]:
        """Stack examples into the arguments of the model's forward pass, ``labels`` among them."""
        return collate(examples, pad_id)

    def model_config(self, labels: Sequence[str], pad_id: int) -> dict[str, Any]:
        """List what the model's configuration must hold, beside what the model brings."""
        return {}

    @abc.abstractmethod
    def measure(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Sum what is measured over a batch, as float64 numbers that may be added up exactly."""

    @abc.abstractmethod
    def summarize(self, sums: torch.Tensor) -> dict[str, float]:
        """Turn the sums over all batches and ranks into ``metrics``."""


def find_task(name: str) -> Task:
    """Return the task of ``--task``; only its own module is imported."""
    module, cls = _TASKS[name]
    task: Task = getattr(importlib.import_module(module), cls)()
    return task
