"""From the bytes that a program left to the ranked table: nothing breaks a rank."""

import math
import os
from datetime import UTC, datetime

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from orchestrator.contract.records import metric_value
from orchestrator.contract.states import TrialState
from orchestrator.runtime.commit import read_metrics
from orchestrator.usecases.collect import collect
from tests.trial_writer import add_trial, ended, make_sweep, write, write_result

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
GOOD, ODD = "00001-aaaa", "00002-bbbb"
NUMBERS = [b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400", b"1" * 400, b"-0.0", b"0.5"]
OTHERS = [b'"0.5"', b'"nan"', b"true", b"null", b"[1]", b'{"a": 1}', b'"x"', b"[" * 70 + b"]" * 70]
NAMES = [
    b'"loss"',
    b'""',
    b'"rank"',
    b'"trial"',
    b'"step"',
    b'"a\\u0000\\u001b[31m"',
    b'"' + b"k" * 300 + b'"',
]
LINES = st.one_of(
    st.binary(max_size=40),
    st.builds(
        lambda pairs: b"{" + b", ".join(n + b": " + v for n, v in pairs) + b"}",
        st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NUMBERS + OTHERS)), max_size=4),
    ),
    st.builds(lambda text, n: text[:n], st.just(b'{"loss": 1.25, "acc": 0.5}'), st.integers(0, 26)),
)


def commit(sweep, name, data):
    """Leave a trial with these reports, as its node commits it."""
    trial = add_trial(sweep, name, {"lr": 1})
    write(trial.metrics, data)
    metrics, _, _, _ = read_metrics(trial)
    write_result(trial, metrics, [ended(name)])
    return metrics


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.lists(LINES, max_size=6).map(b"\n".join))
def test_collect_any_bytes_as_metrics_rank_only_finite_numbers(tmp_path_factory, data):
    sweep = make_sweep(str(tmp_path_factory.mktemp("fuzz") / "demo"))
    add_trial(sweep, GOOD, {"lr": 1}, {"loss": 0.25, "acc": 1})
    metrics = commit(sweep, ODD, data)
    found = collect(sweep, {}, {}, NOON)
    table = found.board.table
    ranks = dict(zip(table["trial"].cells, table["rank"].cells, strict=True))
    value = metric_value(metrics.get("loss"))
    is_finite = value is not None and math.isfinite(value)
    assert ranks[GOOD] == (2 if is_finite and value < 0.25 else 1)
    assert (ranks[ODD] is not None) == is_finite
    assert table["loss"].dtype in ("Int64", "Float64")
    assert all(os.path.getsize(path) for path in found.paths)


@pytest.mark.parametrize(
    ("value", "note"),
    [
        ("NaN", "loss is nan"),
        ("1e400", "loss is inf"),
        ('"0.5"', "loss is '0.5', not a number"),
        ("true", "loss is 'true', not a number"),
        ("null", "loss is 'null', not a number"),
        ("[0.1]", "loss is '[0.1]', not a number"),
        ('{"a": 1}', "loss is '{\"a\": 1}', not a number"),
    ],
)
def test_collect_objective_that_is_no_number_is_noted_and_its_column_stays_one(
    tmp_path, value, note
):
    sweep = make_sweep(str(tmp_path / "demo"))
    add_trial(sweep, GOOD, {"lr": 1}, {"loss": 0.25})
    commit(sweep, ODD, f'{{"loss": {value}}}\n'.encode())
    table = collect(sweep, {}, {}, NOON).board.table
    assert table["rank"].cells == [1, None]
    assert table["loss"].dtype == "Float64"
    assert table["note"].cells == [None, note]


def test_collect_the_same_fault_in_many_trials_is_named_once(tmp_path):
    sweep = make_sweep(str(tmp_path / "demo"))
    for number in range(1, 31):
        trial = add_trial(sweep, f"{number:05d}-aaaa", {"lr": number})
        record = b'{"metrics": {"loss": 1}, "problems": ["line %d: not JSON"]}' % number
        write(trial.result, record)
    found = collect(sweep, dict.fromkeys(os.listdir(sweep.trials), TrialState.DONE), {}, NOON)
    assert found.problems == [
        "00001-aaaa/metrics.jsonl: line 1: not JSON (and the like in 29 more trials)"
    ]
