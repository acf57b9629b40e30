"""What `make costs` shows, from the trials' files."""

import io
import json
import time
from datetime import UTC, datetime

import pytest
from rich.cells import cell_len
from rich.console import Console

from orchestrator.adapters.leaderboard_files import describe_usage
from orchestrator.adapters.text_table_view import render_text_table
from orchestrator.contract.records import FAILED, dump_record
from orchestrator.domain.trials import trial_id
from orchestrator.usecases.collect import collect
from orchestrator.usecases.costs import costs_record, measure_costs, read_costs
from orchestrator.usecases.observe import observe
from orchestrator.usecases.report_input import ReportInput
from tests.trial_writer import RESOURCES, add_trial, claim, ended, make_sweep, write

ON_DEMAND = {**RESOURCES, "on_demand_price_per_hour": 50.0, "on_demand_currency": "EUR"}


def read(sweep):
    observation = observe(sweep)
    now_s = time.time()
    collection = collect(
        sweep,
        observation.states,
        observation.reasons,
        datetime.fromtimestamp(now_s, UTC),
        scan=observation.scan,
        write_files=False,
    )
    return ReportInput(sweep, observation, collection, now_s)


def shown(tables, width=80):
    console = Console(width=width, highlight=False, record=True, file=io.StringIO())
    for table in tables:
        console.print(render_text_table(table, width))
    return console.export_text()


def test_costs_of_a_seeded_sweep_count_every_repeat_and_its_failures(tmp_path):
    sweep = make_sweep(str(tmp_path / "demo"), parameters=("lr", "seed"), seeded=True)
    for number, (lr, seed, loss) in enumerate([(0.1, 0, 1.0), (0.1, 1, 3.0), (0.2, 0, 9.0)]):
        name = f"{number:05d}-aaaa"
        record = [ended(name, resources=ON_DEMAND)]
        metrics = {"loss": loss, "response_score": 4.0 + seed, "zz": "text"}
        add_trial(sweep, name, {"lr": lr, "seed": seed}, metrics, record)
    name = "00003-aaaa"
    add_trial(
        sweep,
        name,
        {"lr": 0.2, "seed": 1},
        attempts=[ended(name, 1, FAILED, exit_code=1, resources=ON_DEMAND)],
    )
    found = read(sweep)
    costs = measure_costs(found)
    best, second = costs.configurations
    assert (best.rank, best.parameters, best.objective) == (1, {"lr": 0.1}, 2.0)
    assert best.trials == ("00000-aaaa", "00001-aaaa")
    assert best.metrics == {"response_score": 4.5, "zz": "text"}
    assert (best.usage.wall_h, best.usage.gpu_hours, best.usage.cost) == (2.0, 4.0, {"EUR": 10.0})
    assert best.cost_per_hour == {"EUR": 5.0}
    # Its failed repeat cost as much as the one with a result.
    assert (second.trials, second.usage.cost) == (("00002-aaaa", "00003-aaaa"), {"EUR": 10.0})
    assert (second.half_width, second.n_repeats) == (None, 1)
    configurations, ways, parts = read_costs(found)
    assert configurations.title == "Best configurations by loss, minimize"
    assert [list(row) for row in configurations.rows] == [
        ["1", "00000-aaaa", "0.1", "2", "13", "2 of 2", "4.5", "text"]
        + ["10.00 EUR", "4.000", "2.000", "5.00 EUR"],
        ["2 = 1", "00002-aaaa", "0.2", "9", "-", "1 of 2", "4", "text"]
        + ["10.00 EUR", "4.000", "2.000", "5.00 EUR"],
    ]
    cells = {row[0]: row[1:] for row in ways.rows}
    assert list(cells["cost"]) == ["20.00 EUR", "150.00 EUR", "150.00 EUR"]
    assert list(parts.rows[-1]) == ["allocated in all", "4", "8.000", "100.0%", "20.00"]
    assert found.collection.totals.cost == {"EUR": 20.0}
    assert "rank N = M: the repeats cannot tell rank N from rank M." in configurations.notes
    record = json.loads(json.dumps(costs_record(costs)))
    assert record["ways"]["as_run"]["cost"] == {"EUR": 20.0}
    assert record["configurations"][0]["ci95_half_width"] == pytest.approx(12.706, abs=0.001)


def test_costs_do_not_take_fresh_runs_for_repeats(tmp_path):
    sweep = make_sweep(str(tmp_path / "demo"), parameters=("lr", "seed"), seeded=True)
    fresh = trial_id({"lr": 0.1, "seed": 10_000})
    for number, (seed, own) in enumerate([(0, "aaaa"), (1, "aaaa"), (10_000, fresh)]):
        name = f"{number:05d}-{own}"
        record = [ended(name, resources=ON_DEMAND)]
        add_trial(sweep, name, {"lr": 0.1, "seed": seed}, {"loss": 1.0 + number}, record)
    asked = {"of": "00000-aaaa", "seed": 10_000, "params": {"lr": 0.1, "seed": 10_000}}
    record = {"seed_parameter": "seed", "differs": ["seed"], "seeds": [10_000], "top": 1}
    write(sweep.confirmation, dump_record({**record, "trials": [asked]}))
    found = read(sweep)
    (best,) = measure_costs(found).configurations
    assert (best.n_repeats, len(best.trials)) == (2, 2)
    table = read_costs(found)[0]
    assert table.rows[0][table.headers.index("repeats")] == "2 of 2"
    assert any("fresh seeds are no repeats" in note for note in table.notes)
    assert best.usage.cost == {"EUR": 10.0}
    assert found.collection.totals.cost == {"EUR": 15.0}


def test_costs_fit_80_columns_and_foreign_text_is_text(tmp_path):
    sweep = make_sweep(str(tmp_path / "demo"), parameters=tuple(f"parameter_{i}" for i in range(9)))
    for number in range(3):
        params = {f"parameter_{i}": f"[red]{number}\x1b[31m{i}" for i in range(9)}
        add_trial(sweep, f"{number:05d}-aaaa", params, {"loss": number, "a|b": 2.0})
    text = shown(read_costs(read(sweep)))
    assert max(map(cell_len, text.splitlines())) <= 80
    assert "[red]0" in text
    assert "\x1b" not in text
    assert "parameter_8" in text
    assert "unknown" in text  # what it would have cost on demand


def test_costs_of_a_trial_whose_node_died_at_once_are_at_least_what_collect_says(tmp_path):
    """It was seen alive for the last time as it reported, 36 s after its claim."""
    sweep = make_sweep(str(tmp_path / "demo"))
    name = "00000-aaaa"
    # As the result's ``attempts`` have it: killed before its first heartbeat.
    first = claim(name, claimed_unix=1000.0, wall_s=0.0, estimated=True, outcome=None)
    second = ended(name, 2, claimed_unix=1100.0, reported_unix=1036.0)
    add_trial(sweep, name, {"lr": 1}, {"loss": 1.0}, [first, second])
    found = read(sweep)
    costs = costs_record(measure_costs(found))
    killed = costs["parts"]["killed"]
    gpus = RESOURCES["gpus"]
    assert (killed["attempts"], killed["device_ms"]) == (1, 36_000 * gpus)
    assert costs["beyond_at_most_device_ms"] == 64_000 * gpus
    board = found.collection.board
    assert board.goodput.parts_ms["killed"] == killed["device_ms"]
    assert board.usage.gpu_hours == pytest.approx(costs["total"]["device_ms"] / 3.6e6)
    (best,) = costs["configurations"]
    assert (best["is_estimate"], best["gpu_hours"]) == (True, board.usage.gpu_hours)
    assert describe_usage(board).startswith("Used at least ")
    text = shown(read_costs(found))
    assert max(map(cell_len, text.splitlines())) <= 80
    assert "≥: at least, since an attempt ended without a word." in text


def test_costs_too_small_for_two_decimals_are_shown_all_the_same(tmp_path):
    sweep = make_sweep(str(tmp_path / "demo"))
    cheap = {**RESOURCES, "price_per_hour": 0.0047, "currency": "CNY"}
    add_trial(sweep, "00000-aaaa", {"lr": 1}, {"loss": 1.0}, [ended("00000-aaaa", resources=cheap)])
    board = read(sweep).collection.board
    assert 0 < board.usage.cost["CNY"] < 0.01
    assert ", 0.00470 CNY" in describe_usage(board)


def test_costs_of_a_sweep_without_any_attempt(tmp_path):
    sweep = make_sweep(str(tmp_path / "demo"))
    add_trial(sweep, "00000-aaaa", {"lr": 1})
    ways, parts = read_costs(read(sweep))
    assert ways.title.endswith(", so far")
    assert "no work is left to compare with" in ways.notes[-1]
    assert parts.rows[-1][0] == "allocated in all"
