"""Reading runs from JSON: a folder of them, a file of many, or one line each.

- A folder that has ``params.json``, ``metrics.json`` and the like (see ``_PARAM_FILES`` and
  ``_METRIC_FILES``) is one run, called by its path; ``metrics.jsonl`` gives the last value of each
  key and a curve.
- In any other folder every ``*.json`` is one run (or a list of runs), every ``*.jsonl`` one run's
  curve; folders within are looked at, ``MAX_DEPTH`` deep. Links are not followed.
- A file given itself holds one run, a list of runs, ``{"runs": [...]}``, or, as ``.jsonl``, a run a
  line. What ``api.runs`` of W&B gives (``name, state, config, summary``) is such a run.

Within a record ``domain.imported_run.RecordRules`` tells parameters from metrics. A file that
cannot be used is named once, and the others count. Runs on the login node.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.adapters.regular_file import UnusableFile, read_file
from orchestrator.contract.errors import UserError
from orchestrator.contract.records import fold_metrics, parse_metrics_line
from orchestrator.domain.imported_run import (
    METRICS,
    PARAMS,
    Imported,
    ImportedRun,
    RecordRules,
    name_of,
)
from orchestrator.domain.plain_text import one_line

MAX_FILE_BYTES = 64 * 2**20
MAX_RUN_BYTES = 16 * 2**20
MAX_DEPTH = 5
MAX_FILES = 500_000
MAX_CURVE = 100_000
_PARAM_FILES = ("params.json", "config.json", "hyperparameters.json", "hparams.json", "args.json")
_METRIC_FILES = (
    *("metrics.json", "results.json", "result.json", "summary.json", "eval_results.json"),
    *("all_results.json", "scores.json", "wandb-summary.json"),
)
_CURVE_FILES = ("metrics.jsonl", "log.jsonl", "history.jsonl")
_STATE_FILES = ("state.json", "status.json")


def read_folder(path: str, rules: RecordRules) -> Imported:
    """Read a folder of runs.

    Raises:
        UserError: There is no JSON there.
    """
    runs: list[ImportedRun] = []
    problems: list[str] = []
    n_files = 0
    for folder, files in _walk(path, problems):
        n_files += len(files)
        if n_files > MAX_FILES:
            raise UserError(f"more than {MAX_FILES:,} files; name a folder further down")
        place = os.path.relpath(folder, path)
        if _is_run(files):
            record, curve = _read_run(folder, files, place, problems)
            if record is not None:
                runs.append(_with_curve(rules.read(_id_of(path, place), record), curve))
            continue
        for name in files:
            label = name if place == "." else f"{place}/{name}"
            runs += _read_file(f"{folder}/{name}", label, rules, problems)
    if not n_files:
        raise UserError("no .json or .jsonl file there")
    return _imported("JSON files", runs, problems, rules)


def read_json_file(path: str, data: bytes, rules: RecordRules) -> Imported:
    """Read one file: a run, many, or with ``.jsonl`` a run a line.

    Raises:
        UserError: It is no JSON, or holds no runs.
    """
    problems: list[str] = []
    stem = os.path.basename(path).rpartition(".")[0]
    try:
        value = _parse(data)
    except ValueError as error:
        if not path.endswith((".jsonl", ".ndjson")) and b"\n" not in data.strip():
            raise UserError(f"no JSON: {error}") from None
        records = list(_lines(data, problems))
        if not records:
            raise UserError(f"no JSON: {problems[0] if problems else error}") from None
    else:
        records = _records(value)
    runs = _read_records(stem, records, rules, problems, "")
    if not runs and not problems:
        raise UserError("no run in it: it needs an object a run, or a list of them")
    return _imported("JSON file", runs, problems, rules)


def _imported(
    kind: str, runs: list[ImportedRun], problems: list[str], rules: RecordRules
) -> Imported:
    named = ", ".join(one_line(name, 40) for name in list(rules.unsplit)[:20])
    return Imported(kind, tuple(runs), problems=tuple(problems), needs_params=named)


def _walk(root: str, problems: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield folders with their JSON files, in the order of their names."""
    waiting = [(root, 0)]
    while waiting:
        folder, depth = waiting.pop()
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            problems.append(f"{os.path.relpath(folder, root)}: cannot be read: {error.strerror}")
            continue
        files = []
        below = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                below.append((entry.path, depth + 1))
            elif entry.name.endswith((".json", ".jsonl")):
                files.append(entry.name)
        if depth < MAX_DEPTH and not _is_run(files):
            waiting += reversed(below)
        if files:
            yield folder, files


def _is_run(files: list[str]) -> bool:
    return any(name in files for name in (*_PARAM_FILES, *_METRIC_FILES, *_CURVE_FILES))


def _id_of(path: str, place: str) -> str:
    return os.path.basename(os.path.abspath(path)) if place == "." else place


def _read_run(
    folder: str, files: list[str], place: str, problems: list[str]
) -> tuple[dict[str, Any] | None, bytes]:
    """Read the files of one run's folder into one record."""
    record: dict[str, Any] = {}
    curve = b""
    is_usable = False
    for name in files:
        label = name if place == "." else f"{place}/{name}"
        try:
            data, _ = read_file(f"{folder}/{name}", MAX_RUN_BYTES)
            if name in _CURVE_FILES:
                curve, is_usable = data, True
                continue
            if name not in (*_PARAM_FILES, *_METRIC_FILES, *_STATE_FILES):
                continue
            value = _parse(data)
            if not isinstance(value, dict):
                raise ValueError(f"a {type(value).__name__}, not an object")
        except (UnusableFile, ValueError, FileNotFoundError) as error:
            problems.append(f"{label}: {error}")
            continue
        is_usable = True
        whole = any(isinstance(value.get(key), dict) for key in (*PARAMS, *METRICS))
        if whole or name in _STATE_FILES:
            record.update(value)
        elif name in _PARAM_FILES:
            record.setdefault("params", {}).update(value)
        else:
            record.setdefault("metrics", {}).update(value)
    if curve:
        last, _, step, wrong = fold_metrics(curve.split(b"\n"))
        where = "curve" if place == "." else f"{place}/curve"
        problems.extend(f"{where}: {text}" for text in wrong[:1])
        known = next((record[key] for key in METRICS if isinstance(record.get(key), dict)), None)
        if known is None:
            record["metrics"] = last
        else:
            known.update({key: value for key, value in last.items() if key not in known})
        record.setdefault("_step", step)
    return (record if is_usable else None), curve


def _with_curve(run: ImportedRun, data: bytes) -> ImportedRun:
    if not data:
        return run
    from_file = _curve(data)
    return ImportedRun(**{**run.__dict__, "curve": from_file}) if from_file else run


def _curve(data: bytes) -> tuple[Mapping[str, Any], ...]:
    lines = []
    for line in data.split(b"\n")[:MAX_CURVE]:
        try:
            values = parse_metrics_line(line)
        except ValueError:
            continue
        if type(values.get("step")) is int:
            lines.append(values)
    return tuple(lines)


def _read_file(path: str, label: str, rules: RecordRules, problems: list[str]) -> list[ImportedRun]:
    """Read one file of a folder: one run, or a list of them; a ``.jsonl`` is one run's curve."""
    stem = label.rpartition(".")[0]
    try:
        data, _ = read_file(path, MAX_FILE_BYTES)
        if path.endswith(".jsonl"):
            metrics, n_reports, step, wrong = fold_metrics(data.split(b"\n"))
            problems.extend(f"{label}: {text}" for text in wrong[:1])
            if not n_reports:
                return []
            record = {**metrics, "_step": step}
            return [_with_curve(rules.read(stem, record), data)]
        records = _records(_parse(data))
    except (UnusableFile, ValueError, FileNotFoundError, UserError) as error:
        problems.append(f"{label}: {error}")
        return []
    return _read_records(stem, records, rules, problems, f"{label}: ")


def _read_records(
    stem: str, records: list[Any], rules: RecordRules, problems: list[str], label: str
) -> list[ImportedRun]:
    runs: list[ImportedRun] = []
    seen: set[str] = set()
    odd = [number for number, record in enumerate(records) if not isinstance(record, dict)]
    if odd:
        kind = type(records[odd[0]]).__name__
        problems.append(
            f"{label}{len(odd)} of {len(records)} entries are no objects; entry {odd[0] + 1} is a "
            f"{kind}"
        )
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            continue
        alone = len(records) == 1
        name = name_of(record) or (stem if alone else f"{stem} {number}")
        if label and not alone:
            name = f"{stem} {name}"
        elif label:
            name = stem  # a file's name is unique within its folder, a run's name need not be
        if name in seen:
            name = f"{name} #{number}"
        seen.add(name)
        runs.append(rules.read(name, record))
    return runs


def _records(value: Any) -> list[Any]:
    if isinstance(value, dict) and isinstance(value.get("runs"), list):
        value = value["runs"]
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, list):
        raise UserError(f"a {type(value).__name__}, not an object or a list of objects")
    return value


def _lines(data: bytes, problems: list[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line.strip():
            try:
                yield parse_metrics_line(line)
            except ValueError as error:
                problems.append(f"line {number}: {error}")


def _parse(data: bytes) -> Any:
    """Parse JSON; duplicate keys, too deep a nesting and bytes that are no text are refused."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"key {one_line(twice, 40)!r} stands twice")
        return found

    try:
        return json.loads(data, object_pairs_hook=unique)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
