"""The ceilings of a sweep on its arrays: what is submitted behind what, and what rounds change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters import journal, slurm_arrays
from orchestrator.adapters.journal import read_journal
from orchestrator.adapters.trial_dir import Scan
from orchestrator.contract.errors import ClusterUnreachable, SpecError
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.states import SlurmState, TrialState
from orchestrator.domain.partition import JobShape
from orchestrator.domain.resources import TrialResources
from orchestrator.domain.spec import SweepSpec
from orchestrator.domain.spec_loader import load_spec
from orchestrator.domain.trial_state import TaskLook
from orchestrator.domain.trials import Trial
from orchestrator.usecases.ceilings import (
    check_ceilings,
    make_batches,
    rebalance_queue,
    stand_behind,
)
from orchestrator.usecases.observe import Observation
from orchestrator.usecases.scripts import PlannedTrial


def spec(**keys: int) -> SweepSpec:
    lines = "".join(f"{key}: {value}\n" for key, value in keys.items())
    text = "program: t.sh\nmetric: {name: loss, goal: minimize}\nparameters: {a: 1}\n"
    return load_spec(text + lines, file="s.yaml")


def shape(gpus: int, nodes: int = 1) -> JobShape:
    return JobShape(nodes, gpus, None, 1, None, None)


def planned(number: int, gpus: int, partition: str = "spot") -> PlannedTrial:
    trial = Trial(f"{number:010d}", {}, None, TrialResources())
    return PlannedTrial(f"{number:05d}-{trial.id}", trial, shape(gpus), (), partition)


def test_arrays_are_of_one_partition_and_one_shape() -> None:
    members = [planned(0, 1), planned(1, 1, "ondemand"), planned(2, 2), planned(3, 1)]
    found = [
        (batch.partition, [member.name[:5] for member in batch.members], batch.indices)
        for batch in make_batches([members], spec(), 1000, None)
    ]
    assert found == [
        ("spot", ["00000", "00003"], "0-1"),
        ("ondemand", ["00001"], "0-0"),
        ("spot", ["00002"], "0-0"),
    ]


def test_array_behind_another_comes_after_it_and_names_it() -> None:
    members = [planned(0, 8), planned(1, 1), planned(2, 1), planned(3, 1)]
    first, second = make_batches([members], spec(max_gpus=8), 1000, None)
    assert (len(first.members), first.indices, first.dependencies) == (1, "0-0%1", ())
    first.job_id = "7"
    assert (len(second.members), second.dependencies) == (3, ("7",))


def test_halves_of_an_array_stay_in_its_share_and_count_as_the_whole() -> None:
    members = [planned(number, 8) for number in range(4)] + [planned(9, 1)]
    whole, behind = make_batches([members], spec(max_gpus=8), 1000, None)
    assert whole.throttle == 1
    first, second = whole.halve()
    assert [first.indices, second.indices] == ["0-1%1", "0-1%1"]
    first.job_id = "7"
    assert second.dependencies == ("7",), "one at a time"
    second.job_id = "8"
    assert behind.dependencies == ("7", "8")


def test_trial_larger_than_the_ceiling_is_refused() -> None:
    with pytest.raises(SpecError) as caught:
        check_ceilings(spec(max_gpus=8), [shape(1), shape(8, nodes=2)])
    assert str(caught.value) == (
        "s.yaml:4: max_gpus: 8 is not allowed: a trial takes 16 GPUs; use at least 16"
    )


@pytest.fixture
def sweep(tmp_path: Path) -> SweepPaths:
    return SweepPaths(str(tmp_path))


def submit(writer: journal.JournalWriter, token: str, job_id: str, **keys: Any) -> None:
    trials = keys.pop("trials")
    writer.write("intent", token=token, executor="slurm", cluster="c", trials=trials, **keys)
    writer.write("submitted", token=token, job_id=job_id)


def look(sweep: SweepPaths, tasks: dict[str, tuple[SlurmState, str]]) -> Observation:
    looks = {name: TaskLook(True, state, reason, "") for name, (state, reason) in tasks.items()}
    states = dict.fromkeys(tasks, TrialState.UNKNOWN)
    return Observation(Scan([], []), states, {}, read_journal(sweep), looks, {})


class Scontrol:
    """Stands for Slurm; notes what it was asked for, and may refuse."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.refuses = False
        monkeypatch.setattr(slurm_arrays, "throttle", self.throttle)
        monkeypatch.setattr(slurm_arrays, "clear_dependency", self.clear_dependency)
        monkeypatch.setattr(slurm_arrays, "wait_for", self.wait_for)

    def throttle(self, array: str, n_tasks: int) -> None:
        if self.refuses:
            raise ClusterUnreachable("scontrol: no answer in 60 s")
        self.calls.append((array, n_tasks))

    def wait_for(self, array: str, others: Sequence[str]) -> None:
        self.throttle(array, 0) if self.refuses else self.calls.append((array, *others))

    def clear_dependency(self, array: str) -> None:
        self.calls.append((array, "free"))


RUNS, WAITS, BEHIND = (
    (SlurmState.RUNNING, "None"),
    (SlurmState.PENDING, "JobArrayTaskLimit"),
    (SlurmState.PENDING, "Dependency"),
)


def test_round_gives_room_on_and_is_repeated_if_slurm_did_not_answer(
    sweep: SweepPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = Scontrol(monkeypatch)
    with journal.lock(sweep) as writer:
        keys = {"partition": "spot", "gpus": 1, "throttle": 2, "after": []}
        submit(writer, "one", "7", trials=["a", "b"], **keys)
        submit(writer, "two", "8", trials=["c", "d", "e", "f"], **keys)
        tasks = {"a": RUNS, "c": RUNS, "d": RUNS, "e": WAITS, "f": WAITS}
        slurm.refuses = True
        warnings = rebalance_queue(
            look(sweep, tasks), spec(max_concurrent=4), writer, may_lower=False
        )
        assert warnings == ["array 8 keeps its share of the ceilings: scontrol: no answer in 60 s"]
        submission = read_journal(sweep).submissions["two"]
        assert (submission.throttle, submission.is_throttle_sure) == (3, False)
        slurm.refuses = False
        rebalance_queue(look(sweep, tasks), spec(max_concurrent=4), writer, may_lower=False)
        assert slurm.calls == [("8", 3)]
        assert read_journal(sweep).submissions["two"].is_throttle_sure
        rebalance_queue(look(sweep, tasks), spec(max_concurrent=4), writer, may_lower=False)
        assert slurm.calls == [("8", 3)], "nothing is left to do"


def test_round_frees_an_array_behind_others(
    sweep: SweepPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = Scontrol(monkeypatch)
    with journal.lock(sweep) as writer:
        submit(writer, "one", "7", trials=["a"], gpus=2, throttle=2, after=[])
        submit(writer, "two", "8", trials=["b", "c"], gpus=1, throttle=2, after=["7"])
        tasks = {"a": RUNS, "b": BEHIND, "c": BEHIND}
        rebalance_queue(look(sweep, tasks), spec(max_gpus=3), writer, may_lower=False)
        assert slurm.calls == [("8", 1), ("8", "free")]
        assert read_journal(sweep).submissions["two"].throttle == 1


HELD = (SlurmState.PENDING, "JobHeldUser")
GONE = (SlurmState.FAILED, "0:1")


@pytest.mark.parametrize(("ceiling", "throttle"), [(1, 1), (4, 4)])
def test_canary_that_goes_again_is_not_behind_what_is_held_for_it(
    sweep: SweepPaths, monkeypatch: pytest.MonkeyPatch, ceiling: int, throttle: int
) -> None:
    slurm, wanted = Scontrol(monkeypatch), spec(max_concurrent=ceiling)
    canary, new = planned(0, 1), planned(9, 1)
    with journal.lock(sweep) as writer:
        submit(writer, "one", "7", trials=[canary.name], gpus=1, throttle=1, after=[])
        rest = [planned(number, 1).name for number in range(1, 6)]
        submit(writer, "two", "8", trials=rest, gpus=1, throttle=throttle, after=["7"])
        before = look(sweep, {canary.name: GONE, **dict.fromkeys(rest, HELD)})
        first, last = make_batches([[canary], [new]], wanted, 1000, before, {"two"})
        assert (first.members, first.dependencies) == ([canary], ())
        first.job_id = "9"
        assert last.dependencies == ("8", "9")
        (alone,) = make_batches([[canary]], wanted, 1000, before, {"two"})
        assert alone.dependencies == ()

        submit(writer, "three", "9", trials=[canary.name], gpus=1, throttle=1, after=[])
        slurm.refuses = True
        warnings = stand_behind(before, {"two"}, [canary.name], wanted, writer)
        assert len(warnings) == 1
        slurm.refuses = False
        after = look(sweep, {canary.name: RUNS, **dict.fromkeys(rest, HELD)})
        for _ in range(2):  # another round has nothing left to do
            assert stand_behind(after, {"two"}, [canary.name], wanted, writer) == []
        assert slurm.calls == [("8", "9")]
        assert read_journal(sweep).submissions["two"].after == ("9",)


def test_held_array_keeps_its_place_where_the_ceiling_has_room_for_both(
    sweep: SweepPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = Scontrol(monkeypatch)
    with journal.lock(sweep) as writer:
        submit(writer, "one", "7", trials=["a"], gpus=1, throttle=1, after=[])
        submit(writer, "two", "8", trials=["b", "c"], gpus=1, throttle=1, after=[])
        found = look(sweep, {"a": RUNS, "b": HELD, "c": HELD})
        stand_behind(found, {"two"}, ["a"], spec(max_concurrent=2), writer)
        assert slurm.calls == []


def test_array_that_holds_the_next_canary_waits_for_nobody(
    sweep: SweepPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it would wait for itself, or for those that wait for it."""
    slurm = Scontrol(monkeypatch)
    with journal.lock(sweep) as writer:
        submit(writer, "one", "7", trials=["a"], gpus=1, throttle=1, after=[])
        submit(writer, "two", "8", trials=["b"], gpus=1, throttle=1, after=["7"])
        submit(writer, "three", "9", trials=["c", "d"], gpus=1, throttle=1, after=["8"])
        found = look(sweep, {"a": RUNS, "b": HELD, "c": HELD, "d": HELD})
        names, held = ["a", "c"], {"two", "three"}
        stand_behind(found, held, names, spec(max_concurrent=1), writer)
        stand_behind(found, held, ["c"], spec(max_concurrent=1), writer)
        assert slurm.calls == [], "the second stands behind the first already"
