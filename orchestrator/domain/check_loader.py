"""``check:`` of a spec: the program that judges its trials. Pure; ``spec_loader`` calls it."""

from __future__ import annotations

from orchestrator.domain.spec_tree import Node, fail, read_text, show


def read_check(node: Node, key: str) -> tuple[str, ...]:
    """Read ``check: tools/check.py``, a list of words, or ``none``, which gives no words.

    Raises:
        SpecError: Something else.
    """
    if node.value is None or node.value is False or node.value == "none":
        return ()
    if isinstance(node.value, list) and node.value:
        return tuple(read_text(item, key, "tools/check.py") for item in node.value)
    if isinstance(node.value, str) and node.value.strip():
        return (node.value,)
    raise fail(
        node,
        key,
        f"{show(node)} is not allowed; use a program, such as tools/check.py, a list of words, "
        "such as [tools/check, --strict], or none",
    )
