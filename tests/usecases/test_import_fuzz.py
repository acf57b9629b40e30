"""Whatever a file holds, an import ends in runs or in one line; what it takes can be ranked."""

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.contract.errors import UserError
from orchestrator.usecases.collect import collect
from orchestrator.usecases.import_results import ImportOptions, import_results
from orchestrator.usecases.observe import observe

NOW = datetime(2026, 1, 1, tzinfo=UTC)
names = st.sampled_from(
    ["params", "config", "metrics", "summary", "loss", "lr", "seed", "state", "status", "name"]
    + ["id", "runtime", "started_at", "_step", "_wandb", "history", "step", "=x", "a.b", "\x1b[1m"]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["finished", "failed", "1h 2m", "2026-01-01", "nan", "x" * 2000, "\ud800"])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=5),
    max_leaves=12,
)
runs = st.fixed_dictionaries(
    {"params": st.dictionaries(names, values, max_size=4), "loss": st.floats() | values},
    optional={"state": scalars, "seed": scalars, "runtime": scalars, "history": values},
)
records = runs | st.dictionaries(names, values, max_size=8)
cells = st.sampled_from(
    ["", "1", "1e400", "nan", "-5", "True", "{'a': 1}", '{"loss": [1]}', "{", "=cmd()", "٣", "1_0"]
    + ["9" * 5000, "2026-01-01T00:00:00Z", "a\nb", '"', "crashed"]
)


def take(name, data):
    """Import a file, and collect it if it holds runs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        options = ImportOptions(objectives=(("loss", "minimize"),))
        try:
            done = import_results(f"{folder}/results", str(path), options)
        except UserError:
            return
        seen = observe(done.sweep)
        board = collect(done.sweep, seen.states, seen.reasons, NOW, scan=seen.scan).board
        assert len(board.table) == done.n_runs


@settings(max_examples=40, deadline=None)
@given(st.lists(records | values, max_size=4))
def test_import_of_any_json_ends_in_runs_or_one_line(found):
    take("x.json", json.dumps(found).encode())
    lines = "\n".join(json.dumps(line) for line in found)
    take("x.jsonl", lines.encode())


@settings(max_examples=40, deadline=None)
@given(
    st.lists(names, max_size=3, unique=True),
    st.lists(st.lists(cells, min_size=5, max_size=6), max_size=4),
)
def test_import_of_any_table_ends_in_runs_or_one_line(others, rows):
    header = ["Name", "config.lr", "summary.loss", *others][:5]
    lines = [",".join(header), *(",".join(row[: len(header)]) for row in rows)]
    take("x.csv", "\n".join([*lines, ",".join(["a", "1", "0.5", "", ""][: len(header)])]).encode())


@settings(max_examples=25, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["", "{", "SQLite format 3\0", "a,b\n"]))
def test_import_of_any_bytes_ends_in_runs_or_one_line(data, head):
    take("x", head.encode() + data)
