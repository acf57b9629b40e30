"""Makes a small data set of sentence pairs by rules: do both sentences say the same?

Half of the pairs are paraphrases (label 1): a fact in two forms. Of the others (label 0), half deny
the fact in one sentence, which is quickly learnt, and half speak of another fact that differs in
one place, which takes comparing and far longer: 0.75 of right answers come soon. Half of the pairs
are Chinese, half English.

Deterministic and good for the same as ``dialogues``, whose facts it takes. Standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import dialogues
from dialogues import Dice

Pair = dict[str, Any]
N_PAIRS = 2400


def make_pairs(n_pairs: int = N_PAIRS, seed: int = 0) -> list[Pair]:
    """Make different pairs: ``{"sentence1": ..., "sentence2": ..., "label": 0 or 1}``."""
    dice = Dice(seed)
    pairs: list[Pair] = []
    seen: set[str] = set()
    while len(pairs) < n_pairs:
        is_chinese, is_same = len(pairs) % 2 == 0, len(pairs) % 4 < 2
        fact, other, forms, denial = dice.pick(_RULES)(dice, is_chinese)
        form, second_form = _pick_two(dice, forms)
        sentences = [form.format(*fact), second_form.format(*fact)]
        if not is_same:
            changed = dice.below(2)
            if dice.below(2):
                sentences[changed] = denial.format(*fact)
            else:
                sentences[changed] = (form, second_form)[changed].format(*other)
        pair = {"sentence1": sentences[0], "sentence2": sentences[1], "label": int(is_same)}
        if (text := repr(pair)) not in seen:
            seen.add(text)
            pairs.append(pair)
    return pairs


# What a rule gives: a fact, another one of the same kind, forms that say one, one that denies it.
_Rule = tuple[Sequence[object], Sequence[object], Sequence[str], str]


def _pick_two(dice: Dice, items: Sequence[Any]) -> tuple[Any, Any]:
    """Pick two different items."""
    first = dice.below(len(items))
    return items[first], items[(first + dice.between(1, len(items) - 1)) % len(items)]


def _lives(dice: Dice, is_chinese: bool) -> _Rule:
    name = dice.pick(dialogues.NAMES)[is_chinese]
    left, right = _pick_two(dice, dialogues.CAPITALS)
    city, other = left[1 + 2 * is_chinese], right[1 + 2 * is_chinese]
    forms = (
        ("{0}住在{1}。", "{1}是{0}住的地方。", "{0}的家在{1}。")
        if is_chinese
        else ("{0} lives in {1}.", "{1} is where {0} lives.", "The home of {0} is in {1}.")
    )
    denial = "{0}不住在{1}。" if is_chinese else "{0} does not live in {1}."
    return (name, city), (name, other), forms, denial


def _has(dice: Dice, is_chinese: bool) -> _Rule:
    name = dice.pick(dialogues.NAMES)[is_chinese]
    thing = dice.pick(dialogues.THINGS)
    left, right = _pick_two(dice, range(2, 10))
    if is_chinese:
        forms = ("{0}有{1}{2}{3}。", "{1}{2}{3}是{0}的。", "{0}拥有{1}{2}{3}。")
        things = (thing[2], thing[1])
        return (name, left, *things), (name, right, *things), forms, "{0}没有{1}{2}{3}。"
    forms = ("{0} has {1} {2}s.", "{1} {2}s belong to {0}.", "{0} owns {1} {2}s.")
    denial = "{0} does not have {1} {2}s."
    return (name, left, thing[0]), (name, right, thing[0]), forms, denial


def _wants(dice: Dice, is_chinese: bool) -> _Rule:
    name = dice.pick(dialogues.NAMES)[is_chinese]
    left, right = _pick_two(dice, dialogues.THINGS)
    forms = (
        ("{0}想要{1}。", "{1}是{0}想要的。", "{0}希望得到{1}。")
        if is_chinese
        else ("{0} wants the {1}.", "The {1} is what {0} wants.", "{0} would like the {1}.")
    )
    denial = "{0}不想要{1}。" if is_chinese else "{0} does not want the {1}."
    return (name, left[is_chinese]), (name, right[is_chinese]), forms, denial


def _is_like(dice: Dice, is_chinese: bool) -> _Rule:
    thing = dice.pick(dialogues.THINGS)[is_chinese]
    pair = dice.pick(dialogues.OPPOSITES)
    sides = pair[2:] if is_chinese else pair[:2]
    left = dice.below(2)
    forms = (
        ("这{0}很{1}。", "很{1}的是这{0}。", "看，这{0}真{1}。")
        if is_chinese
        else ("This {0} is {1}.", "It is {1}, this {0}.", "Look how {1} this {0} is.")
    )
    denial = "这{0}不{1}。" if is_chinese else "This {0} is not {1}."
    return (thing, sides[left]), (thing, sides[1 - left]), forms, denial


def _comes(dice: Dice, is_chinese: bool) -> _Rule:
    name = dice.pick(dialogues.NAMES)[is_chinese]
    left, right = _pick_two(dice, dialogues.DAYS_ZH if is_chinese else dialogues.DAYS_EN)
    forms = (
        ("{0}{1}来。", "{1}{0}会来。", "{0}来的日子是{1}。")
        if is_chinese
        else ("{0} comes on {1}.", "On {1}, {0} will come.", "The day {0} comes is {1}.")
    )
    denial = "{0}{1}不来。" if is_chinese else "{0} does not come on {1}."
    return (name, left), (name, right), forms, denial


_RULES: tuple[Callable[[Dice, bool], _Rule], ...] = (_lives, _has, _wants, _is_like, _comes)
