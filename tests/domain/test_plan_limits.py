"""How many trials this machine holds at once; of partitions see ``test_plan_nodes``."""

from __future__ import annotations

import pytest

from orchestrator.domain.partition import JobShape
from orchestrator.domain.plan_limits import Machine, Room, find_problems, find_warnings, width_of


def shape(gpus: int = 0, cpus: int = 1, nodes: int = 1, gpu_type: str | None = None) -> JobShape:
    return JobShape(nodes, gpus, gpu_type, cpus, None, 60)


@pytest.mark.parametrize(
    ("machine", "asked", "max_concurrent", "max_gpus", "reasons"),
    [
        (Machine(4), shape(cpus=2), None, None, ["2: this machine has 4 CPUs"]),
        (Machine(4), shape(cpus=9), None, None, ["1: this machine has 4 CPUs"]),
        # With max_concurrent nobody counts CPUs.
        (Machine(2), shape(cpus=2), 10, None, ["10: max_concurrent: 10"]),
        (Machine(2), shape(gpus=1), None, 1, ["2: this machine has 2 CPUs"]),
        (
            Machine(16, gpus=4),
            shape(gpus=2, gpu_type="h100"),
            None,
            2,
            ["1: max_gpus: 2", "2: this machine has 4 GPUs", "16: this machine has 16 CPUs"],
        ),
        (
            Machine(1, gpus=1),
            shape(gpus=8, nodes=2),
            3,
            None,
            ["1: this machine has 1 GPU", "3: max_concurrent: 3"],
        ),
    ],
)
def test_width_on_this_machine_is_what_its_executor_runs_at_once(
    machine: Machine,
    asked: JobShape,
    max_concurrent: int | None,
    max_gpus: int | None,
    reasons: list[str],
) -> None:
    room = Room("this machine", machine=machine)
    width = width_of(asked, room, max_concurrent, max_gpus)
    assert [f"{bound.n}: {bound.words}" for bound in width.bounds] == reasons
    assert find_problems(asked, room) == []


@pytest.mark.parametrize(
    ("n_gpus", "warnings"),
    [
        (0, []),  # told where the trials are placed
        (1, ["a trial asks for 2 GPUs; this machine has 1 GPU, and it gets no more"]),
        (2, []),
    ],
)
def test_gpus_that_this_machine_lacks_are_told(n_gpus: int, warnings: list[str]) -> None:
    room = Room("this machine", machine=Machine(4, n_gpus))
    assert find_warnings(room, [shape(), shape(gpus=2)], 5) == warnings
