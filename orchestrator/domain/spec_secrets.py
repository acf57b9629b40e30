"""Showing a spec to others: without the values of its ``env``, which may be passwords and keys.

Pure. Values that stand elsewhere (parameters, the command's words) are shown as they are: they are
in the leaderboard and on the program's command line, too.
"""

from __future__ import annotations

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from orchestrator.contract.errors import SpecError
from orchestrator.domain.yaml_composer import parse_tree

HIDDEN = "(not shown)"


def hide_env(text: str) -> str | None:
    """Return a spec's text with the values of its ``env`` hidden; None if it cannot be read."""
    try:
        parse_tree(text, file="sweep.yaml")  # refuses what would take the library for ever
        root = YAML(pure=True).compose(text)
    except (SpecError, YAMLError, ValueError, RecursionError):
        return None
    if not isinstance(root, MappingNode):
        return text
    spans = [
        span
        for key, value in root.value
        if isinstance(key, ScalarNode) and key.value == "env"
        for span in _spans(value)
    ]
    for start, end in sorted(spans, reverse=True):
        # A block scalar's end takes the line break with it.
        kept = "\n" if text[start:end].endswith("\n") else ""
        text = text[:start] + HIDDEN + kept + text[end:]
    return text


def _spans(value: Node) -> list[tuple[int, int]]:
    """Return where the values of an environment stand; all of it if it is no plain mapping."""
    if not isinstance(value, MappingNode):
        return [(value.start_mark.index, value.end_mark.index)]
    return [(it.start_mark.index, it.end_mark.index) for _, it in value.value]
