"""``metric:`` and ``objectives:`` of a sweep spec. Pure; called by ``spec_loader``.

``metric: {name, goal}`` is Weights & Biases' form of one objective. ``objectives:`` is a list of
such: the first is ranked, all together make the Pareto front. With both the first must be the
metric, so that a reader of either is not misled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from orchestrator.domain.spec import GOALS, Metric
from orchestrator.domain.spec_tree import (
    Node,
    fail,
    read_choice,
    read_list,
    read_mapping,
    read_text,
)

MAX_OBJECTIVES = 8
_OF_WANDB = ("target", "impute", "impute_while_running")
Warn = Callable[[Node, str, str], None]


def read_objectives(
    tree: Node, fields: Mapping[str, Node], warn: Warn
) -> tuple[Metric | None, tuple[Metric, ...]]:
    """Read the objective that is ranked, and the further ones.

    Args:
        tree: The whole spec, whose place a warning about what is missing has.
        fields: Its keys.
        warn: Takes what was accepted and may surprise.

    Raises:
        SpecError: A mistake in one, none in the list, one twice, or both keys disagree.
    """
    single, several = fields.get("metric"), fields.get("objectives")
    if single is None and several is None:
        warn(
            Node(None, tree.file),
            "metric",
            "is missing, so the leaderboard cannot rank; add metric: {name: ..., goal: ...}",
        )
        return None, ()
    metric = None if single is None else _read_metric(single, "metric", warn)
    if several is None:
        return metric, ()
    found: list[Metric] = []
    for place, item in enumerate(read_list(several, "objectives")):
        key = f"objectives[{place}]"
        one = _read_metric(item, key, warn)
        if any(one.name == other.name for other in found):
            raise fail(item, key, f"{one.name} is in the list already; name each metric once")
        found.append(one)
    if not found or len(found) > MAX_OBJECTIVES:
        raise fail(
            several, "objectives", f"has {len(found)} entries; list from 1 to {MAX_OBJECTIVES}"
        )
    if metric is not None and metric != found[0]:
        raise fail(
            several,
            "objectives",
            f"the first is {found[0].name}, {found[0].goal}, and metric: is {metric.name}, "
            f"{metric.goal}; the first objective is the one that is ranked: make them the same, "
            "or remove metric:",
        )
    return found[0], tuple(found[1:])


def _read_metric(node: Node, key: str, warn: Warn) -> Metric:
    fields = read_mapping(node, key, ("name", "goal", *_OF_WANDB))
    if "name" not in fields:
        raise fail(node, key, "has no name; add name: loss, or what the program reports")
    name = read_text(fields["name"], f"{key}.name", "val_loss")
    for word in _OF_WANDB:
        if word in fields:
            warn(fields[word], f"{key}.{word}", "is ignored; all trials run to their end")
    if "goal" not in fields:
        warn(node, key, "has no goal; minimize is assumed, as in Weights & Biases")
        return Metric(name, "minimize")
    return Metric(name, read_choice(fields["goal"], f"{key}.goal", GOALS))
