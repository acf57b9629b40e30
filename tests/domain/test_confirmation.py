"""What is asked for to confirm a first place: which trials, with which seeds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.contract.errors import CorruptRecord, UserError
from orchestrator.domain.command import build_command
from orchestrator.domain.confirmation import (
    as_trial,
    extend,
    find_seed_parameter,
    reseed,
    seeds_in,
)
from orchestrator.domain.fresh_trials import NOTHING, Confirmation, as_record, parse_confirmation
from orchestrator.domain.spec import SweepSpec
from orchestrator.domain.spec_loader import load_spec
from orchestrator.domain.trials import expand_trials

HEAD = "program: p.sh\nmethod: grid\nmetric: {name: loss, goal: minimize}\n"
SEEDED = "seeds: 3\nparameters:\n  a: [1, 2, 3, 4]\n"


def spec_of(text: str) -> SweepSpec:
    return load_spec(HEAD + text, file="sweep.yaml", overrides=[])


def chosen(*values: int) -> list[tuple[str, dict[str, Any]]]:
    return [(f"{value:05d}-aaaa", {"a": value, "seed": 0}) for value in values]


def pairs(found: Confirmation) -> list[tuple[int, int]]:
    return [(trial.params["a"], trial.seed) for trial in found.trials]


# --- which seeds, and of whom ---


def test_extend_gives_all_configurations_the_same_fresh_seeds() -> None:
    found = extend(NOTHING, spec_of(SEEDED), chosen(1, 2), "seed", 2, {0, 1, 2})
    assert pairs(found) == [(1, 10000), (1, 10001), (2, 10000), (2, 10001)]
    assert [trial.params["seed"] for trial in found.trials] == [10000, 10001] * 2


def test_extend_passes_over_seeds_that_trials_have() -> None:
    found = extend(NOTHING, spec_of(SEEDED), chosen(1), "seed", 2, {10000, 10002})
    assert found.seeds == (10001, 10003)


def test_extend_asked_for_the_same_again_adds_nothing() -> None:
    spec = spec_of(SEEDED)
    found = extend(NOTHING, spec, chosen(1, 2), "seed", 3, ())
    taken = {trial.seed for trial in found.trials}
    assert extend(found, spec, chosen(1, 2), "seed", 3, taken) == found
    assert extend(found, spec, chosen(2), "seed", 2, taken).trials == found.trials


def test_extend_with_more_seeds_keeps_those_before() -> None:
    spec = spec_of(SEEDED)
    before = extend(NOTHING, spec, chosen(1, 2), "seed", 2, ())
    after = extend(before, spec, chosen(1, 2), "seed", 3, {0, 10000, 10001})
    assert after.trials[:4] == before.trials
    assert [(t.params["a"], t.seed) for t in after.missing(before)] == [(1, 10002), (2, 10002)]


def test_extend_gives_a_newcomer_the_seeds_of_the_others() -> None:
    spec = spec_of(SEEDED)
    before = extend(NOTHING, spec, chosen(1, 2), "seed", 2, ())
    after = extend(before, spec, chosen(4, 1, 2), "seed", 2, {0, 10000, 10001})
    assert [(t.params["a"], t.seed) for t in after.missing(before)] == [(4, 10000), (4, 10001)]


def test_fresh_seeds_are_none_that_a_widened_spec_can_have() -> None:
    widest = spec_of("seeds: 10000\nparameters:\n  a: [1]\n")
    found = extend(NOTHING, widest, chosen(1), "seed", 5, ())
    assert not set(found.seeds) & set(widest.seeds)


def test_extend_with_too_many_trials_is_refused() -> None:
    with pytest.raises(UserError, match="at most 1000; use a smaller --top or --seeds"):
        extend(NOTHING, spec_of(SEEDED), chosen(1, 2), "seed", 501, ())


def test_extend_with_another_parameter_is_refused() -> None:
    spec = spec_of("parameters:\n  a: [1, 2]\n  seed: 1\n  other: 1\n")
    before = extend(NOTHING, spec, chosen(1), "seed", 2, ())
    with pytest.raises(UserError, match="confirmed by seed already"):
        extend(before, spec, chosen(1), "other", 2, ())


# --- the seed's parameter ---


@pytest.mark.parametrize(
    ("text", "asked", "found"),
    [
        ("seeds: 3\nparameters: {a: [1]}\n", None, "seed"),
        ("seeds: 3\nparameters: {a: [1]}\n", "seed", "seed"),
        ("parameters: {a: [1], seed: 1}\n", None, "seed"),
        ("parameters: {a: [1], random_state: 1}\n", "random_state", "random_state"),
        ("parameters: {a: [1]}\n", "rng", "rng"),
    ],
)
def test_find_seed_parameter(text: str, asked: str | None, found: str) -> None:
    assert find_seed_parameter(spec_of(text), asked) == found


@pytest.mark.parametrize(
    ("text", "asked", "words"),
    [
        ("parameters: {a: [1]}\n", None, "neither seeds: nor a parameter seed"),
        ("parameters: {a: [1], random_state: 3}\n", None, r"is it random_state\?"),
        ("parameters: {a: [1], t: {parameters: {seed: 3}}}\n", None, r"is it t\.seed\?"),
        ("seeds: 3\nparameters: {a: [1]}\n", "rng", "seeds: of sweep.yaml passes"),
        ("parameters: {a: [1]}\nderived: {rng: a * 2}\n", "rng", "computes it"),
        ("parameters: {a: [1], t: {parameters: {x: 3}}}\n", "t", "no name of one parameter"),
    ],
)
def test_find_seed_parameter_that_cannot_be_known(text: str, asked: str | None, words: str) -> None:
    with pytest.raises(UserError, match=words):
        find_seed_parameter(spec_of(text), asked)


def test_seeds_in_a_parameter_that_is_no_number_is_refused() -> None:
    assert seeds_in([{"t": {"s": 3}}, {"t": {"s": 4}}, {"a": 1}], "t.s") == {3, 4}
    with pytest.raises(UserError, match='"x" in a trial, and a seed is a whole number'):
        seeds_in([{"seed": "x"}], "seed")


# --- the parameters of a fresh trial ---


def test_reseed_computes_again_what_depends_on_the_seed() -> None:
    spec = spec_of(
        "seeds: 2\nparameters: {a: [4]}\n"
        "derived: {b: a * 2, tag: seed + b, twice: tag * 2, odd: '1 if seed == 1 else none'}\n"
    )
    first, second = (trial.params for trial in expand_trials(spec))
    assert reseed(spec, first, "seed", 1) == second
    assert reseed(spec, second, "seed", 0) == first
    assert reseed(spec, first, "seed", 10000) == {
        "a": 4,
        "b": 8,
        "tag": 10008,
        "twice": 20016,
        "seed": 10000,
    }


def test_configurations_are_the_same_whatever_depends_on_the_seed() -> None:
    spec = spec_of("seeds: 2\nparameters: {a: [4, 5]}\nderived: {tag: seed + 1}\n")
    params = [dict(trial.params) for trial in expand_trials(spec)]
    found = extend(NOTHING, spec, [("00000-aaaa", params[0])], "seed", 2, ())
    assert found.differs == ("seed", "tag")
    keys = [found.key(values) for values in params]
    assert (keys[0] == keys[1], keys[1] == keys[2], keys[2] == keys[3]) == (True, False, True)
    assert {found.key(trial.params) for trial in found.trials} == {keys[0]}


def test_reseed_of_a_nested_parameter() -> None:
    spec = spec_of("parameters:\n  a: 1\n  train: {parameters: {seed: 7, lr: 1}}\n")
    (trial,) = expand_trials(spec)
    assert reseed(spec, trial.params, "train.seed", 5) == {"a": 1, "train": {"seed": 5, "lr": 1}}
    assert trial.params["train"]["seed"] == 7


def test_fresh_trial_is_the_trial_that_the_spec_would_make_of_that_seed() -> None:
    fresh = extend(NOTHING, spec_of(SEEDED), chosen(1), "seed", 2, ()).trials
    same = expand_trials(spec_of("seeds: [10000, 10001]\nparameters: {a: [1]}\n"))
    assert [trial.id for trial in fresh] == [trial.id for trial in same]


@pytest.mark.parametrize(
    ("text", "asked", "words"),
    [
        ("seeds: 3\nparameters: {a: [1]}\n", "seed", ["--a=1", "--seed=10000"]),
        ("parameters: {seed: 1, a: 1}\n", "seed", ["--seed=10000", "--a=1"]),
        ("parameters: {a: 1}\n", "rng", ["--a=1", "--rng=10000"]),
        (
            "parameters: {a: 1, t: {parameters: {x: 2}}}\n",
            "t.rng",
            ["--a=1", "--t.x=2", "--t.rng=10000"],
        ),
    ],
)
def test_program_gets_the_fresh_seed(text: str, asked: str, words: list[str]) -> None:
    spec = spec_of(text)
    params = expand_trials(spec)[0].params
    (fresh,) = extend(NOTHING, spec, [("00000-aaaa", params)], asked, 1, ()).trials
    trial = as_trial(spec, fresh)
    assert trial.seed == 10000, "for TRIAL_SEED"
    found = build_command(spec, trial, params_path="p.json", interpreter="python")
    assert found == ["bash", "p.sh", *words]


def test_as_trial_asks_for_what_the_spec_computes() -> None:
    spec = spec_of("seeds: 2\nresources: {mem_gb: '2 * a'}\nparameters: {a: [4]}\n")
    (fresh,) = extend(NOTHING, spec, chosen(4), "seed", 1, ()).trials
    assert as_trial(spec, fresh).resources.mem_gb == 8


# --- the record ---


def test_record_comes_back_as_it_was() -> None:
    spec = spec_of("parameters: {a: [1.0, 1e-5], seed: 1, b: [null, x]}\n")
    params = [("00000-aaaa", trial.params) for trial in expand_trials(spec)]
    found = extend(NOTHING, spec, params, "seed", 2, ())
    again = parse_confirmation(json.loads(json.dumps(as_record(found))), "c.json")
    assert [trial.id for trial in again.trials] == [trial.id for trial in found.trials]
    assert again == found


@pytest.mark.parametrize(
    "change",
    [
        {"trials": None},
        {"trials": [{"of": "x", "seed": "1", "params": {}}]},
        {"trials": [3]},
        {"seeds": [True]},
        {"differs": "seed"},
        {"seed_parameter": None},
        {"top": None},
    ],
)
def test_record_that_cannot_be_used_is_refused(change: dict[str, Any]) -> None:
    record = {**as_record(NOTHING), **change}
    with pytest.raises(CorruptRecord, match="restore it from a copy"):
        parse_confirmation(record, "c.json")
    with pytest.raises(CorruptRecord):
        parse_confirmation({}, "c.json")
