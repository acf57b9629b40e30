"""A curriculum of sequence lengths: short ones first, a pure function of the step.

Early in a training long sequences make gradients noisy and cost most; starting short and growing
trains more stably (arXiv 2108.06084). Nothing is saved: the length follows from the position of
an example in the training, so a preempted trial cuts its examples as an uninterrupted one does.

Longer examples are cut, not left out: every step sees as many sequences as without a curriculum,
but fewer tokens. Standard library only, save numpy's arrays that are cut.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


class CurriculumMistake(Exception):
    """A curriculum that cannot be read; the text says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of the training with one length."""

    length: int
    """Longest sequence, in tokens; at least 2, since the first one is never predicted."""
    share: float
    """Share of the training's steps after which it begins, 0 to 1."""


def parse_curriculum(text: str) -> tuple[Stage, ...]:
    """Read ``64:0,128:0.3``; ``none`` gives no stages.

    Raises:
        CurriculumMistake: Not this form; not growing; or not from 0 on.
    """
    if text == "none":
        return ()
    stages = tuple(_parse_stage(part) for part in text.split(","))
    if stages[0].share != 0:
        raise CurriculumMistake(f"begins at {stages[0].share}; the first share must be 0")
    for before, after in itertools.pairwise(stages):
        if after.length <= before.length or after.share <= before.share:
            raise CurriculumMistake(
                f"{after.length}:{after.share} after {before.length}:{before.share}; lengths and "
                "shares must grow"
            )
    return stages


def _parse_stage(part: str) -> Stage:
    length, _, share = part.partition(":")
    try:
        stage = Stage(int(length), float(share))
    except ValueError:
        raise CurriculumMistake(
            f"{part!r} is not length:share; use a form such as 64:0,128:0.3"
        ) from None
    if stage.length < 2:
        raise CurriculumMistake(f"length {stage.length}; use at least 2")
    if not 0 <= stage.share < 1:
        raise CurriculumMistake(f"share {share}; use a number from 0 to below 1")
    return stage


def length_at(stages: Sequence[Stage], step: int, max_steps: int) -> int:
    """Return the longest sequence of a step.

    Args:
        stages: At least one, as ``parse_curriculum`` gives them.
        step: Steps done before it: 0 for the first.
        max_steps: Steps of the whole training.
    """
    return next(s.length for s in reversed(stages) if step >= s.share * max_steps)


def cut(example: Mapping[str, np.ndarray], length: int, ignored: int) -> dict[str, np.ndarray]:
    """Cut an encoded example to ``length`` tokens.

    On the right, as data is cut to ``seq_len``; but where that would leave no answer to learn
    from, the part around the start of the first answer is taken.

    Args:
        example: ``input_ids`` and ``labels``, maybe more of the same length.
        length: Tokens to keep at most.
        ignored: The label of tokens that are not learned.
    """
    labels = example["labels"]
    start = 0
    if len(labels) > length:
        answers = (labels[1:] != ignored).nonzero()[0]  # the first token is never predicted
        if len(answers) and answers[0] + 1 >= length:
            start = min(int(answers[0]) + 1 - length // 2, len(labels) - length)
    return {name: values[start : start + length] for name, values in example.items()}
