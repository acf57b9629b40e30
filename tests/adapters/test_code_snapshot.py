from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.adapters import code_snapshot
from orchestrator.adapters.code_snapshot import (
    Snapshot,
    find_changes,
    list_snapshots,
    remove_snapshot,
    take_snapshot,
)
from orchestrator.adapters.source_tree import Listing, list_tree

Take = Callable[[], Snapshot]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "lib").mkdir(parents=True)
    (folder / "train.py").write_text("import lib\n")
    (folder / "lib/run.sh").write_text("#!/bin/bash\n")
    (folder / "lib/run.sh").chmod(0o755)
    (folder / "link").symlink_to("lib/run.sh")
    (folder / "venv").mkdir()
    return folder


@pytest.fixture
def code(tmp_path: Path) -> Path:
    return tmp_path / "sweep/code"


@pytest.fixture
def take(root: Path, code: Path) -> Take:
    cache = str(code.parent / ".cache/code.json")
    return lambda: take_snapshot(str(code), cache, lambda: list_tree(str(root), False))


def test_snapshot_is_the_tree_read_only_and_named_by_content(
    take: Take, code: Path, root: Path
) -> None:
    snapshot = take()
    folder = code / snapshot.name
    assert snapshot.is_new
    assert (folder / "train.py").read_text() == "import lib\n"
    assert (folder / "train.py").stat().st_mode & 0o777 == 0o400
    assert (folder / "lib/run.sh").stat().st_mode & 0o777 == 0o500
    assert os.readlink(folder / "link") == "lib/run.sh"
    assert os.readlink(folder / "venv") == str(root / "venv")
    (folder / "output.csv").write_text("what a program leaves where it starts")
    os.utime(root / "train.py")
    again = take()
    assert (again.name, again.is_new) == (snapshot.name, False)
    assert find_changes(str(code), snapshot.name) == []
    assert list_snapshots(str(code)) == [snapshot.name]


@pytest.mark.parametrize(
    "edit",
    [
        lambda root: (root / "train.py").write_text("import LIB\n"),
        lambda root: (root / "train.py").rename(root / "main.py"),
        lambda root: (root / "lib/run.sh").chmod(0o644),
        lambda root: (root / "new.py").touch(),
        lambda root: (root / "train.py").unlink(),
        lambda root: ((root / "link").unlink(), (root / "link").symlink_to("train.py")),
    ],
)
def test_snapshot_of_edited_tree_is_another_and_back_again_the_first(
    take: Take, root: Path, tmp_path: Path, edit: Callable[[Path], object]
) -> None:
    shutil.copytree(root, tmp_path / "before", symlinks=True)
    first = take()
    edit(root)
    second = take()
    assert second.name != first.name
    shutil.rmtree(root)
    shutil.copytree(tmp_path / "before", root, symlinks=True)
    third = take()
    assert (third.name, third.is_new) == (first.name, False)


def test_snapshot_links_to_what_came_later_and_leaves_what_a_trial_wrote(
    take: Take, root: Path, code: Path
) -> None:
    folder = code / take().name
    (folder / "wandb").write_text("a trial's")
    (root / "wandb").mkdir()
    (root / "node_modules").mkdir()
    take()
    assert os.readlink(folder / "node_modules") == str(root / "node_modules")
    assert (folder / "wandb").read_text() == "a trial's"


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: ((folder / "train.py").chmod(0o600), (folder / "train.py").write_text("")),
        lambda folder: (folder / "train.py").unlink(),
        lambda folder: shutil.rmtree(folder / "lib"),
        lambda folder: (folder / "link").unlink(),
    ],
)
def test_damaged_snapshot_is_seen_and_mended(
    take: Take, code: Path, harm: Callable[[Path], object]
) -> None:
    name = take().name
    harm(code / name)
    assert find_changes(str(code), name)
    assert take().name == name
    assert find_changes(str(code), name) == []


def test_snapshot_of_a_changing_tree_is_whole_and_of_one_moment(root: Path, code: Path) -> None:
    looks: list[Listing] = []

    def look() -> Listing:
        if len(looks) in (1, 2):  # edited between listing and copying, twice
            (root / "train.py").write_text(f"edit {len(looks)}\n")
        looks.append(list_tree(str(root), False))
        return looks[-1]

    snapshot = take_snapshot(str(code), str(code.parent / "cache"), look)
    assert (code / snapshot.name / "train.py").read_text() == "edit 2\n"
    assert (snapshot.unsettled, find_changes(str(code), snapshot.name)) == ([], [])
    assert not list(code.glob(".snapshot*"))


def test_snapshot_of_a_tree_that_never_rests_is_taken_and_says_so(root: Path, code: Path) -> None:
    def look() -> Listing:
        with open(root / "nohup.out", "a") as file:
            file.write("another line\n")
        return list_tree(str(root), False)

    snapshot = take_snapshot(str(code), str(code.parent / "cache"), look)
    assert snapshot.unsettled == ["nohup.out"]
    assert find_changes(str(code), snapshot.name) == []


def test_killed_submission_leaves_nothing_that_counts(take: Take, code: Path) -> None:
    (code / ".snapshot.0123456789abcdef.tmp/lib").mkdir(parents=True)
    name = take().name
    (code / f"{name}.json").unlink()  # as if it had been renamed without its list
    assert take().is_new
    assert list_snapshots(str(code)) == [name]
    assert not list(code.glob(".snapshot*"))


def test_unwritable_place_is_an_error_that_names_it(
    take: Take, monkeypatch: pytest.MonkeyPatch, code: Path
) -> None:
    def full(fd: int, data: bytes, name: str = "") -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(code_snapshot.durable, "write_all", full)
    with pytest.raises(OSError, match="No space left") as caught:
        take()
    assert str(caught.value.filename).startswith(str(code))


def test_removed_snapshot_is_gone_with_its_list(take: Take, code: Path) -> None:
    name = take().name
    remove_snapshot(str(code), name)
    assert os.listdir(code) == []
    with pytest.raises(FileNotFoundError):
        find_changes(str(code), name)
