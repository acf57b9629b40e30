from __future__ import annotations

from orchestrator.domain.frozen_code import (
    FrozenCode,
    changed_files,
    hash_tree,
    name_some,
    read_frozen,
)

FILES = {"a.py": ["file", False, "11", 5, 6], "b": ["link", False, "a.py"]}


def test_hash_tree_depends_on_content_alone() -> None:
    touched = {"b": FILES["b"], "a.py": ["file", False, "11", 5, 7]}
    assert hash_tree(touched) == hash_tree(FILES)
    for other in (
        {**FILES, "a.py": ["file", True, "11", 5, 6]},
        {**FILES, "a.py": ["file", False, "12", 5, 6]},
        {**FILES, "b": ["file", False, "a.py"]},
        {**FILES, "caf\udce9": ["file", False, "11"]},
        {"a.py": FILES["a.py"]},
    ):
        assert hash_tree(other) != hash_tree(FILES)


def test_changed_files_are_added_removed_and_edited() -> None:
    after = {"a.py": ["file", False, "12", 5, 6], "c": ["dir", False, ""]}
    assert changed_files(FILES, after) == ["a.py", "b", "c"]
    assert changed_files(FILES, {**FILES, "a.py": ["file", False, "11", 9, 9]}) == []


def test_name_some_counts_all() -> None:
    assert name_some(["a"]) == "1 file (a)"
    assert name_some(["a", "b", "c", "d"]) == "4 files (a, b, c, ...)"


def test_frozen_code_survives_the_journal() -> None:
    code = FrozenCode("0123456789ab", "/p", "exp/one", (".", "src"))
    assert read_frozen(code.as_entry()) == code
    assert code.workdir == "0123456789ab/exp/one"
    assert read_frozen({"commit": "x", "dirty": False}) is None
    assert read_frozen({"snapshot": "../../etc", "root": "/p"}) is None
