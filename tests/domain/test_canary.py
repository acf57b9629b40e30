"""Which trials go first, and how a spec says so."""

from __future__ import annotations

import pytest

from orchestrator.contract.errors import SpecError
from orchestrator.contract.states import TrialState
from orchestrator.domain.canary import Canary, Candidate, choose_canaries, warn_of_no_rest
from orchestrator.domain.spec_loader import load_spec

SPEC = "program: t.py\nmetric: {name: loss, goal: minimize}\nparameters: {x: [1, 2]}\n"


def load(canary: str, *overrides: str) -> Canary | None:
    text = SPEC + (f"canary: {canary}\n" if canary else "")
    return load_spec(text, file="s.yaml", overrides=overrides).canary


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("0", None),
        ("false", None),
        ("1", Canary()),
        ("3", Canary(3)),
        ("{trials: 2}", Canary(2)),
        ("{each_shape: true}", Canary(each_shape=True)),
        ("{trials: 0}", None),
        ("{checkpoint: true}", Canary()),
        ("{checkpoint: false}", Canary(checkpoint="none")),
        ("{checkpoint: periodic}", Canary(checkpoint="periodic")),
    ],
)
def test_canary_key_is_read(text: str, expected: Canary | None) -> None:
    assert load(text) == expected


def test_canary_override_turns_it_on_and_off() -> None:
    assert load("", "canary=1") == Canary()
    assert load("{each_shape: true}", "canary=0") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("-1", "s.yaml:4: canary: -1 is not allowed; use a number of trials"),
        ("true", "s.yaml:4: canary: true is not allowed; use a number of trials"),
        ("yes please", "s.yaml:4: canary: 'yes please' is not allowed"),
        ("{trial: 1}", "s.yaml:4: canary.trial: unknown key; did you mean trials?"),
        ("{trials: 1.5}", "s.yaml:4: canary.trials: 1.5 is not allowed; use a whole number"),
        ("{each_shape: 1}", "s.yaml:4: canary.each_shape: 1 is not allowed; use true or false"),
        ("{checkpoint: maybe}", "s.yaml:4: canary.checkpoint: 'maybe' is not allowed; use true"),
    ],
)
def test_canary_mistake_names_its_place_and_remedy(text: str, words: str) -> None:
    with pytest.raises(SpecError) as error:
        load(text)
    assert str(error.value).startswith(words)


def trials(*states: TrialState, shapes: str = "") -> list[Candidate]:
    shapes = shapes or "a" * len(states)
    pairs = zip(states, shapes, strict=True)
    return [Candidate(f"{i}-x", shape, state) for i, (state, shape) in enumerate(pairs)]


NEW, DONE, HELD = TrialState.NEW, TrialState.DONE, TrialState.PENDING
FAILED, CANCELLED = TrialState.FAILED, TrialState.CANCELLED


def test_no_canary_nobody_waits() -> None:
    assert choose_canaries(None, trials(NEW, NEW), {}) == ()


def test_first_trials_of_the_spec_are_canaries() -> None:
    assert choose_canaries(Canary(2), trials(NEW, NEW, NEW), {}) == ("0-x", "1-x")


def test_first_trial_of_each_shape_is_a_canary() -> None:
    found = choose_canaries(Canary(each_shape=True), trials(NEW, NEW, NEW, shapes="aab"), {})
    assert found == ("0-x", "2-x")


def test_trial_that_was_chosen_stays_canary_though_others_came_before_it() -> None:
    assert choose_canaries(Canary(), trials(NEW, NEW, HELD), {"2-x": None}) == ("2-x",)


def test_canary_that_passed_lets_the_rest_go() -> None:
    assert choose_canaries(Canary(), trials(NEW, HELD), {"1-x": True}) == ()


def test_result_of_before_counts_as_passed() -> None:
    assert choose_canaries(Canary(), trials(NEW, DONE), {}) == ()
    assert choose_canaries(Canary(2), trials(NEW, DONE, NEW), {}) == ("0-x",)


def test_canary_that_failed_goes_again() -> None:
    assert choose_canaries(Canary(), trials(FAILED, HELD), {"0-x": None}) == ("0-x",)


def test_canary_that_failed_and_has_a_result_is_followed_by_another() -> None:
    assert choose_canaries(Canary(), trials(DONE, HELD), {"0-x": None}) == ("1-x",)


def test_cancelled_canary_is_followed_by_another() -> None:
    assert choose_canaries(Canary(), trials(CANCELLED, HELD), {"0-x": None}) == ("1-x",)


def test_sweep_without_open_trials_has_no_canary() -> None:
    assert choose_canaries(Canary(5), trials(CANCELLED, DONE), {"1-x": None}) == ()


def test_canary_of_all_trials_holds_nothing_and_says_so() -> None:
    three = trials(TrialState.NEW, TrialState.NEW, TrialState.NEW, shapes="aab")
    assert warn_of_no_rest(Canary(2), three) == []
    assert warn_of_no_rest(Canary(1, each_shape=True), three) == []
    assert warn_of_no_rest(Canary(9), three) == [
        "canary: 9 of 3 trials: nothing is left to hold, so a mistake costs all of them; "
        "use fewer canaries, or none"
    ]
    assert warn_of_no_rest(Canary(3), three)
    assert "2 of each shape of 3 trials" in warn_of_no_rest(Canary(2, each_shape=True), three)[0]
    assert "canary: 1 of 1 trial: " in warn_of_no_rest(Canary(), three[:1])[0]
