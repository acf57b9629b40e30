"""Names that another tool takes: others are cleaned, and no two become one. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from orchestrator.domain.plain_text import one_line

# In one note; the rest is counted.
_SHOWN = 3


def clean_names(
    names: Iterable[str],
    allowed: str,
    max_chars: int,
    *,
    letter_first: bool = False,
    is_path: bool = False,
    reserved: Collection[str] = (),
    prefix: str = "",
) -> dict[str, str]:
    """Map each name to one that a tool takes.

    Args:
        names: Names, in order: an earlier one has the better claim to its cleaned form, and a name
            that is allowed as it is the best.
        allowed: Inside of a regular expression's brackets: characters that may stand.
        max_chars: Longest name.
        letter_first: Whether it has to begin with an ASCII letter or ``_``.
        is_path: Whether it is taken for a path, which may not lead out of its folder.
        reserved: Names of something else, which none of these becomes.
        prefix: What stands before a name that would have become one of those.

    Returns:
        Cleaned names by name; of two that would become one, the later gets ``_2``, ``_3``, ...
    """
    unique = list(dict.fromkeys(names))
    cleaned = {name: _clean(name, allowed, max_chars, letter_first, is_path) for name in unique}
    for name in unique:
        if cleaned[name] in reserved:
            cleaned[name] = _clean(prefix + name, allowed, max_chars, letter_first, is_path)
    own = {name for name in unique if cleaned[name] == name}
    taken = own.union(reserved)
    for name in unique:
        if name in own:
            continue
        base, number = cleaned[name], 2
        while cleaned[name] in taken:
            suffix = f"_{number}"
            cleaned[name] = base[: max_chars - len(suffix)] + suffix
            number += 1
        taken.add(cleaned[name])
    return cleaned


def describe_renames(what: str, cleaned: dict[str, str]) -> list[str]:
    """Say in a line which names are not as they were; no line if all are."""
    renamed = [(name, new) for name, new in cleaned.items() if name != new]
    if not renamed:
        return []
    shown = ", ".join(f"{one_line(name, 40)!r} is {new!r}" for name, new in renamed[:_SHOWN])
    more = f" and {len(renamed) - _SHOWN} more" if len(renamed) > _SHOWN else ""
    return [f"{what} renamed: {shown}{more}"]


def _clean(name: str, allowed: str, max_chars: int, letter_first: bool, is_path: bool) -> str:
    text = re.sub(f"[^{allowed}]", "_", name)[:max_chars]
    if is_path and any(part in ("", ".", "..") for part in text.split("/")):
        text = re.sub("[/.]", "_", text)
    if letter_first and not re.match("[A-Za-z_]", text):
        text = f"_{text}"[:max_chars]
    return text or "_"
