"""Sharing the ceilings of trials and GPUs among arrays, and changing the shares as they drain."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain.ceilings import (
    Ceiling,
    Change,
    Load,
    QueuedArray,
    Share,
    rebalance,
    share,
    use_of,
)


@pytest.mark.parametrize(
    ("sizes", "ceiling", "shares"),
    [
        ([162], 10, [10]),
        ([100, 100], 10, [5, 5]),
        ([900, 1, 1], 10, [8, 1, 1]),
        ([3], 10, [3]),
    ],
)
def test_trials_are_shared_in_proportion(sizes: list[int], ceiling: int, shares: list[int]) -> None:
    found = share([Load(size) for size in sizes], Ceiling(trials=ceiling))
    assert [item.throttle for item in found] == shares
    assert all(not item.after for item in found)


def test_no_ceiling_is_no_throttle() -> None:
    assert share([Load(5), Load(6, 8)], Ceiling()) == [Share(), Share()]


def test_gpus_are_shared_by_what_a_task_takes() -> None:
    found = share([Load(100, 1), Load(100, 2), Load(100, 0)], Ceiling(gpus=12))
    assert found[2].throttle == 100, "it takes none"
    assert sum(item.throttle * load for item, load in zip(found, (1, 2), strict=False)) == 12


def test_surplus_arrays_stand_behind_others() -> None:
    found = share([Load(5), Load(5), Load(5), Load(5)], Ceiling(trials=2))
    assert found == [Share(1), Share(1), Share(1, (0,)), Share(1, (1,))]


def test_large_and_small_tasks_take_turns_where_both_do_not_fit() -> None:
    found = share([Load(100, 1), Load(10, 8)], Ceiling(gpus=8))
    assert found == [Share(1), Share(1, (0,))]


def test_what_is_in_the_queue_leaves_what_it_leaves() -> None:
    assert share([Load(5)], Ceiling(trials=10), used=(8, 0)) == [Share(2)]
    assert share([Load(5)], Ceiling(trials=10), used=(10, 0)) == [Share(5, (), True)]
    # Eight GPUs are too many now; the small ones go first.
    assert share([Load(5, 8), Load(2, 1)], Ceiling(gpus=8), used=(4, 4)) == [
        Share(1, (1,), True),
        Share(2),
    ]


def queued(
    job_id: str, running: int, waiting: int, throttle: int | None, **more: object
) -> QueuedArray:
    return replace(QueuedArray(job_id, 1, running, waiting, throttle), **more)  # type: ignore[arg-type]


def test_use_counts_what_an_array_behind_others_takes_beyond_them() -> None:
    first = queued("1", 1, 0, 5)
    second = queued("2", 0, 9, 5, after=("1",), is_blocked=True)
    third = queued("3", 0, 9, 5, after=("2",), is_blocked=True)
    assert use_of([first]) == (1, 1)
    assert use_of([first, second]) == (5, 5)
    assert use_of([first, second, third]) == (5, 5)
    assert use_of([first, second, replace(third, after=("1",))]) == (10, 10), "both at once"


def test_what_a_drained_array_leaves_goes_to_the_others() -> None:
    arrays = [queued("1", 1, 0, 5), queued("2", 5, 50, 5)]
    assert rebalance(arrays, Ceiling(trials=10), may_lower=False) == [Change("2", 9)]


def test_nothing_changes_while_all_is_used() -> None:
    arrays = [queued("1", 5, 5, 5), queued("2", 5, 5, 5)]
    assert rebalance(arrays, Ceiling(trials=10), may_lower=True) == []


def test_array_behind_others_starts_as_soon_as_there_is_room() -> None:
    arrays = [queued("1", 1, 0, 2), queued("2", 0, 4, 2, after=("1",), is_blocked=True)]
    assert rebalance(arrays, Ceiling(trials=2), may_lower=False) == [Change("2", 1, unblocks=True)]


def test_room_is_made_for_an_array_behind_others_only_by_who_comes_back() -> None:
    arrays = [queued("1", 4, 96, 4), queued("2", 0, 4, 4, after=("1",), is_blocked=True)]
    assert rebalance(arrays, Ceiling(trials=4), may_lower=False) == []
    assert rebalance(arrays, Ceiling(trials=4), may_lower=True) == [Change("1", 3, is_lower=True)]
    drained = [replace(arrays[0], n_running=3, throttle=3), arrays[1]]
    assert rebalance(drained, Ceiling(trials=4), may_lower=True) == [Change("2", 1, unblocks=True)]


def test_lowered_ceiling_lowers_first() -> None:
    arrays = [queued("1", 5, 50, 5), queued("2", 1, 0, 5)]
    assert rebalance(arrays, Ceiling(trials=3), may_lower=False) == [Change("1", 2, is_lower=True)]


LOADS = st.lists(st.builds(Load, st.integers(1, 60), st.integers(0, 8)), min_size=1, max_size=9)
CEILINGS = st.builds(
    Ceiling, st.one_of(st.just(float("inf")), st.integers(1, 20)), st.integers(8, 40)
)


@settings(max_examples=200, deadline=None)
@given(LOADS, CEILINGS, LOADS, st.data())
def test_ceilings_hold_whatever_ends_and_whoever_looks(
    loads: list[Load], ceiling: Ceiling, more: list[Load], data: st.DataObject
) -> None:
    """A queue that starts greedily, with submissions, rounds and ends in any order."""
    queue: list[QueuedArray] = []

    def hand_in(new: list[Load]) -> None:
        before = tuple(array.job_id for array in queue)
        number = 1 + max((int(array.job_id) for array in queue), default=0)
        ids: dict[int, str] = {}
        shares = share(new, ceiling, use_of(queue))
        waiting = list(range(len(new)))
        while waiting:
            index = next(i for i in waiting if all(j in ids for j in shares[i].after))
            waiting.remove(index)
            mine, load = shares[index], new[index]
            ids[index] = str(number)
            after = tuple(ids[j] for j in mine.after) + (before if mine.after_queued else ())
            queue.append(
                QueuedArray(
                    str(number), load.gpus, 0, load.n_tasks, mine.throttle, after, bool(after)
                )
            )
            number += 1

    def run() -> None:
        alive = {array.job_id for array in queue}
        for i, array in enumerate(queue):
            blocked = array.is_blocked and any(job_id in alive for job_id in array.after)
            n_tasks = array.n_tasks if array.throttle is None else array.throttle
            start = 0 if blocked else max(0, min(array.n_waiting, n_tasks - array.n_running))
            queue[i] = replace(
                array,
                is_blocked=blocked,
                n_running=array.n_running + start,
                n_waiting=array.n_waiting - start,
            )
        assert sum(array.n_running for array in queue) <= ceiling.trials
        assert sum(array.n_running * array.gpus for array in queue) <= ceiling.gpus

    hand_in(loads)
    run()
    for _ in range(data.draw(st.integers(1, 12))):
        what = data.draw(st.sampled_from(["end", "end", "round", "submit"]))
        if what == "end":
            for i, array in enumerate(queue):
                ended = data.draw(st.integers(0, array.n_running))
                queue[i] = replace(array, n_running=array.n_running - ended)
            queue[:] = [array for array in queue if array.n_tasks]
        elif what == "submit" and len(queue) < 12:
            hand_in(more)
        else:
            seen = list(queue)
            if data.draw(st.booleans()):
                run()  # Slurm goes on while the round thinks
            for change in rebalance(seen, ceiling, may_lower=data.draw(st.booleans())):
                i = next(i for i, a in enumerate(queue) if a.job_id == change.job_id)
                blocked = queue[i].is_blocked and not change.unblocks
                queue[i] = replace(queue[i], throttle=change.throttle, is_blocked=blocked)
                run()
        run()


@settings(deadline=None)
@given(LOADS, CEILINGS)
def test_every_array_gets_its_turn(loads: list[Load], ceiling: Ceiling) -> None:
    shares = share(loads, ceiling)
    done: set[int] = set()
    while len(done) < len(loads):
        ready = {i for i, s in enumerate(shares) if i not in done and set(s.after) <= done}
        assert ready, "a circle"
        done |= ready
    assert all((item.throttle or 1) >= 1 for item in shares)


def test_first_arrays_wait_for_none_of_the_others() -> None:
    loads, used = [Load(1, 4), Load(5, 1)], (1, 1)
    assert share(loads, Ceiling(gpus=4), used)[0].after == (1,), "the small ones find room"
    first, rest = share(loads, Ceiling(gpus=4), used, n_first=1)
    assert (first, rest) == (Share(1, (), True), Share(1, (0,)))
