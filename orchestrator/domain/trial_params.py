"""A trial's parameters by dotted name, and the id that they give it.

Pure. Apart from ``trials``, which makes parameters of a spec: who reads trials that are there, as
``collect`` does, needs nothing of what reads specs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# Hexadecimal digits of an id.
ID_DIGITS = 10


def trial_id(params: Mapping[str, Any]) -> str:
    """Return the id of a trial with these parameters.

    Raises:
        ValueError: A number is not finite.
    """
    return hashlib.sha256(canonical(params).encode("ascii")).hexdigest()[:ID_DIGITS]


def flatten(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested parameters by dotted name; an empty mapping stays a value."""
    flat: dict[str, Any] = {}
    for name, value in params.items():
        if isinstance(value, Mapping) and value:
            flat.update((f"{name}.{key}", item) for key, item in flatten(value).items())
        else:
            flat[name] = value
    return flat


def canonical(params: Mapping[str, Any]) -> str:
    """Spell parameters as the text that their id is a digest of; equal ones alike."""
    return json.dumps(params, sort_keys=True, separators=(",", ":"), allow_nan=False)
