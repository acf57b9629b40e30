"""The ledgers of what a sweep spent: sums, garbage, and whether there is room."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator.runtime import spend
from orchestrator.runtime.spend import Amount, Tally

NOW = 1_000_000.0


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    (tmp_path / "gate" / "spend").mkdir(parents=True)
    (tmp_path / "trials").mkdir()
    return tmp_path


def write(sweep: Path, node: str, *lines: Any) -> None:
    text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    with open(sweep / "gate/spend" / f"{node}.jsonl", "a") as file:
        file.write(text)


def starts(trial: str, attempt: int = 1, at: float = NOW - 7200, want: str = "") -> dict[str, Any]:
    line = {"is": "starts", "trial": trial, "attempt": attempt, "at": at}
    return {**line, "id": want, "price_per_hour": 8.0, "currency": "CNY", "gpus": 2}


def ends(trial: str, wall_s: float, attempt: int = 1, outcome: str = "committed") -> dict[str, Any]:
    line = {"is": "ends", "trial": trial, "attempt": attempt}
    return {**line, "wall_s": wall_s, "outcome": outcome}


def beat(sweep: Path, trial: str, at: float, attempt: int = 1, **record: Any) -> None:
    path = sweep / "trials" / trial / "attempts" / f"{attempt}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"attempt": attempt, **record}))
    os.utime(path, (at, at))


def tally(sweep: Path, before: tuple[float, str] | None = None) -> Tally:
    return spend.tally(str(sweep), "CNY", NOW, before)


def test_tally_sums_all_attempts_of_all_nodes_and_lost_work_too(sweep: Path) -> None:
    write(sweep, "n1", starts("1-a"), ends("1-a", 1800, outcome="failed"))
    write(sweep, "n2", starts("1-a", 2), ends("1-a", 3600, 2), starts("2-b"), ends("2-b", 1800))
    found = tally(sweep)
    assert found.spent == pytest.approx((16.0, 4.0))
    assert found.mean == pytest.approx((8.0, 2.0)), "of a trial with all its attempts"
    assert (found.running, found.n_bad_lines) == (frozenset(), 0)


def test_tally_without_an_end_counts_up_to_the_last_heartbeat(sweep: Path) -> None:
    write(sweep, "n1", starts("1-a"), starts("2-b"), starts("3-c"), starts("4-d"))
    beat(sweep, "1-a", NOW - 10)  # alive, since 2 h
    beat(sweep, "2-b", NOW - 3600)  # died an hour ago
    beat(sweep, "3-c", NOW, outcome="failed", wall_s=900.0)  # ended; its line was lost
    found = tally(sweep)
    assert found.spent.gpu_hours == pytest.approx(2 * 7190 / 3600 + 2 * 1 + 2 * 0.25)
    assert found.running == {"1-a"}


def test_tally_other_currency_counts_hours_alone(sweep: Path) -> None:
    write(sweep, "n1", {**starts("1-a"), "currency": "EUR"}, ends("1-a", 3600))
    assert tally(sweep).spent == pytest.approx((0.0, 2.0))


def test_tally_garbage_is_passed_over_and_counted(sweep: Path) -> None:
    write(sweep, "n1", starts("1-a"), ends("1-a", 3600), '{"is": "starts", "tri')
    spend.append(str(sweep), ends("nobody", 1))
    write(sweep, "n2", "no json\n", "[1]\n", '{"is": "starts", "trial": "../x", "attempt": 1}\n')
    write(sweep, "n2", {**starts("2-b"), "gpus": -1, "price_per_hour": "x"}, ends("2-b", 1e300))
    write(sweep, "n2", "\x00\x00\n", "\n")
    (sweep / "gate/spend/n3.jsonl").mkdir()
    os.mkfifo(sweep / "gate/spend/n4.jsonl")
    found = tally(sweep)
    assert found.spent == pytest.approx((8.0, 2.0))
    assert found.n_bad_lines == 6


def test_append_after_a_cut_line_starts_a_new_one(sweep: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "n1")
    write(sweep, "n1", '{"is": "starts", "tri')
    spend.append(str(sweep), starts("1-a"))
    spend.append(str(sweep), ends("1-a", 3600))
    found = tally(sweep)
    assert (found.n_bad_lines, found.spent) == (1, pytest.approx((8.0, 2.0)))


def test_tally_of_those_that_ask_at_once_the_earlier_ones_run(sweep: Path) -> None:
    wants = [
        {"is": "wants", "trial": f"{i}-a", "id": f"id{i}", "at": NOW - age}
        for i, age in enumerate((5, 5, 4, 700))
    ]
    write(sweep, "n1", *wants, {"is": "leaves", "id": "id0"})
    assert tally(sweep, (NOW - 4, "id2")).running == {"1-a"}, "0 left, 3 is dead"
    assert tally(sweep, (NOW - 5, "id0")).running == frozenset()
    write(sweep, "n1", starts("1-a", want="id1"), ends("1-a", 10))
    assert tally(sweep, (NOW - 4, "id2")).running == frozenset()


def room(spent: float, mean: float | None, *running: tuple[str, float]) -> Tally:
    by_trial = {name: Amount(cost, 0) for name, cost in running}
    mean_amount = None if mean is None else Amount(mean, 0)
    return Tally(Amount(spent, 0), by_trial, frozenset(by_trial), mean_amount, 0)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (room(0, None), None),
        (room(9.99, None), None),
        (room(10, None), "budget: 10.00 of 10.00 CNY are spent"),
        (room(0, 10.0), None),
        (room(4, 6.0), None),
        (room(5, 6.0), "budget: 5.00 of 10.00 CNY are spent, and the next one needs about 6.00"),
        (room(4, 3.0, ("x", 1.0)), None),
        (
            room(4, 3.0, ("x", 1.0), ("y", 0.0)),
            "budget: 4.00 of 10.00 CNY are spent, the running trials will take about 5.00 more, "
            "and the next one needs about 3.00",
        ),
        (room(4, 3.0, ("x", 9.0)), None),
    ],
)
def test_over_budget(found: Tally, words: str | None) -> None:
    assert spend.over_budget({"cost": 10, "currency": "CNY"}, found, "new") == words


def test_over_budget_what_a_trial_has_cost_already_is_not_needed_again() -> None:
    found = room(8, 4.0, ("mine", 3.0))._replace(running=frozenset())
    assert spend.over_budget({"cost": 10, "currency": "CNY"}, found, "mine") is None
    assert spend.over_budget({"cost": 10, "currency": "CNY"}, found, "other") is not None


def test_over_budget_gpu_hours_are_a_limit_of_their_own() -> None:
    found = Tally(Amount(1, 5), {}, frozenset(), None, 0)
    words = spend.over_budget({"cost": 10, "currency": "CNY", "gpu_hours": 5}, found, "new")
    assert words == "budget: 5.00 of 5.00 GPU-hours are spent"
