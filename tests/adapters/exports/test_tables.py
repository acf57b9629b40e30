import csv
import json
import math
from dataclasses import replace

import pandas as pd
import pyarrow.parquet as pq
import pytest

from orchestrator.adapters.exports.formats import FORMATS, check_package, write_export
from orchestrator.contract.errors import UserError
from orchestrator.domain.table import Table
from orchestrator.domain.typed_columns import MISSING, typed_column
from tests.adapters.exports.sweeps import EVIL, EVIL_METRIC, make_source


@pytest.fixture
def source(tmp_path):
    return make_source(str(tmp_path / "demo"))


def spell(text):
    for active in "\x1b\x07\u202e":
        text = text.replace(active, ascii(active)[1:-1])
    return text


def test_csv_is_safe_to_open_and_has_every_row(source, tmp_path):
    (path,) = write_export("csv", source, str(tmp_path / "out")).paths
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["done", "done", "failed", "running", "pending"]
    assert rows[0]["text"] == "'" + spell(EVIL)
    assert rows[0][spell(EVIL_METRIC)] == "1.5"


def test_json_has_schema_roles_and_values(source, tmp_path):
    (path,) = write_export("json", source, str(tmp_path / "out")).paths
    with open(path, encoding="utf-8") as file:
        record = json.load(file)
    assert next(iter(record)) == "schema"
    assert record["schema"] == "orchestrator.leaderboard/1"
    assert (record["objective"], record["goal"]) == ("loss", "minimize")
    first = record["rows"][0]
    assert (first["rank"], first["loss"], first["lr"], first["odd"]) == (1, 0.25, 0.1, "nan")
    assert first["text"] == EVIL
    assert record["rows"][-1]["loss"] is None


def test_parquet_has_types(source, tmp_path):
    (path,) = write_export("parquet", source, str(tmp_path / "out")).paths
    frame = pd.read_parquet(path)
    assert frame["loss"].tolist()[:2] == [0.25, 0.5]
    assert frame["text"][0] == EVIL


def test_parquet_has_the_documented_arrow_types_and_keeps_every_value(source, tmp_path):
    cells = {
        "flag": [True, MISSING, False],
        "count": [2**62 + 1, MISSING, -1],
        "loss": [math.nan, MISSING, math.inf],
        "text": ["é\x00=1", MISSING, ""],
        "none": [MISSING] * 3,
    }
    columns = {name: typed_column(values) for name, values in cells.items()}
    board = replace(source.board, table=Table(columns))
    (path,) = write_export("parquet", replace(source, board=board), str(tmp_path)).paths
    table = pq.read_table(path)
    assert dict(zip(table.schema.names, map(str, table.schema.types), strict=True)) == {
        "flag": "bool",
        "count": "int64",
        "loss": "double",
        "text": "large_string",
        "none": "large_string",
    }
    found = table.to_pydict()
    assert math.isnan(found["loss"].pop(0))
    assert found == {
        "flag": [True, None, False],
        "count": [2**62 + 1, None, -1],
        "loss": [None, math.inf],
        "text": ["é\x00=1", None, ""],
        "none": [None] * 3,
    }


def test_markdown_escapes_markup(source, tmp_path):
    (path,) = write_export("markdown", source, str(tmp_path / "out")).paths
    with open(path, encoding="utf-8") as file:
        text = file.read()
    assert "<script>" not in text.replace("\\<", "")
    assert "\x1b" not in text
    assert "\u202e" not in text


@pytest.mark.parametrize("name", [name for name, each in FORMATS.items() if each.package])
def test_missing_package_is_one_line_with_the_extra(name, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"'\.\[{FORMATS[name].extra}\]'$") as caught:
        check_package(name)
    assert "\n" not in str(caught.value)
