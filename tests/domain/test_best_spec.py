import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from orchestrator.contract.errors import UserError
from orchestrator.domain.best_header import best_trial, describe_objective, format_header
from orchestrator.domain.best_spec import format_best, format_scalar
from orchestrator.domain.spec_loader import load_spec
from orchestrator.domain.spec_tree import plain
from orchestrator.domain.trials import expand_trials
from orchestrator.domain.yaml_composer import parse_tree
from tests.boards import make_board, make_trials

ROOT = Path(__file__).parents[2]
SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))


def best_of(text, index=0, overrides=(), file="demo.yaml"):
    """Return the trial at an index, and the trials of the spec that is made of it."""
    spec = load_spec(text, file=file, overrides=overrides)
    trials = expand_trials(spec)
    chosen = trials[index]
    again = load_spec(
        format_best(text, file, overrides, chosen.params, "# why\n"), file="best.yaml"
    )
    return chosen, expand_trials(again), again, spec


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.name)
@pytest.mark.parametrize("index", [0, -1])
def test_format_best_of_each_example_gives_the_same_trial(path, index):
    chosen, trials, again, spec = best_of(path.read_text(), index, file=str(path))
    assert chosen.id in {trial.id for trial in trials}
    assert {trial.resources for trial in trials} == {chosen.resources}
    assert len(trials) == max(len(spec.seeds), 1)
    assert again.name == f"{spec.name}-best"
    for name in ("program", "command", "metric", "seeds", "env", "environment", "placement"):
        assert getattr(again, name) == getattr(spec, name), name
    assert not [w for w in again.warnings if w not in spec.warnings and "metric" not in w]


def test_format_best_of_groups_conditions_derived_and_expressions():
    text = """
program: train.py
method: random
run_cap: 8
metric: {name: loss, goal: maximize}
parameters:
  optim: {parameters: {name: [sgd, adam], wd: {values: [0.1], when: "optim.name == 'adam'"}}}
  batch: [8, 64]
  shape: {values: [[1, 2], {a: 1}]}
  nothing: {value: null}
where: "batch > 1"
derived: {lr: "batch / 1000", run: "seed * 2"}
seeds: 3
resources: {cpus: "2 if batch > 8 else 1", time: "batch + 1", sbatch: {nice: 5}}
batch: {effective: batch}
budget: {gpu_hours: 3}
canary: 1
"""
    for index in range(0, 24, 3):
        chosen, trials, again, _ = best_of(text, index)
        assert chosen.id in {trial.id for trial in trials}
        assert len(trials) == 3
        assert {trial.resources for trial in trials} == {chosen.resources}
        assert (again.budget, again.canary, again.where) == (None, None, ())


def test_format_best_takes_overrides_over():
    text = "program: a.py\nmetric: {name: l, goal: minimize}\nparameters: {x: [1], y: [2]}\n"
    chosen, trials, again, _ = best_of(text, overrides=("x=7,8", "resources.gpus=2", "name=new"))
    assert trials[0].params == chosen.params == {"x": 7, "y": 2}
    assert (trials[0].resources.gpus, again.name) == (2, "new-best")


def test_format_best_of_parameters_that_the_spec_cannot_give_is_refused():
    text = "program: a.py\nparameters: {x: [1]}\n"
    with pytest.raises(UserError, match="no parameter name"):
        format_best(text, "a.yaml", (), {"no name!": 1}, "")


HOSTILE = [
    "1e-5", "no", "007", "a: b", "# x", "", " ", "null", "~", "true", "0x1f", "0o7", "1_000", "y",
    "-", "- a", "[1]", "{a}", "&a", "*a", "!t", "%a", "@a", "`a", "'", '"', "a\nb", "\x07", "\x7f",
    "\x85", "\u2028", "\u202e", "é", "😀", "=cmd|' /C calc'!A0", "1:30", "12:30:45", ".inf",
    "2001-01-01", "<script>", "a #b", "? a", ">", "|", "\\",
]  # fmt: skip


@pytest.mark.parametrize(
    "value", [*HOSTILE, 1, -3, 10**30, 1e-5, 1e300, 0.1, 3.0, -0.0, True, None]
)
def test_format_scalar_is_read_back_as_the_same_by_every_yaml(value):
    text = f"x: {format_scalar(value)}\n"
    ours = plain(parse_tree(text, file="x"))["x"]
    assert (ours, type(ours)) == (value, type(value))
    for version in ((1, 1), (1, 2)):
        reader = YAML(typ="safe", pure=True)
        reader.version = version
        theirs = reader.load(text)["x"]
        assert (theirs, type(theirs)) == (value, type(value)), version


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30))
def test_format_scalar_of_any_text_is_read_back(value):
    assert plain(parse_tree(f"x: {format_scalar(value)}\n", file="x")) == {"x": value}


@pytest.mark.parametrize("value", HOSTILE)
def test_format_best_of_hostile_values_gives_them_back(value):
    text = f"program: a.py\nparameters: {{x: {{values: [{format_scalar(value)}, 1]}}}}\n"
    chosen, trials, _, _ = best_of(text)
    assert [trial.params for trial in trials] == [{"x": value}] == [chosen.params]


def test_format_header_names_the_best_and_how_to_go_on():
    board = make_board(make_trials([{"lr": 0.1}, {"lr": 0.2}], lambda p: p["lr"]))
    assert best_trial(board) == "00000-aaaa"
    lines = format_header(board, "results", "text", []).splitlines()
    assert lines[:3] == [
        "# The best configuration of sweep demo so far, as a sweep: trial 00000-aaaa.",
        "# loss (minimize): 0.1, one run",
        "# Its first place is provisional: make collect says why.",
    ]
    assert "#   run it again      make submit SWEEP=results/demo/best.yaml" in lines
    assert "#   check its numbers make reproduce SWEEP=demo TRIAL=0" in lines
    assert (
        "#   search around it  make submit SWEEP=results/demo/best.yaml "
        "ARGS='name=demo-2 lr=0.05,0.1,0.2'"
    ) in lines


def test_format_header_has_commands_to_type_as_they_stand():
    board = make_board(make_trials([{"lr": 0.1}], lambda p: p["lr"]))
    for folder in ("/tmp/res  结果", "/tmp/" + "a" * 500):
        quoted = f"'{folder}'" if " " in folder else folder
        lines = format_header(board, folder, "text", []).splitlines()
        assert f"#   check its numbers make reproduce SWEEP=demo TRIAL=0 RESULTS={quoted}" in lines


def test_format_header_spells_whole_numbers_whole():
    board = make_board(make_trials([{"n": 1048577}, {"n": 2}], lambda p: -p["n"]))
    header = format_header(board, "results", "text", [])
    assert "n=524288,1048577,2097154" in header


def test_format_header_of_hostile_names_stays_a_comment():
    trials = make_trials([{"a\nb: c": "x"}, {"a\nb: c": "y\nrm: -rf"}], lambda p: 1.0)
    board = make_board(trials, name="evil\nprogram: rm")
    header = format_header(board, "res\nults", "t", [])
    assert all(line.startswith("#") for line in header.splitlines())


def test_describe_objective_of_repeats_has_the_interval():
    trials = make_trials([{"x": 1, "seed": s} for s in range(3)], lambda p: 1.0 + p["seed"])
    words = describe_objective(make_board(trials, seeded=True))
    assert words == "loss (minimize): 2, the mean of 3 repeats; 95 % interval -0.484138 to 4.48414"
    one = describe_objective(make_board(trials[:1], seeded=True))
    assert one == "loss (minimize): 1, the mean of 1 repeats; no interval from one"
    assert json.dumps(describe_objective(make_board([]))) == '""'
