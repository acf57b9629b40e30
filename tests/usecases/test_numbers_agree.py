"""One sweep, looked at in every way that there is: each shows the same numbers."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.optuna_study import to_study
from orchestrator.adapters.report_table import describe_table
from orchestrator.cli.main import run
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import FAILED, dump_record
from orchestrator.domain.fresh_trials import Confirmation, FreshTrial, as_record
from orchestrator.domain.trials import trial_id
from orchestrator.leaderboard import read_leaderboard
from orchestrator.usecases.report import describe, read_input
from orchestrator.usecases.watch import Watcher
from tests.trial_writer import add_trial, ended, make_sweep, write

SPEC = b"""
program: train.py
metric: {name: acc, goal: maximize}
seeds: 3
parameters: {lr: [0.1, 0.2, 0.3, 0.4, 0.5], gpu_hours: a parameter}
derived: {acc_mean: seed}
"""
# lr: the accuracies of its repeats; None fails. Partial, with a NaN, tied with the first, the
# first, and one that would be the first, had it not diverged.
ACCURACIES: Mapping[float, tuple[float | None, ...]] = {
    0.1: (0.95, 0.93, None),
    0.2: (0.5, math.nan, 0.7),
    0.3: (0.7, 0.7001, 0.82),
    0.4: (0.8, 0.81, 0.82),
    0.5: (0.99, 0.98, None),
}
DIVERGES = 0.5
DIFFERS = ("acc_mean", "seed")
FRESH = {0.4: (0.6, 0.61), 0.3: (0.9, 0.93)}


def make_rich_sweep(results: Path) -> SweepPaths:
    """Make a sweep that is maximized, with all that a trial can come to."""
    sweep = make_sweep(str(results / "demo"), ("acc", "maximize"), ("lr", "seed"), seeded=True)
    write(sweep.spec, SPEC)
    summary = json.loads(Path(sweep.summary).read_text())
    # As submit writes it where the spec derives a parameter of the seed.
    write(sweep.summary, dump_record({**summary, "differs": list(DIFFERS)}))
    names: dict[float, str] = {}
    number = 0

    def add(lr: float, seed: int, acc: float | None) -> str:
        nonlocal number
        params = {"lr": lr, "seed": seed, "gpu_hours": "a parameter", "acc_mean": seed}
        name = f"{number:05d}-{trial_id(params)}"
        how = ended(name, wall_s=3600.0 + number) if acc is not None else None
        failed = ended(name, 1, FAILED, exit_code=1, cause="it broke", kind="error")
        if lr == DIVERGES:
            failed |= {"exit_code": 65, "cause": "exit code 65", "kind": "non_finite"}
        spelled = {} if acc is None else {"acc": "nan" if math.isnan(acc) else acc, "n": 2**60}
        add_trial(sweep, name, params, spelled or None, [how or failed])
        number += 1
        return name

    for lr, values in ACCURACIES.items():
        added = [add(lr, seed, acc) for seed, acc in enumerate(values)]
        names[lr] = added[0]
    asked = []
    for lr, values in FRESH.items():
        for seed, acc in enumerate(values, 10_000):
            add(lr, seed, acc)
            params = {"lr": lr, "seed": seed, "gpu_hours": "a parameter", "acc_mean": seed}
            asked.append(FreshTrial(names[lr], seed, params))
    confirmation = Confirmation("seed", DIFFERS, (10_000, 10_001), 2, tuple(asked))
    write(sweep.confirmation, dump_record(as_record(confirmation)))
    return sweep


def import_sweep(results: Path) -> SweepPaths:
    """Import a table of another tool."""
    table = results.parent / "demo.csv"
    table.write_text(
        "config.lr,config.random_state,summary.acc,state\n"
        "0.1,1,0.5,finished\n0.1,2,0.7,finished\n0.2,1,0.9,finished\n0.2,2,,crashed\n"
    )
    words = ["--from", str(table), "--objective", "acc:maximize", "--results", str(results)]
    assert run(["collect", *words]) in (0, 1)
    return SweepPaths(str(results / "demo"))


@pytest.mark.parametrize("make", [make_rich_sweep, import_sweep])
def test_every_view_of_a_sweep_shows_the_same_numbers(
    make: Callable[[Path], SweepPaths], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    results.mkdir()
    sweep = make(results)
    capsys.readouterr()

    def typed(command: str, *words: str) -> Any:
        assert run([command, "demo", "--results", str(results), *words, "--json"]) in (0, 1)
        return json.loads(capsys.readouterr().out)

    collected = typed("collect")
    truth = {row["trial"]: row for row in collected["rows"]}
    order = list(truth)

    # Files.
    with open(sweep.leaderboard("csv"), newline="", encoding="utf-8") as file:
        assert _same(csv.DictReader(file), truth)
    typed("export", "--to", "json", "csv")
    exported = json.loads((Path(sweep.exports) / "leaderboard.json").read_text())
    assert _same(exported["rows"], truth)
    assert (Path(sweep.exports) / "leaderboard.csv").read_bytes() == Path(
        sweep.leaderboard("csv")
    ).read_bytes()
    assert exported["standing"] == collected["standing"]
    # The Python API, with both kinds of columns.
    for arrow in (True, False):
        frame = read_leaderboard(sweep.root, arrow=arrow)
        cells = {name: frame[name].to_numpy(object, na_value=None).tolist() for name in frame}
        rows = [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]
        assert _same(rows, truth)
        assert frame.attrs["certainty"] == collected["standing"]["certainty"]
    # The page.
    it = read_input(sweep, write_files=False)
    board, page = it.collection.board, describe(it)
    assert _same(_page_rows(describe_table(board)), truth)
    first = truth[order[0]]
    assert page.best is not None
    assert page.best.trial == order[0]
    shown = {value.name: value.full for value in page.best.scores}
    assert float(shown["acc_mean"]) == first["acc_mean"]
    assert shown["repeats done"] == f"{first['repeats_done']} of {first['repeats']}"
    # What it cost.
    costs = typed("costs")
    assert costs["objective"] == collected["objective"]
    for one in costs["configurations"]:
        row = truth[one["trials"][0]]
        assert (one["rank"], one["objective"]) == (row["rank"], row["acc_mean"])
        assert (one["repeats_done"], len(one["trials"])) == (row["repeats_done"], row["repeats"])
        hours = [truth[name]["gpu_hours"] for name in one["trials"]]
        if None in hours:
            assert (one["gpu_hours"], collected["gpu_hours"]) == (None, None)
        else:
            assert one["gpu_hours"] == pytest.approx(sum(hours), abs=1e-5)
            money = sum(truth[name]["cost"] for name in one["trials"])
            assert sum(one["cost"].values()) == pytest.approx(money, abs=1e-5)
    if collected["gpu_hours"] is not None:
        ms = sum(part["device_ms"] for part in costs["parts"].values())
        assert ms / 3.6e6 == pytest.approx(collected["gpu_hours"])
        assert costs["ways"]["as_run"]["cost"] == pytest.approx(collected["cost"])
    # Live, and as a study.
    best = Watcher(sweep).look().best
    assert best is not None
    assert (best.trial, best.value) == (order[0], first["acc_mean"])
    assert (best.n_done, best.n_repeats) == (first["repeats_done"], first["repeats"])
    study = to_study(board, it.observation.trials)
    for trial in study.trials:
        row = truth[trial.user_attrs["trial"]]
        assert trial.user_attrs.get("gpu_hours") == row["gpu_hours"]  # a parameter is called so too
        if trial.values:
            assert trial.values == [row["acc"]]
        else:
            assert row["acc"] in (None, "nan")
    # In the terminal, with the digits that people read.
    assert run(["collect", "demo", "--results", str(results)]) in (0, 1)
    text = capsys.readouterr().out
    for name, row in truth.items():
        if row["rank"] is not None:
            assert f"{row['acc_mean']:.5g}" in text, name
    assert collected["standing"]["words"].split(":")[0] in text


def test_best_yaml_of_an_overturned_first_place_names_who_is_better(tmp_path: Path) -> None:
    results = tmp_path / "results"
    sweep = make_rich_sweep(results)
    assert run(["collect", "demo", "--results", str(results)]) == 1
    header = Path(sweep.best).read_text().split("\n\n")[0]
    with open(sweep.leaderboard("csv"), newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    better = next(row["trial"] for row in rows if row["confirmed_rank"] == "1")
    assert rows[0]["trial"] != better
    assert f"trial {rows[0]['trial']}" in header
    assert f"overturned: on fresh seeds trial {better} is better" in header


def test_condition_and_objective_at_once_leave_the_totals_and_the_others_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    make_rich_sweep(results)

    def typed(*words: str) -> Any:
        assert run(["collect", "demo", "--results", str(results), *words]) == 1
        return capsys.readouterr().out

    whole = json.loads(typed("--json"))
    assert whole["standing"]["certainty"] == "overturned"
    asked = ("--where", "lr != 0.3", "--objective", "acc:maximize", "--objective", "n:minimize")
    some = json.loads(typed(*asked, "--json"))
    for key in ("counts", "gpu_hours", "cost", "goodput"):
        assert some[key] == whole[key]
    assert some["rows"][0]["trial"] == whole["rows"][0]["trial"]
    # What the condition keeps away overturns nothing.
    assert some["standing"]["certainty"] == "confirmed"
    assert {row["rank"] for row in some["rows"]} == {1, 2, None}
    counted = [line for line in typed().splitlines() if "trials: " in line]
    assert [line for line in typed(*asked).splitlines() if "trials: " in line] == counted


def _same(rows: Any, truth: Mapping[str, Mapping[str, Any]]) -> bool:
    """Tell whether rows are those of the JSON document, in its order, to the last bit."""
    rows = list(rows)
    assert [row["trial"] for row in rows] == list(truth)
    for row in rows:
        expected = truth[row["trial"]]
        assert list(row) == list(expected)
        for name, value in row.items():
            assert _plain(value) == _plain(expected[name]), (row["trial"], name)
    return True


def _plain(value: Any) -> Any:
    """Read a cell, in whatever way it is spelled."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        if value in ("true", "false"):
            return value == "true"
        try:
            value = float(value) if not value.lstrip("-").isdecimal() else int(value)
        except ValueError:
            return value
    if isinstance(value, float):
        return "nan" if math.isnan(value) else float(value)
    return value


def _page_rows(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    columns = {}
    for column in table["columns"]:
        values = column.get("values")
        if values is None:
            values = [None if c < 0 else column["words"][c] for c in column["codes"]]
        columns[column["name"]] = values
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
