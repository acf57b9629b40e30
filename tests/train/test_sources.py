"""Raw rows of files and directories: every form, by split, and what is refused."""

import json

import pytest
import sources
from arguments import ArgumentMistake, Arguments
from rows import split_rows

ROWS = [
    {"sentence1": f'a "{n}', "sentence2": f"b\u00e4 {n}", "label": n % 2, "idx": n}
    for n in range(4)
]


def read(source, splits=sources.TRAIN):
    return [record for record, _ in sources.open_source(str(source), splits).records]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def as_texts(rows):
    return [{key: str(value) for key, value in row.items()} for row in rows]


def test_json_in_its_three_forms(tmp_path):
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    assert read(write(tmp_path / "a.jsonl", lines)) == ROWS
    assert read(write(tmp_path / "lines.json", lines)) == ROWS
    assert read(write(tmp_path / "list.json", json.dumps(ROWS))) == ROWS
    assert read(write(tmp_path / "hub.json", json.dumps({"data": ROWS, "v": 1}))) == ROWS
    assert read(write(tmp_path / "one.json", json.dumps(ROWS[0], indent=1))) == ROWS[:1]
    assert read(write(tmp_path / "other.txt2", lines)) == ROWS  # any other ending


def test_tables_keep_quotes_as_their_form_has_them(tmp_path):
    header = "sentence1,sentence2,label,idx\n"
    rows = "".join(f'"a ""{n}",b\u00e4 {n},{n % 2},{n}\n' for n in range(4))
    assert read(write(tmp_path / "a.csv", header + rows)) == as_texts(ROWS)
    tabs = "\n".join(f'a "{n}\tb\u00e4 {n}\t{n % 2}\t{n}' for n in range(4))
    table = write(tmp_path / "a.tsv", "\ufeff" + header.replace(",", "\t") + tabs)
    assert read(table) == as_texts(ROWS)


def test_parquet_and_saved_data_sets_bring_class_names(tmp_path):
    from datasets import ClassLabel, Dataset, DatasetDict

    data = Dataset.from_list(ROWS).cast_column("label", ClassLabel(names=["no", "yes"]))
    data.to_parquet(str(tmp_path / "hub" / "data" / "train-00000-of-00001.parquet"))
    data.select([3]).to_parquet(str(tmp_path / "hub" / "data" / "validation-00000-of-1.parquet"))
    DatasetDict(train=data, test=data.select([0])).save_to_disk(str(tmp_path / "saved"))
    data.save_to_disk(str(tmp_path / "single"))
    arrow = next((tmp_path / "single").glob("*.arrow"))
    for source in ("hub", "saved", "single", arrow):
        part = sources.open_source(str(tmp_path / source), sources.TRAIN)
        assert [record for record, _ in part.records] == ROWS
        assert part.class_names == {"label": ("no", "yes")}
    assert read(tmp_path / "hub", sources.HELD_BACK) == ROWS[3:]
    assert read(tmp_path / "saved", sources.HELD_BACK) == ROWS[:1]
    assert read(tmp_path / "single", sources.HELD_BACK) == ROWS  # has no splits
    with pytest.raises(ArgumentMistake, match="has the splits train, test, no validation"):
        read(tmp_path / "saved", ("validation",))


def test_text_files_are_documents_joined_by_commas(tmp_path):
    one = write(tmp_path / "one.txt", "first\nsecond\n")
    two = write(tmp_path / "two.txt", "third")
    assert read(f"{one},{two}") == [{"text": "first\nsecond\n"}, {"text": "third"}]
    assert read(tmp_path) == [{"text": "first\nsecond\n"}, {"text": "third"}]
    odd = write(tmp_path / "a,b.jsonl", '{"text": "c"}\n')
    assert read(odd) == [{"text": "c"}]  # a comma in a name that is there


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"x,y\n1,2\n1,2,3\n", "a.csv:3: found 3 fields, the header has 2: x, y"),
        ("a.tsv", b"x\ty\n1\t\xff\n", "a.tsv:1: cannot be read: 'utf-8' codec"),
        ("a.txt", b"fine\n\xff\n", "a.txt:2: not UTF-8"),
        ("a.jsonl", b'{"x": 1}\n{"x": \n', "a.jsonl:2: not JSON"),
        ("a.json", b"{\n", "a.json:1: not JSON"),
        ("a.parquet", b"PAR1 or not", "a.parquet: not a Parquet file"),
        ("a.arrow", b"nothing like it", "a.arrow: not an Arrow stream"),
        ("state.json", b"{}", "not a directory of datasets.save_to_disk"),
        ("other.bin", b"", "no file that ends in .arrow, .csv"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(tmp_path, name, content, message):
    file = tmp_path / name
    file.write_bytes(content)
    source = tmp_path if name in ("state.json", "other.bin") else file
    with pytest.raises(ArgumentMistake) as caught:
        read(source)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_several_data_sets_in_one_directory_are_not_mixed(tmp_path):
    for name in ("cola", "mrpc"):
        write(tmp_path / name / "train-00000-of-00001.jsonl", json.dumps(ROWS[0]) + "\n")
    with pytest.raises(ArgumentMistake, match=r"has a split train in several folders \(cola, mrpc"):
        read(tmp_path)
    assert read(tmp_path / "mrpc") == ROWS[:1]


def test_missing_source_says_what_was_tried(tmp_path):
    with pytest.raises(ArgumentMistake) as caught:
        sources.refuse_missing("eval_data", f"{tmp_path}/a.jsonl")
    assert f"--eval_data={tmp_path}/a.jsonl: no such file" in str(caught.value)
    assert f"tried {tmp_path}/a.jsonl" in str(caught.value)
    sources.refuse_missing("data", "dialogues")


@pytest.mark.parametrize(
    ("file", "split"),
    [
        ("train.jsonl", "train"),
        ("data/validation-00000-of-00001.parquet", "validation"),
        ("test/0001.parquet", "test"),
        ("msr_paraphrase_train.txt", "train"),
        ("dev.tsv", "validation"),
        ("constraints.csv", ""),
        ("train_test.csv", ""),  # both or neither: nobody knows
    ],
)
def test_splits_are_told_by_file_names(tmp_path, file, split):
    assert sources._split_of(tmp_path / file, tmp_path) == split


def test_validation_split_is_evaluated_on_unless_told_otherwise(tmp_path):
    def lines(side, n):
        rows = ({"prompt": f"{side} {i}", "response": "a"} for i in range(n))
        return "".join(json.dumps(row) + "\n" for row in rows)

    for side, n in (("train", 40), ("validation", 3), ("test", 2)):
        write(tmp_path / "hub" / f"{side}.jsonl", lines(side, n))
    hub = str(tmp_path / "hub")

    def sizes(**arguments):
        split = split_rows(Arguments(**arguments))
        return len(split.train), len(split.eval), split.eval[0][0][0]["content"].split()[0]

    assert sizes(data=hub) == (40, 3, "validation")
    assert sizes(data=hub, eval_split="test") == (40, 2, "test")
    assert sizes(data=hub, eval_data=f"{hub}/test.jsonl") == (40, 2, "test")
    assert sizes(data=hub, eval_data=hub, eval_split="test") == (40, 2, "test")
    n_train, n_eval, side = sizes(data=f"{hub}/train.jsonl")
    assert n_train + n_eval == 40
    assert side == "train"
    with pytest.raises(ArgumentMistake, match=r"has the splits test, train, validation, no dev"):
        split_rows(Arguments(data=hub, eval_split="dev"))
    with pytest.raises(ArgumentMistake, match="has no splits"):
        split_rows(Arguments(data=f"{hub}/train.jsonl", eval_split="test"))


def test_fewer_training_rows_are_a_part_of_more(tmp_path):
    everything, some, few = (split_rows(Arguments(max_train_examples=n)) for n in (0, 300, 100))
    assert [len(split.train) for split in (some, few)] == [300, 100]
    assert [row for row in some.train if row in few.train] == few.train
    assert [row for row in everything.train if row in some.train] == some.train
    assert everything.eval == some.eval == few.eval
