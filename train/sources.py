"""Where raw rows come from: self-made data, files, and directories of data sets; all local.

| source | read as |
|---|---|
| ``dialogues``, ``texts``, ``pairs`` | the self-made data of that name |
| ``FILE.jsonl``, or with any other ending | an object per line |
| ``FILE.json`` | a list of objects, ``{"data": [...]}``, or an object per line |
| ``FILE.csv``, ``FILE.tsv`` | a header, then rows; TSV without quoting, as GLUE's files are |
| ``FILE.txt`` | one document |
| ``FILE.parquet``, ``FILE.arrow`` | rows of the table |
| a directory of ``datasets.save_to_disk`` | the data set; of several, by split |
| any other directory | its files of these endings, by split, as a data set's repository has them |
| several files, joined by commas | one after the other |

Raw rows come with the place where they stand. Runs on the compute node. Not covered: archives,
compressed files, scripts that build data sets, and data sets larger than memory.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from arguments import ArgumentMistake, Arguments

TRAIN = ("train",)
# What is evaluated on, best first: a test split is often without labels.
HELD_BACK = ("validation", "test")
# How files and splits are called, beside train.
_SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "eval": "validation",
    "test": "test",
    "testing": "test",
}
Record = tuple[Any, str]  # a raw row, and file and line


@dataclasses.dataclass(frozen=True)
class Part:
    """The raw rows of one split of a source."""

    records: Iterable[Record]
    """Raw rows and where they stand, read once, as they are asked for."""
    class_names: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    """Names of the classes by column, where the data set brings them."""


def list_paths(source: str) -> list[str]:
    """List the files or directories of a source; none for self-made data."""
    if source in OWN or not source:
        return []
    if os.path.exists(source) or "," not in source:
        return [source]
    return [path.strip() for path in source.split(",") if path.strip()]


def refuse_missing(name: str, source: str) -> None:
    """Refuse a source that is not there.

    Raises:
        ArgumentMistake: Says what was tried.
    """
    for path in list_paths(source):
        if not os.path.exists(path):
            raise ArgumentMistake(
                f"--{name}={source}: no such file or directory; tried {os.path.abspath(path)}; use "
                f"{', '.join(OWN)}, a file ({', '.join(sorted(_READERS))}), or a directory of "
                "datasets.save_to_disk or of such files"
            )


def find_held_back(arguments: Arguments) -> Part | None:
    """Open what is evaluated on; None: a share of the training rows has to be held back.

    Raises:
        ArgumentMistake: The split of ``--eval_split`` is not there, or nothing can be read.
    """
    wanted = (arguments.eval_split,) if arguments.eval_split else HELD_BACK
    if arguments.eval_data:
        # A data set of one split is all for evaluation, whatever it is called.
        return open_source(arguments.eval_data, (*wanted, *(() if arguments.eval_split else TRAIN)))
    paths = list_paths(arguments.data)
    names = _list_splits(paths[0]) if len(paths) == 1 and os.path.isdir(paths[0]) else ()
    if arguments.eval_split and not names:
        raise ArgumentMistake(
            f"--eval_split={arguments.eval_split}: --data={arguments.data} has no splits; give "
            "--eval_data, or leave it out and hold back a share (--eval_fraction)"
        )
    if arguments.eval_split or any(name in names for name in wanted):
        return open_source(arguments.data, wanted)
    return None


def open_source(source: str, splits: Sequence[str]) -> Part:
    """Open the first of ``splits`` that a source has; one without splits is taken whole.

    Raises:
        ArgumentMistake: It has other splits only, or cannot be read.
    """
    if source in OWN:
        return Part(OWN[source]())
    paths = list_paths(source)
    if len(paths) == 1 and os.path.isdir(paths[0]):
        return _open_directory(paths[0], splits)
    return _join([_open_file(path) for path in paths])


def _own_dialogues() -> Iterator[Record]:
    import dialogues  # lazy, as the others: only the data that is asked for is made

    for number, messages in enumerate(dialogues.make_dialogues(), 1):
        yield {"messages": messages}, f"dialogues: row {number}"


def _own_texts() -> Iterator[Record]:
    import dialogues

    for number, text in enumerate(dialogues.make_texts(), 1):
        yield {"text": text}, f"texts: row {number}"


def _own_pairs() -> Iterator[Record]:
    import pairs

    for number, pair in enumerate(pairs.make_pairs(), 1):
        yield pair, f"pairs: row {number}"


OWN: dict[str, Callable[[], Iterator[Record]]] = {
    "dialogues": _own_dialogues,
    "texts": _own_texts,
    "pairs": _own_pairs,
}


def _join(parts: Sequence[Part]) -> Part:
    names = parts[0].class_names
    if any(part.class_names != names for part in parts):
        names = {}
    return Part((record for part in parts for record in part.records), names)


def _list_splits(directory: str) -> tuple[str, ...]:
    """List the splits of a directory; empty where it has no names for them."""
    root = Path(directory)
    if (root / "dataset_dict.json").is_file():
        return tuple(json.loads((root / "dataset_dict.json").read_text())["splits"])
    if (root / "state.json").is_file():
        return ()
    return tuple(sorted({split for file in _list_files(root) if (split := _split_of(file, root))}))


def _list_files(root: Path) -> list[Path]:
    files = (path for path in root.rglob("*") if path.suffix.lower() in _READERS)
    # What a repository has beside its data.
    others = {"dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json"}
    return sorted(
        file
        for file in files
        if file.is_file()
        and file.name not in others
        and not any(part.startswith(".") for part in file.relative_to(root).parts)
    )


def _split_of(file: Path, root: Path) -> str:
    """Find a split's name in a file's, as in ``data/train-00000-of-00001.parquet``; or empty."""
    for part in reversed(file.relative_to(root).with_suffix("").parts):
        words = re.split(r"[^a-z]+", part.lower())
        found = {_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS}
        if len(found) == 1:
            return found.pop()
    return ""


def _open_directory(directory: str, splits: Sequence[str]) -> Part:
    root = Path(directory)
    if (root / "dataset_dict.json").is_file() or (root / "state.json").is_file():
        return _open_saved(directory, splits)
    files = _list_files(root)
    if not files:
        raise ArgumentMistake(
            f"{directory}: not a directory of datasets.save_to_disk, and no file that ends in "
            f"{', '.join(sorted(_READERS))}"
        )
    names = {file: _split_of(file, root) for file in files}
    if any(names.values()):
        split = _choose_split(directory, sorted(set(names.values()) - {""}), splits)
        files = [file for file in files if names[file] == split]
        folders = sorted({str(file.parent.relative_to(root)) for file in files})
        if len(folders) > 1:
            raise ArgumentMistake(
                f"{directory}: has a split {split} in several folders ({', '.join(folders[:3])}); "
                "give the one that you mean"
            )
    return _join([_open_file(str(file)) for file in files])


def _choose_split(directory: str, there: Sequence[str], wanted: Sequence[str]) -> str:
    for name in wanted:
        if name in there:
            return name
    raise ArgumentMistake(
        f"{directory}: has the splits {', '.join(there)}, no {' or '.join(wanted)}"
    )


def _open_saved(directory: str, splits: Sequence[str]) -> Part:
    # Lazy: the library brings pyarrow and pandas, which most trials do without.
    from datasets import ClassLabel, DatasetDict, load_from_disk

    try:
        loaded = load_from_disk(directory)
    except (OSError, ValueError, KeyError) as error:
        raise ArgumentMistake(
            f"{directory}: not a directory of datasets.save_to_disk: {error}"
        ) from None
    place = directory
    if isinstance(loaded, DatasetDict):
        split = _choose_split(directory, list(loaded), splits)
        loaded, place = loaded[split], f"{directory}/{split}"
    names = {
        column: tuple(feature.names)
        for column, feature in loaded.features.items()
        if isinstance(feature, ClassLabel)
    }
    records = ((row, f"{place}: row {number}") for number, row in enumerate(loaded, 1))
    return Part(records, names)


def _open_file(path: str) -> Part:
    return _READERS.get(Path(path).suffix.lower(), _open_lines)(path)


def _open_lines(path: str) -> Part:
    return Part(_read_lines(path))


def _read_lines(path: str) -> Iterator[Record]:
    with _open_binary(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _parse_json(line, f"{path}:{number}"), f"{path}:{number}"


def _parse_json(text: bytes, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError
        raise ArgumentMistake(f"{where}: not JSON: {error}") from None


def _open_binary(path: str) -> Any:
    try:
        return open(path, "rb")
    except OSError as error:
        raise ArgumentMistake(f"{path}: cannot be read: {error.strerror}") from None


def _open_json(path: str) -> Part:
    with _open_binary(path) as file:
        text = file.read()
    try:
        whole = json.loads(text)
    except ValueError:
        return _open_lines(path)  # an object per line; or broken, which it says with the line
    if isinstance(whole, Mapping) and isinstance(whole.get("data"), list):
        whole = whole["data"]
    if not isinstance(whole, list):
        whole = [whole]
    return Part((row, f"{path}: row {number}") for number, row in enumerate(whole, 1))


def _open_csv(path: str) -> Part:
    return Part(_read_table(path, delimiter=",", quoting=csv.QUOTE_MINIMAL))


def _open_tsv(path: str) -> Part:
    return Part(_read_table(path, delimiter="\t", quoting=csv.QUOTE_NONE))


def _read_table(path: str, *, delimiter: str, quoting: int) -> Iterator[Record]:
    csv.field_size_limit(sys.maxsize // 2**8)  # a document may be longer than 128 KiB
    _open_binary(path).close()
    with open(path, encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, delimiter=delimiter, quoting=quoting, strict=True)  # type: ignore
        number = 1
        try:
            header = next(lines, [])
            for fields in lines:
                number, where = lines.line_num, f"{path}:{lines.line_num}"
                if not any(fields):
                    continue
                if len(fields) != len(header):
                    raise ArgumentMistake(
                        f"{where}: found {len(fields)} fields, the header has {len(header)}: "
                        f"{', '.join(header)}"
                    )
                yield dict(zip(header, fields, strict=True)), where
        except (csv.Error, UnicodeDecodeError) as error:
            raise ArgumentMistake(f"{path}:{number}: cannot be read: {error}") from None


def _open_text(path: str) -> Part:
    with _open_binary(path) as file:
        content = file.read()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ArgumentMistake(f"{path}:{line}: not UTF-8: {error.reason}") from None
    return Part([({"text": text}, path)])


def _open_parquet(path: str) -> Part:
    import pyarrow as pa  # lazy: see _open_saved
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise ArgumentMistake(f"{path}: not a Parquet file: {_first_line(error)}") from None
    return Part(_read_batches(file.iter_batches(), path), _find_class_names(file.schema_arrow))


def _open_arrow(path: str) -> Part:
    import pyarrow as pa

    file = _open_binary(path)
    try:
        reader = pa.ipc.open_stream(file)
    except pa.ArrowException as error:
        file.close()
        raise ArgumentMistake(f"{path}: not an Arrow stream: {_first_line(error)}") from None
    return Part(_read_batches(reader, path), _find_class_names(reader.schema))


def _read_batches(batches: Iterable[Any], path: str) -> Iterator[Record]:
    import pyarrow as pa

    number = 0
    try:
        for batch in batches:
            for row in batch.to_pylist():
                number += 1
                yield row, f"{path}: row {number}"
    except (OSError, pa.ArrowException) as error:
        raise ArgumentMistake(f"{path}: damaged after row {number}: {_first_line(error)}") from None


def _find_class_names(schema: Any) -> dict[str, tuple[str, ...]]:
    """Read the names of classes that ``datasets`` wrote beside a table."""
    metadata = (schema.metadata or {}).get(b"huggingface")
    features = json.loads(metadata)["info"]["features"] if metadata else {}
    return {
        column: tuple(feature["names"])
        for column, feature in features.items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and "names" in feature
    }


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


_READERS: dict[str, Callable[[str], Part]] = {
    ".jsonl": _open_lines,
    ".json": _open_json,
    ".csv": _open_csv,
    ".tsv": _open_tsv,
    ".txt": _open_text,
    ".parquet": _open_parquet,
    ".arrow": _open_arrow,
}
