"""What a training runs on, as far as it is known. Standard library only."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Machine:
    """What a training runs on, as far as it is known."""

    world_size: int | None = None
    """Ranks; None: not known yet."""
    has_gpu: bool | None = None
    """Whether each rank has a GPU; None: not known yet."""
    capability: tuple[int, int] | None = None
    """CUDA compute capability of the GPUs, such as (9, 0); None: not known, or no such GPU."""
    is_here: bool = False
    """Whether this process runs on it; of another one, nobody knows which packages it has."""
