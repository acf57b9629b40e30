"""Text of strangers in every place that shows it: no escape code, pipe or formula gets through."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

from orchestrator.cli.main import run
from orchestrator.contract.records import FAILED, dump_record
from tests.trial_writer import RESOURCES, add_trial, ended, make_sweep, write

ESCAPES = ["\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x9b2J", "a\rb", "a\nb", "\x07", "\x00"]
TRICKS = ["\u202egnp.exe", "\u2066x\u2069", "zero\u200bwidth", "line\u2028end", "\ud800"]
FORMULAS = ["=1+1", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "＝1+1", "＠x"]
MARKS = ["a|b", "<script>alert(1)</script>", "[x](javascript:1)", "`code`", "&lt;", "[red]x[/red]"]
TEXTS = [*ESCAPES, *TRICKS, *FORMULAS, *MARKS]
# What a terminal obeys or a reader is deceived by; TAB and newline are the table's own.
FORBIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]"
)
# What CSV spells; what has no width is nothing that a terminal obeys.
ACTIVE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def make_odd(folder: Path) -> None:
    """Make a sweep in which every text that a stranger can choose is one of ``TEXTS``."""
    sweep = make_sweep(str(folder / "demo"), parameters=["lr", "word"])
    write(
        sweep.summary,
        dump_record(
            {
                "name": "demo\x1b[31m|<b>\u202e",
                "metric": {"name": "loss\x1b[31m|", "goal": "minimize"},
                "parameters": ["word", "=1+1\x1b[31m|"],
                "seeded": False,
            }
        ),
    )
    for number, text in enumerate(TEXTS):
        resources = {**RESOURCES, "currency": text[:5], "partition": text}
        name = f"{number:05d}-aaaa"
        end = ended(name, node=text, resources=resources)
        params = {"word": text, "=1+1\x1b[31m|": number, text: 1}
        metrics = {"loss\x1b[31m|": number, text: text, "note": text}
        trial = add_trial(sweep, name, params, metrics, [end])
        record = json.loads(Path(trial.result).read_text())
        write(trial.result, dump_record({**record, "problems": [f"line 1: {text}"]}))
        name = f"{number + 100:05d}-bbbb"
        fail = {"cause": text, "node": text, "exit_code": 1, "kind": "other", "fingerprint": text}
        trial = add_trial(sweep, name, params, attempts=[ended(name, 1, FAILED, **fail)])
        write(trial.log, text.encode("utf-8", "surrogatepass") + b"\n")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("odd")
    make_odd(folder)
    assert run(["collect", "demo", "--results", str(folder)]) == 1
    return str(folder)


@pytest.mark.parametrize(
    "words",
    [
        ["collect", "--top", "100"],
        ["status", "--all"],
        ["explain", "--trial", "0"],
        ["explain", "--trial", "7"],
        ["explain", "--trial", "100"],
        ["explain", "--trial", "107"],
        ["failures"],
        ["costs"],
    ],
    ids=" ".join,
)
def test_command_shows_no_control_character_of_a_stranger(
    results: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([words[0], "demo", "--results", results, *words[1:]]) in (0, 1)
    shown = capsys.readouterr()
    assert FORBIDDEN.findall(shown.out + shown.err) == []
    assert len(shown.out) > 100


def test_csv_holds_no_formula_and_keeps_every_text(results: str) -> None:
    text = Path(results, "demo/leaderboard.csv").read_bytes().decode("utf-8")
    rows = list(csv.reader(io.StringIO(text, newline="")))
    for row in rows:
        for cell in row:
            is_number = re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?|-?inf|nan", cell)
            assert not cell.startswith(tuple("=+-@\t\r＝＋－＠")) or is_number, cell
    words = {row[rows[0].index("word")].removeprefix("'") for row in rows[1:]}
    assert {ACTIVE.sub(lambda it: ascii(it[0])[1:-1], text) for text in TEXTS} == words
    assert ACTIVE.findall(text) == []


def test_markdown_rows_have_the_cells_of_their_header(results: str) -> None:
    text = Path(results, "demo/leaderboard.md").read_text(encoding="utf-8")
    assert FORBIDDEN.findall(text.replace("\n", "")) == []
    rows = [line for line in text.splitlines() if line.startswith("|")]
    counts = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
    assert len(rows) > len(TEXTS)
    assert len(counts) == 1
    assert "<script" not in text.replace("\\<script", "")
    assert "](" not in text.replace("\\](", "").replace("]\\(", "")
