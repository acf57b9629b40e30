"""The effective batch by the usual names, and by what a spec says."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.domain.partition import JobShape
from orchestrator.domain.plan_batch import BatchSize, batch_of, show_batch
from orchestrator.domain.spec import BatchNames

EIGHT = JobShape(1, 8, None, 8, None, 60)
SIXTEEN = JobShape(2, 8, None, 8, None, 60)
CPU = JobShape(1, 0, None, 8, None, 60)


def test_batch_of_the_founding_document_is_128() -> None:
    batch = batch_of({"per_device_train_batch_size": 16}, EIGHT, None)
    assert batch == BatchSize(128, 16, 1, 8, "GPU", "per_device_train_batch_size")
    assert show_batch(batch) == "batch 16 x accumulation 1 x 8 GPUs = 128 effective"


@pytest.mark.parametrize(
    ("params", "effective", "is_guess"),
    [
        ({"batch_size": 16}, 128, True),
        ({"optim": {"bs": 4}, "train": {"grad-accum": 2}}, 64, True),
        ({"micro_batch_size": 4, "gradient_accumulation_steps": 8, "batch_size": 99}, 256, False),
        ({"global_batch_size": 64, "micro_batch_size": 2}, 64, False),
        ({"train_micro_batch_size_per_gpu": 2.0}, 16, False),
    ],
)
def test_batch_of_usual_names(params: dict[str, Any], effective: int, is_guess: bool) -> None:
    batch = batch_of(params, EIGHT, None)
    assert batch is not None
    assert (batch.effective, batch.is_guess) == (effective, is_guess)


@pytest.mark.parametrize(
    "params", [{}, {"lr": 1}, {"batch_size": "auto"}, {"batch_size": True}, {"batch_size": 0}]
)
def test_batch_of_nothing_is_none(params: dict[str, Any]) -> None:
    assert batch_of(params, EIGHT, None) is None


def test_batch_of_all_nodes_and_of_none() -> None:
    two = batch_of({"batch_size": 16}, SIXTEEN, None)
    one = batch_of({"batch_size": 16}, CPU, None)
    assert (two and two.effective, one and one.effective) == (256, 16)
    assert one is not None
    assert not one.is_guess, "on one rank both readings are the same"


def test_batch_of_what_the_spec_says() -> None:
    params = {"batch_size": 16, "n": 3}
    whole = batch_of(params, EIGHT, BatchNames(effective="batch_size"))
    assert whole == BatchSize(16, None, 1, 8, "GPU", "batch_size")
    assert show_batch(whole) == "batch 16 effective: 2 on each of 8 GPUs"
    alone = batch_of(params, CPU, BatchNames(effective="batch_size"))
    assert alone is not None
    assert show_batch(alone) == "batch 16 effective, on 1 node"
    part = batch_of(params, EIGHT, BatchNames(per_device="batch_size", accumulation="n"))
    assert part == BatchSize(384, 16, 3, 8, "GPU", "batch_size")
    assert batch_of({}, EIGHT, BatchNames(per_device=2)) == BatchSize(16, 2, 1, 8, "GPU", "")
    assert batch_of({}, EIGHT, BatchNames(effective="batch_size")) is None, "inactive by `when`"
