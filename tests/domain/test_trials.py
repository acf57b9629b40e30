"""Expansion: which trials, in which order, with which identity."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contract.errors import SpecError
from orchestrator.domain import trials
from orchestrator.domain.resources import TrialResources
from orchestrator.domain.spec_loader import load_spec
from orchestrator.domain.trials import Expansion, Trial, expand, expand_trials, flatten, trial_id

HEAD = "program: t\nmetric: {name: x, goal: minimize}\n"


def expansion(text: str, *overrides: str) -> Expansion:
    return expand(load_spec(HEAD + text, file="s.yaml", overrides=overrides))


def params(text: str, *overrides: str) -> list[dict[str, Any]]:
    return [dict(trial.params) for trial in expansion(text, *overrides).trials]


def refusal(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        expansion(text)
    return str(caught.value)


def test_expand_trials_grid_has_whole_trials() -> None:
    text = "parameters: {a: [1], g: {parameters: {b: [x]}}}\nseeds: [3]\nresources: {gpus: a + 1}"
    assert expand_trials(load_spec(HEAD + text, file="s.yaml")) == [
        Trial(
            id=trial_id({"a": 1, "g": {"b": "x"}, "seed": 3}),
            params={"a": 1, "g": {"b": "x"}, "seed": 3},
            seed=3,
            resources=TrialResources(gpus=2),
        )
    ]


def test_expand_grid_last_parameter_is_fastest_and_repeats_stand_together() -> None:
    found = params("parameters: {a: [1, 2], b: [x, y]}\nseeds: 2")
    assert [(p["a"], p["b"], p["seed"]) for p in found] == [
        (1, "x", 0),
        (1, "x", 1),
        (1, "y", 0),
        (1, "y", 1),
        (2, "x", 0),
        (2, "x", 1),
        (2, "y", 0),
        (2, "y", 1),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "parameters: {a: [1, 2], b: [3, 4], c: [5, 6]}\nzip: [[a, c]]",
            [
                {"a": 1, "b": 3, "c": 5},
                {"a": 1, "b": 4, "c": 5},
                {"a": 2, "b": 3, "c": 6},
                {"a": 2, "b": 4, "c": 6},
            ],
        ),
        (
            "parameters: {o: [sgd, adam], m: {values: [0, 9], when: o == 'sgd'}}",
            [{"o": "sgd", "m": 0}, {"o": "sgd", "m": 9}, {"o": "adam"}],
        ),
        (
            "parameters: {m: {values: [0, 9], when: o == 'sgd'}, o: [sgd, adam]}",
            [{"m": 0, "o": "sgd"}, {"m": 9, "o": "sgd"}, {"o": "adam"}],
        ),
        (
            "parameters: {o: [a, b], g: {when: o == 'a', parameters: "
            "{x: [1, 2], y: {values: [3, 4], when: g.x == 2}}}}",
            [
                {"o": "a", "g": {"x": 1}},
                {"o": "a", "g": {"x": 2, "y": 3}},
                {"o": "a", "g": {"x": 2, "y": 4}},
                {"o": "b"},
            ],
        ),
        (
            "parameters: {o: [a, b], x: [1, 2], y: {values: [3, 4], when: o == 'a'}}\n"
            "zip: [[x, y]]",
            [
                {"o": "a", "x": 1, "y": 3},
                {"o": "a", "x": 2, "y": 4},
                {"o": "b", "x": 1},
                {"o": "b", "x": 2},
            ],
        ),
        (
            "parameters: {a: [1, 2, 3]}\nwhere: [a != 2, b < 30]\nderived: {b: a * 10}",
            [{"a": 1, "b": 10}],
        ),
        (
            "parameters: {a: [1, 2]}\nderived: {b: a * 2 if a > 1 else none, c: b is none}",
            [{"a": 1, "c": True}, {"a": 2, "b": 4, "c": False}],
        ),
        (
            "parameters: {a: [1]}\nseeds: [5, 6]\nderived: {s: seed * 10, b: a + 1, t: s + b}",
            [
                {"a": 1, "s": 50, "b": 2, "t": 52, "seed": 5},
                {"a": 1, "s": 60, "b": 2, "t": 62, "seed": 6},
            ],
        ),
        ("seeds: 2", [{"seed": 0}, {"seed": 1}]),
        ("parameters: {g.x: 1, g: {parameters: {y: 2}}}", [{"g.x": 1, "g": {"y": 2}}]),
    ],
)
def test_expand_grid_combines_what_belongs_together(
    text: str, expected: list[dict[str, Any]]
) -> None:
    found = params(text)
    assert found == expected
    assert [list(item) for item in found] == [list(item) for item in expected]


def test_expand_equal_combinations_are_one_trial() -> None:
    text = "parameters: {a: [1, 2], b: [1, 2], c: {values: [1, 2], when: a > 1}}\nzip: [[b, c]]"
    merged = text.replace("b: [1, 2]", "b: {values: [1, 2], when: a > 1}")
    assert params(merged) == [{"a": 1}, {"a": 2, "b": 1, "c": 1}, {"a": 2, "b": 2, "c": 2}]


def test_expand_grid_cap_takes_the_first_combinations_with_all_repeats() -> None:
    found = expansion("parameters: {a: [1, 2, 3]}\nseeds: 2\nrun_cap: 2")
    assert [dict(trial.params) for trial in found.trials] == [
        {"a": 1, "seed": 0},
        {"a": 1, "seed": 1},
        {"a": 2, "seed": 0},
        {"a": 2, "seed": 1},
    ]
    assert found.warnings == (
        "s.yaml:5: run_cap: 2 cuts the grid short; raise it to have all of it",
    )
    assert expansion("parameters: {a: [1, 2]}\nrun_cap: 2").warnings == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "parameters: {a: [1, 2], b: [3]}\nwhere: [a > 5, b > 1]",
            "s.yaml:4: where: leaves none of 2 combinations; loosen it: `a > 5` and `b > 1`",
        ),
        (
            "parameters: {a: {min: 1, max: 2000}, b: {min: 1, max: 1000}, c: 1}",
            "s.yaml:3: parameters: the grid is too large: a 2000 x b 1000 = 2000000 combinations, "
            "at most 1000000 are allowed; use fewer values, or method: random",
        ),
        (
            "parameters: {a: [1], m: {value: 1, when: a > 1}}\nderived: {x: m * 2}",
            "s.yaml:4: derived.x: `m * 2` needs m, which is inactive or null; "
            "guard it: ... if m is not none else ...",
        ),
        (
            "method: random\nrun_cap: 2\nparameters: {a: {min: 0.0, max: 1.0}}\nwhere: a > 2",
            "s.yaml:6: where: only 0 of 2 combinations were found in 10000 draws; "
            "loosen it: `a > 2`, or lower run_cap",
        ),
        (
            "method: random\nrun_cap: 2\nparameters: {a: [1, 2]}\nwhere: a > 2",
            "s.yaml:6: where: leaves none of 2 combinations; loosen it: `a > 2`",
        ),
        (
            "method: random\nrun_cap: 9\nparameters: {a: {distribution: q_beta, q: 0.5}}",
            "s.yaml:4: run_cap: only 3 of 9 combinations were found in 10000 draws; lower it",
        ),
    ],
)
def test_expand_without_enough_trials_is_refused(text: str, message: str) -> None:
    assert refusal(text) == message


def test_expand_conditional_grid_is_counted_as_it_is() -> None:
    branches = ", ".join(
        f"p{k}: {{min: 1, max: 100, when: o == {k}}}" for k in range(8)
    )  # 8 branches of 100, not 100 to the power of 8
    found = params(f"parameters: {{o: {{min: 0, max: 7}}, {branches}}}")
    assert len(found) == 800
    assert found[0] == {"o": 0, "p0": 1}


@pytest.mark.parametrize("method", ["random", "quasi_random"])
def test_expand_exhausted_space_is_said(method: str) -> None:
    found = expansion(f"method: {method}\nrun_cap: 50\nparameters: {{a: [1, 2], b: [x, y], c: 1}}")
    assert len(found.trials) == 4
    assert found.warnings == ("s.yaml:4: run_cap: 50 is not reached: all 4 combinations are in",)


def test_trial_id_is_that_of_canonical_json() -> None:
    # sha256 of {"a":1e-05,"b":{"c":true,"d":null},"e":"\u00e9"}
    assert trial_id({"e": "é", "b": {"d": None, "c": True}, "a": 1e-5}) == "b641acc8e8"


@pytest.mark.parametrize("other", [{"a": 16.0}, {"a": "16"}, {"a": True}, {"b": 16}, {"a": [16]}])
def test_trial_id_other_parameters_have_another(other: dict[str, Any]) -> None:
    assert trial_id({"a": 16}) != trial_id(other)


_JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    ),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(), _JSON, max_size=5), st.randoms())
def test_trial_id_order_of_keys_does_not_matter(params: dict[str, Any], random: Any) -> None:
    items = list(params.items())
    random.shuffle(items)
    assert trial_id(dict(items)) == trial_id(params)


def test_trial_id_code_and_resources_and_order_do_not_matter() -> None:
    one = expansion("parameters: {a: [1, 2], b: 3}\nresources: {gpus: 1}")
    two = expansion("parameters: {b: 3, a: [2, 1]}\npartition: x\ncommand: [y]")
    assert {trial.id for trial in one.trials} == {trial.id for trial in two.trials}


def test_expand_widened_grid_keeps_the_ids() -> None:
    one = {trial.id for trial in expansion("parameters: {a: [1, 2]}").trials}
    two = {trial.id for trial in expansion("parameters: {a: [0, 1, 2, 3]}").trials}
    assert one < two


def test_expand_collision_of_ids_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "ID_DIGITS", 0)
    assert refusal("parameters: {a: [1, 2]}") == (
        's.yaml:3: parameters: two trials have the id : {"a":1} and {"a":2}; '
        "change a value or add a constant parameter"
    )


def test_flatten_nested_parameters_get_dotted_names() -> None:
    nested = {"a": 1, "g": {"x": [1], "h": {"y": None}, "e": {}}}
    assert flatten(nested) == {"a": 1, "g.x": [1], "g.h.y": None, "g.e": {}}


@pytest.mark.timeout(60)
def test_expand_ten_thousand_trials_is_no_matter_of_minutes() -> None:
    text = """
parameters:
  a: {min: 1, max: 10}
  b: {min: 0.1, max: 1.0, step: 0.1}
  c: [p, q, r, s, t]
  d: {min: 1e-5, max: 1e-3, n: 10, log: true}
  e: [true, false]
where: "not (a == 11 and c == 'p')"
derived: {f: a * b}
"""
    spec = load_spec(HEAD + text, file="s.yaml")
    assert len(expand(spec).trials) == 10_000


def test_import_of_a_grid_loads_neither_numpy_nor_scipy() -> None:
    code = (
        "import sys\n"
        "from orchestrator.domain import command, spec_loader, trials\n"
        f"spec = spec_loader.load_spec({HEAD + 'parameters: {a: [1, 2]}'!r}, file='s.yaml')\n"
        "trials.expand(spec)\n"
        "print([name for name in ('numpy', 'scipy', 'jinja2', 'pandas') if name in sys.modules])\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout == "[]\n"
