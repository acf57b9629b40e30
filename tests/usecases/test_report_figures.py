import csv
import json
import os
import time
from collections import Counter
from datetime import UTC, datetime

import pytest

from orchestrator.contract.paths import SweepPaths
from orchestrator.usecases.collect import collect
from orchestrator.usecases.observe import observe
from orchestrator.usecases.report_figures import build_figures
from orchestrator.usecases.report_input import ReportInput
from tests.browser.sample_sweep import make_sample_sweep, random_points
from tests.trial_writer import add_trial, make_sweep

ALL = ["history", "intervals", "importance", "parallel", "slices", "contours", "curves", "pareto",
       "timeline", "distribution"]  # fmt: skip


def read(sweep):
    now_s = time.time()
    seen = observe(sweep)
    now = datetime.fromtimestamp(now_s, UTC)
    collection = collect(sweep, seen.states, seen.reasons, now, scan=seen.scan)
    return ReportInput(sweep, seen, collection, now_s)


def build(sweep):
    return {figure.id: figure for figure in build_figures(read(sweep))}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    root = str(tmp_path_factory.mktemp("results") / "grid")
    return make_sample_sweep(root, end_s=time.time(), n_reports=20)


@pytest.fixture(scope="module")
def figures(sweep):
    return build(sweep)


def csv_rows(sweep):
    with open(sweep.leaderboard("csv"), newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_build_figures_of_a_sweep_has_all_with_data_and_words(figures):
    assert list(figures) == ALL
    for figure in figures.values():
        assert "reason" not in figure.data, figure.id
        assert figure.title
        assert figure.caption.endswith(".")
        assert figure.table.endswith(".")
        json.dumps(figure.data, allow_nan=False)


def test_build_figures_numbers_are_those_of_the_csv(sweep, figures):
    rows = csv_rows(sweep)
    by_trial = {row["trial"]: row for row in rows}
    for key in ("history",):
        data = figures[key].data
        for trial, value in zip(data["trial"], data["y"], strict=True):
            assert float(by_trial[trial]["eval_perplexity"]) == value
    for key in ("parallel", "slices"):
        data = figures[key].data
        means = [float(by_trial[trial]["eval_perplexity_mean"]) for trial in data["trial"]]
        assert data["y"] == means
        for axis in data["axes"]:
            cells = [by_trial[trial][axis["name"]] for trial in data["trial"]]
            shown = [axis["levels"][code] for code in axis["codes"]]
            assert shown == (cells if axis["is_text"] else [float(cell) for cell in cells])


def test_build_figures_intervals_are_the_csv_s_and_hold_each_repeat(sweep, figures):
    data = figures["intervals"].data
    rows = csv_rows(sweep)
    for place, trial in enumerate(data["trial"]):
        row = next(row for row in rows if row["trial"] == trial)
        assert data["mean"][place] == float(row["eval_perplexity_mean"])
        low = row["eval_perplexity_ci95_low"]
        assert data["low"][place] == (float(low) if low else None)
        assert len(data["repeats"][place]) == int(row["repeats_done"])
        assert sum(data["repeats"][place]) / data["n"][place] == pytest.approx(data["mean"][place])
        assert data["is_tied"][place] == (row.get("tie") == "1")


def test_build_figures_front_is_the_csv_s(sweep, figures):
    data = figures["pareto"].data
    marked = {row["trial"] for row in csv_rows(sweep) if row.get("pareto") == "true"}
    assert {data["trial"][i] for i in data["front"]} == marked & set(data["trial"])


def test_build_figures_timeline_counts_every_attempt(sweep, figures):
    data = figures["timeline"].data
    found = Counter(data["ends"][code] for code in data["end"])
    expected: Counter = Counter()
    it = read(sweep)
    for trial in it.observation.trials:
        for attempt in trial.attempts:
            expected[attempt.outcome or "none"] += 1
    assert found["committed"] == expected["committed"]
    assert found["preempted"] == expected["preempted"]
    assert found["failed"] == expected["failed"]
    assert found["killed"] + found["running"] == expected["none"]
    assert max(data["count"]) == 12  # the slots of the made-up queue
    assert data["n_lanes"] == 12


def test_build_figures_of_an_empty_or_young_sweep_say_why(tmp_path):
    empty = make_sweep(str(tmp_path / "empty"))
    for figure in build(empty).values():
        assert figure.data["reason"].endswith(".")
    young = make_sweep(str(tmp_path / "young"))
    add_trial(young, "00001-aaaa", {"lr": 1}, {"loss": 1.0})
    found = build(young)
    assert "Only 1 configuration" in found["slices"].data["reason"]
    assert found["history"].data["y"] == [1.0]
    aimless = make_sweep(str(tmp_path / "aimless"), metric=None)
    add_trial(aimless, "00001-aaaa", {"lr": 1}, {"loss": 1.0})
    assert "names no objective" in build(aimless)["history"].data["reason"]


def test_build_figures_of_a_thousand_trials_stay_small(tmp_path):
    sweep = make_sample_sweep(
        str(tmp_path / "big"), end_s=time.time(), points=random_points(1000), n_seeds=1,
        n_slots=64, n_reports=124,
    )  # fmt: skip
    found = build(sweep)
    sizes = {
        name: len(json.dumps(figure.data, separators=(",", ":"))) for name, figure in found.items()
    }
    assert sum(sizes.values()) <= 1_000_000, sizes
    assert all("reason" not in figure.data for figure in found.values())
    assert "Shown are 200 of" in found["curves"].caption


def test_build_figures_writes_nothing(sweep):
    def listing():
        return sorted((folder, name) for folder, _, names in os.walk(sweep.root) for name in names)

    it = read(SweepPaths(sweep.root))
    before = listing()
    build_figures(it)
    assert listing() == before
