"""Reading a whole spec: the values of every key, and every mistake with its whole message."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.contract.errors import SpecError
from orchestrator.domain.budget import Budget
from orchestrator.domain.canary import Canary
from orchestrator.domain.retry_policy import RetryLimits
from orchestrator.domain.search_space import Choice, Constant
from orchestrator.domain.spec import BatchNames, Metric, SweepSpec
from orchestrator.domain.spec_loader import SPEC_KEYS, load_spec, safe_name

HEAD = "program: t.py\nmetric: {name: loss, goal: minimize}\n"
FULL = """\
name: My search
program: train.py
command: [python, "${program}", 3]
method: random
metric: {name: acc, goal: maximize}
run_cap: 5
sampling_seed: 3
parameters:
  lr: {min: 0.1, max: 0.2}
  opt: [a, b]
zip: []
seeds: [4, 2]
partition: spot
cluster: slurm
max_concurrent: 7
max_gpus: 40
workdir: /data/x
code: live
environment: |
  module load cuda
  source env/bin/activate
env: {A: 010_x, B: 1e-5, C: true}
layout: batch
requeue: false
retry: {failures: 5, memory_factor: 2, hung_min: 30, same_failure: 0}
description: text
budget: {cost: 1500, currency: CNY, gpu_hours: 20, kill: true}
checkpoint: {interval_min: 2.5}
batch: {per_device: lr, accumulation: 2}
canary: {trials: 2, each_shape: true, checkpoint: periodic}
check: [tools/check, --strict]
objectives: [{name: acc, goal: maximize}, {name: ms, goal: minimize}]
"""


def load(text: str, *overrides: str) -> SweepSpec:
    return load_spec(text, file="dir/s.yaml", overrides=overrides)


def refusal(text: str, *overrides: str) -> str:
    with pytest.raises(SpecError) as caught:
        load(text, *overrides)
    return str(caught.value).removeprefix("dir/")


def test_load_spec_every_key_has_its_value() -> None:
    spec = load(FULL)
    found = {
        name: getattr(spec, name)
        for name in vars(spec)
        if name not in {"parameters", "positions", "resources"}
    }
    assert found == {
        "name": "My-search",
        "program": "train.py",
        "command": ("python", "${program}", "3"),
        "method": "random",
        "metric": Metric("acc", "maximize"),
        "more_objectives": (Metric("ms", "minimize"),),
        "run_cap": 5,
        "checkpoint_interval_min": 2.5,
        "sampling_seed": 3,
        "budget": Budget(cost=1500.0, currency="CNY", gpu_hours=20.0, kill=True),
        "zips": (),
        "where": (),
        "derived": (),
        "seeds": (4, 2),
        "retry": RetryLimits(failures=5, memory_factor=2.0, hung_min=30.0, same_failure=0),
        "batch": BatchNames("lr", 2),
        "canary": Canary(trials=2, each_shape=True, checkpoint="periodic"),
        "check": ("tools/check", "--strict"),
        "partition": "spot",
        "cluster": "slurm",
        "placement": None,
        "max_concurrent": 7,
        "max_gpus": 40,
        "workdir": "/data/x",
        "code": "live",
        "environment": ("module load cuda", "source env/bin/activate"),
        "env": {"A": "010_x", "B": "1e-5", "C": "true"},
        "layout": "batch",
        "requeue": False,
        "description": "text",
        "warnings": ("dir/s.yaml:1: name: 'My search' becomes My-search, which can name a folder",),
        "file": "dir/s.yaml",
        "source_text": FULL,
        "overrides": (),
    }


def test_load_spec_left_out_keys_have_defaults() -> None:
    spec = load(HEAD + "parameters: {a: 1}")
    found = (spec.name, spec.method, spec.cluster, spec.run_cap, spec.partition, spec.warnings)
    assert found == ("s", "grid", "auto", None, None, ())


def test_load_spec_nested_parameters_have_dotted_names_in_order() -> None:
    text = "parameters:\n  b: 1\n  optim: {parameters: {lr: [1, 2], deep: {parameters: {x: 3}}}}\n"
    spec = load(HEAD + text + "  a: 2")
    assert [(p.name, p.path, p.domain) for p in spec.parameters] == [
        ("b", ("b",), Constant(1)),
        ("optim.lr", ("optim", "lr"), Choice((1, 2))),
        ("optim.deep.x", ("optim", "deep", "x"), Constant(3)),
        ("a", ("a",), Constant(2)),
    ]


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("partition", ("dir/s.yaml", 13)),
        ("parameters.lr.min", ("dir/s.yaml", 9)),
        ("parameters.lr.gone.deeper", ("dir/s.yaml", 9)),
        ("nothing", ("dir/s.yaml", None)),
    ],
)
def test_locate_key_gives_its_line_or_that_of_what_is_around(
    key: str, place: tuple[str, int | None]
) -> None:
    assert load(FULL).locate(key) == place


def test_error_from_override_names_the_command_line() -> None:
    spec = load(FULL, "partition=fast")
    assert str(spec.error("partition", "no such")) == "command line: partition: no such"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "s.yaml: is empty; write at least program and parameters"),
        ("[a]", 's.yaml:1: ["a"] is no sweep spec; write keys such as program: train.py'),
        (
            HEAD + "parmeters: {a: 1}",
            "s.yaml:3: parmeters: unknown key; did you mean parameters? use name, program, "
            "command, method, metric, objectives, parameters, batch, check, checkpoint, run_cap, "
            "zip, where, derived, seeds, sampling_seed, resources, budget, partition, cluster, "
            "max_concurrent, max_gpus, workdir, code, environment, env, layout, requeue, retry, "
            "canary or description",
        ),
        (
            HEAD,
            "s.yaml: parameters: is missing; list the values to try, "
            "such as parameters: {lr: [0.1, 0.01]}",
        ),
        (
            "parameters: {a: 1}",
            "s.yaml: program: is missing; name what to run, such as program: train.py",
        ),
        (
            HEAD + "parameters: {a: 1}\nmethod: bayes",
            "s.yaml:4: method: 'bayes' is not available here; use grid, random or quasi_random",
        ),
        (
            HEAD + "parameters: {a: 1}\nmethod: quasirandom",
            "s.yaml:4: method: 'quasirandom' is not allowed; did you mean quasi_random? "
            "use grid, random or quasi_random",
        ),
        (
            "program: t\nmetric: {goal: minimize}\nparameters: {a: 1}",
            "s.yaml:2: metric: has no name; add name: loss, or what the program reports",
        ),
        (
            "program: t\nobjectives: []\nparameters: {a: 1}",
            "s.yaml:2: objectives: has 0 entries; list from 1 to 8",
        ),
        (
            "program: t\nobjectives: [{name: x, goal: minimize}, {name: x, goal: maximize}]\n"
            "parameters: {a: 1}",
            "s.yaml:2: objectives[1]: x is in the list already; name each metric once",
        ),
        (
            "program: t\nobjectives: [{name: x, goal: min}]\nparameters: {a: 1}",
            "s.yaml:2: objectives[0].goal: 'min' is not allowed; use minimize or maximize",
        ),
        (
            HEAD + "objectives: [{name: x, goal: minimize}]\nparameters: {a: 1}",
            "s.yaml:3: objectives: the first is x, minimize, and metric: is loss, minimize; the "
            "first objective is the one that is ranked: make them the same, or remove metric:",
        ),
        (
            "program: t\nmetric: {name: x, goal: min}\nparameters: {a: 1}",
            "s.yaml:2: metric.goal: 'min' is not allowed; use minimize or maximize",
        ),
        (
            HEAD + "parameters: {a: 1}\ncluster: slurn",
            "s.yaml:4: cluster: 'slurn' is not allowed; did you mean slurm? "
            "use auto, slurm or local",
        ),
        (
            HEAD + "parameters: {a: 1}\nmax_concurrent: 0",
            "s.yaml:4: max_concurrent: 0 is not allowed; use a whole number of at least 1",
        ),
        (
            HEAD + "parameters: {a: 1}\nrequeue: no",
            "s.yaml:4: requeue: 'no' is not allowed; use auto, true or false",
        ),
        (
            HEAD + 'parameters: {a: 1}\npartition: "gpu\\n#SBATCH --qos=high"',
            "s.yaml:4: partition: 'gpu #SBATCH --qos=high' is no partition; "
            "use letters, digits, '.', '_' and '-'",
        ),
        (
            HEAD + "parameters: {a: 1}\nname: '///'",
            "s.yaml:4: name: '///' has no letter or digit; add one",
        ),
        (
            HEAD + "parameters: {a: 1}\nenv: {TRIAL_DIR: x}",
            "s.yaml:4: env.TRIAL_DIR: is set for each trial; use another name",
        ),
        (
            HEAD + "parameters: {a: 1}\nenv: {'A B': x}",
            "s.yaml:4: env.A B: is no variable name; use letters, digits and _",
        ),
        (
            HEAD + "parameters: {a: 1}\ncommand: python t.py",
            "s.yaml:4: command: 'python t.py' is not allowed; use a list of words, such as "
            '[python, "${program}", "${args}"]',
        ),
        (
            HEAD + "parameters: {a: 1}\ncheckpoint: 10",
            "s.yaml:4: checkpoint: 10 is not allowed; use a mapping (name: value)",
        ),
        (
            HEAD + "parameters: {a: 1}\ncheckpoint: {}",
            "s.yaml:4: checkpoint: has no interval_min; write checkpoint: {interval_min: 10}",
        ),
        (
            HEAD + "parameters: {a: 1}\ncheckpoint: {interval: 10}",
            "s.yaml:4: checkpoint.interval: unknown key; did you mean interval_min? "
            "use interval_min",
        ),
        (
            HEAD + "parameters: {a: 1}\ncheckpoint:\n  interval_min: 0",
            "s.yaml:5: checkpoint.interval_min: 0 is not allowed; use minutes, a number above 0",
        ),
        (
            HEAD + "parameters: {a: 1}\ncheckpoint:\n  interval_min: often",
            "s.yaml:5: checkpoint.interval_min: 'often' is not allowed; use a number",
        ),
        (
            HEAD + "parameters: {batch: [8]}\nbatch: {per_device: bach}",
            "s.yaml:4: batch.per_device: 'bach' is not allowed; did you mean batch? "
            "use the name of a parameter (batch) or a number of at least 1",
        ),
        (
            HEAD + "parameters: {bs: [8]}\nbatch: {per_device: bs, effective: bs}",
            "s.yaml:4: batch: give effective alone, or per_device with accumulation",
        ),
        (
            HEAD + "parameters: {bs: [8]}\nbatch: {accumulation: 0.5}",
            "s.yaml:4: batch.accumulation: 0.5 is not allowed; "
            "use the name of a parameter (bs) or a number of at least 1",
        ),
        (
            HEAD + "parameters: {bs: [8]}\nbatch: {accumulation: 2}",
            "s.yaml:4: batch: names no batch; use per_device: NAME, or effective: NAME",
        ),
        (
            HEAD + "parameters: {a: 1}\nrun_cap: 1000000",
            "s.yaml:4: run_cap: 1000000 is too many; use at most 100000",
        ),
    ],
)
def test_load_spec_mistake_is_refused_in_one_line(text: str, message: str) -> None:
    assert refusal(text) == message


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        (
            "program: t\nparameters: {a: 1}",
            [
                "s.yaml: metric: is missing, so the leaderboard cannot rank; "
                "add metric: {name: ..., goal: ...}"
            ],
        ),
        (
            "program: t\nmetric: {name: x, target: 0.1}\nparameters: {a: 1}",
            [
                "s.yaml:2: metric.target: is ignored; all trials run to their end",
                "s.yaml:2: metric: has no goal; minimize is assumed, as in Weights & Biases",
            ],
        ),
        (
            HEAD + "parameters: {a: 1}\nproject: p\nearly_terminate: {type: hyperband}",
            [
                "s.yaml:4: project: is ignored; it is for Weights & Biases only",
                "s.yaml:5: early_terminate: is ignored; all trials run to their end",
            ],
        ),
        (
            HEAD + "parameters: {a: [1, 2]}\nmethod: random",
            ["s.yaml:4: method: random without run_cap draws 20; set run_cap to change"],
        ),
        (
            HEAD + "parameters: {a: [yes, off], b: no, c: 'no'}",
            [
                "s.yaml:3: parameters.a: yes is text here, not a boolean; "
                "write true or false, or 'yes'",
                "s.yaml:3: parameters.a: off is text here, not a boolean; "
                "write true or false, or 'off'",
                "s.yaml:3: parameters.b: no is text here, not a boolean; "
                "write true or false, or 'no'",
            ],
        ),
        (
            HEAD + "parameters: {a: [1, 2, 1, 1.0]}",
            ["s.yaml:3: parameters.a: 1 stands twice; it counts once"],
        ),
    ],
)
def test_load_spec_surprise_is_a_warning(text: str, warnings: list[str]) -> None:
    assert [line.removeprefix("dir/") for line in load(text).warnings] == warnings


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a b/c", "a-b-c"),
        ("../../etc", "etc"),
        (".hidden.", "hidden"),
        ("搜索 一", "搜索-一"),
        ("x" * 300, "x" * 100),
        ("é" * 80, "é" * 50),
        ("..", ""),
        ("a\nb", "a-b"),
    ],
)
def test_safe_name_names_a_folder(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@given(st.text(max_size=300))
def test_safe_name_any_text_is_one_plain_path_component(name: str) -> None:
    safe = safe_name(name)
    assert "/" not in safe
    assert "\0" not in safe
    assert safe not in {".", ".."}
    assert not safe.startswith((".", "-"))
    assert len(safe.encode()) <= 100


_KEYS = st.sampled_from([*SPEC_KEYS, "a", "x"])
_TREES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=5), st.floats()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(_KEYS, st.sampled_from(["min", "max", "values", "when", "distribution"])),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(_KEYS, _TREES, max_size=6))
def test_load_spec_any_tree_is_read_or_refused_in_one_line(tree: dict[str, Any]) -> None:
    message = ""
    try:
        load(json.dumps(tree))
    except SpecError as error:
        message = str(error)
    assert "\n" not in message


@pytest.mark.parametrize(("word", "requeue"), [("auto", None), ("true", True), ("false", False)])
def test_load_spec_requeue_is_a_switch(word: str, requeue: bool | None) -> None:
    text = HEAD + f"parameters: {{a: 1}}\nrequeue: {word}\n"
    assert load_spec(text, file="s.yaml").requeue is requeue
    plain = HEAD + "parameters: {a: 1}\n"
    assert load_spec(plain, file="s.yaml", overrides=[f"requeue={word}"]).requeue is requeue


def test_load_spec_objectives_alone_rank_by_the_first() -> None:
    spec = load(
        "program: t\nparameters: {a: 1}\n"
        "objectives: [{name: f1, goal: maximize}, {name: ms, goal: minimize}]"
    )
    assert spec.metric == Metric("f1", "maximize")
    assert spec.more_objectives == (Metric("ms", "minimize"),)
    assert spec.warnings == ()
