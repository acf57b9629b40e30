"""Scrambled Sobol points: as random as draws, but spread evenly over the space. Pure.

Dimension j of the sequence belongs to the j-th dimension of the space and is scrambled by that
dimension's own random stream. So raising ``run_cap`` appends trials, and a parameter added at the
end leaves the draws of the others as they were; one added before them does not.

Reference: Owen, Scrambling Sobol' and Niederreiter-Xing points (1998), as in scipy.stats.qmc.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.domain.samplers.random import stream


def sobol_units(names: Sequence[str], seed: int, count: int) -> list[list[float]]:
    """Draw numbers of [0, 1): for each name its column of ``count``, a prefix of any longer one."""
    # Lazy: scipy.stats takes half a second to import.
    from scipy.stats.qmc import Sobol

    # A whole power of two, else the sequence loses its balance and scipy warns.
    power = max(count - 1, 1).bit_length()
    columns: list[list[float]] = []
    for index, name in enumerate(names):
        engine = Sobol(index + 1, scramble=True, rng=stream(seed, name))
        columns.append(engine.random_base2(power)[:count, index].tolist())
    return columns
