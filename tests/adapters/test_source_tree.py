from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from orchestrator.adapters import source_tree
from orchestrator.adapters.source_tree import Entry, TreeTooLarge, find_root, list_tree


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    allowed = ["-c", "protocol.file.allow=always"]
    subprocess.run(
        ["git", *identity, *allowed, *words],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=60,
    )


def write(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def repository(root: Path) -> Path:
    git(root, "init", "-q")
    write(root, "train.py", "lib/steps.py", "results/README.md")
    (root / ".gitignore").write_text("data/\n*.log\n")
    git(root, "add", ".")
    git(root, "commit", "-qm", "x")
    return root


def test_find_root_of_a_folder_in_a_repository_is_its_top(repository: Path) -> None:
    assert find_root(str(repository / "lib")) == (str(repository), True)
    (repository.parent / "link").symlink_to(repository)
    assert find_root(str(repository.parent / "link/lib")) == (str(repository), True)


def test_find_root_of_an_ignored_folder_is_itself(repository: Path) -> None:
    write(repository, "data/mine/train.py")
    assert find_root(str(repository / "data/mine")) == (str(repository / "data/mine"), False)


def test_find_root_without_git_is_the_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_root(str(root)) == (str(root), False)
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_root(str(root)) == (str(root), False)


def test_list_tree_of_a_repository_takes_tracked_and_new_and_links_to_ignored(
    repository: Path,
) -> None:
    write(repository, "new.py", "data/set.bin", "lib/x.log", "results/sweep/trials/0/log")
    write(repository, "lib/__pycache__/steps.pyc", ".venv/bin/python", "results/mine/note.txt")
    (repository / "train.py").unlink()
    found = list_tree(str(repository), True, [str(repository / "results")])
    assert sorted(found.entries) == [".gitignore", "lib/steps.py", "new.py"]
    assert found.outside == {
        "data": str(repository / "data"),
        "lib/x.log": str(repository / "lib/x.log"),
        ".venv": str(repository / ".venv"),
    }


def test_list_tree_goes_into_repositories_within(repository: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    write(other, "part.py")
    git(other, "add", ".")
    git(other, "commit", "-qm", "x")
    git(repository, "submodule", "add", "-q", str(other), "sub")
    git(repository, "clone", "-q", str(other), "clone")
    write(repository, "sub/new.py", "clone/new.py")
    found = list_tree(str(repository), True)
    names = {"sub/part.py", "sub/new.py", "clone/part.py", "clone/new.py"}
    assert names <= set(found.entries)
    assert not [path for path in found.entries if "/.git/" in path]


def test_list_tree_without_git_links_to_environments_and_skips_caches(root: Path) -> None:
    write(root, "train.py", "__pycache__/train.pyc", "env3/pyvenv.cfg", "env3/lib/a.py")
    write(root, "venv/lib/b.py", "results/sweep/trials/0/log", ".mypy_cache/x")
    (root / "out").mkdir()
    found = list_tree(str(root), False, [str(root / "results")], [str(root / "sweep.yaml")])
    assert {path: entry.kind for path, entry in found.entries.items()} == {
        "out": "dir",
        "train.py": "file",
    }
    assert sorted(found.outside) == ["env3", "venv"]


@pytest.mark.parametrize("by_git", [True, False])
def test_list_tree_knows_odd_names_modes_and_links(root: Path, by_git: bool) -> None:
    if by_git:
        git(root, "init", "-q")
    odd = os.fsdecode(b"caf\xe9\n.py")
    write(root, odd, "bin/run", "we[ird dir/x*.py", "sweep.yaml")
    (root / "bin/run").chmod(0o755)
    (root / "inside").symlink_to("bin/run")
    (root / "bin/absolute").symlink_to(root / "we[ird dir")
    (root / "outside").symlink_to("../elsewhere")
    (root / "dangling").symlink_to("gone")
    os.mkfifo(root / "pipe")
    results = [str(root / "we[ird dir/results")]
    write(root, "we[ird dir/results/sweep/log")
    found = list_tree(str(root), by_git, results, [str(root / "sweep.yaml")])
    assert {path: entry._replace(stamp=()) for path, entry in found.entries.items()} == {
        odd: Entry("file", False, ()),
        "bin/run": Entry("file", True, ()),
        "we[ird dir/x*.py": Entry("file", False, ()),
        "inside": Entry("link", False, (), "bin/run"),
        "bin/absolute": Entry("link", False, (), "../we[ird dir"),
        "outside": Entry("link", False, (), str(root.parent / "elsewhere")),
        "dangling": Entry("link", False, (), "gone"),
    }
    assert found.outside == {"sweep.yaml": str(root / "sweep.yaml")}


def test_list_tree_links_to_large_files_and_refuses_large_trees(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, "a.py", "b.py", "weights.bin")
    monkeypatch.setattr(source_tree, "MAX_FILE_BYTES", 8)
    found = list_tree(str(root), False)
    assert (sorted(found.entries), found.large) == (["a.py", "b.py"], ["weights.bin"])
    monkeypatch.setattr(source_tree, "MAX_FILES", 1)
    with pytest.raises(TreeTooLarge, match="has more than 1 files"):
        list_tree(str(root), False)
    monkeypatch.setattr(source_tree, "MAX_FILES", 9)
    monkeypatch.setattr(source_tree, "MAX_TREE_BYTES", 7)
    with pytest.raises(TreeTooLarge, match="MB of files"):
        list_tree(str(root), False)
