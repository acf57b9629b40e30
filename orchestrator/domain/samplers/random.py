"""Independent draws: every dimension has its own random stream. Pure.

The stream is seeded by the spec's ``sampling_seed`` and the dimension's name alone, and trial i
takes draw i of every stream whether or not it is active. So raising ``run_cap`` appends trials, and
adding, removing or reordering parameters leaves the draws of the others as they were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def random_units(names: Sequence[str], seed: int, count: int) -> list[list[float]]:
    """Draw numbers of [0, 1): for each name its column of ``count``, a prefix of any longer one."""
    return [stream(seed, name).random(count).tolist() for name in names]


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the random stream of a dimension; PCG64, whose output numpy keeps over versions."""
    # Lazy: a grid needs no numpy, whose import takes 0.1 s.
    import numpy as np

    digest = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16])
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, digest])))
