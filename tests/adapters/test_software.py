from __future__ import annotations

import importlib.metadata
import platform
import sys
from pathlib import Path

import pytest

from orchestrator.adapters import software
from orchestrator.contract.records import read_record


def test_describe_software_lists_what_is_installed() -> None:
    found = software.describe_software()
    assert found["python"] == platform.python_version()
    assert found["packages"]["pyyaml"] == importlib.metadata.version("PyYAML")
    assert found["packages"]["sweep-orchestrator"]


def test_save_software_writes_equal_ones_once(tmp_path: Path) -> None:
    described = software.describe_software()
    name = software.save_software(str(tmp_path), described)
    assert software.save_software(str(tmp_path), described) == name
    assert read_record(software.software_path(str(tmp_path), name)) == described
    assert len(list(tmp_path.iterdir())) == 1


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "lib"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [str(folder)])
    return folder


def test_import_roots_are_those_of_editable_installs_in_the_tree(
    site: Path, tmp_path: Path
) -> None:
    root = tmp_path / "project"
    (root / "src/pkg").mkdir(parents=True)
    (root / "python").mkdir()
    (site / "a.pth").write_text(f"import nothing\n{root}/src\n/elsewhere\n")
    (site / "__editable___pkg_finder.py").write_text(
        f"MAPPING: dict[str, str] = {{'pkg': '{root}/src/pkg', 'x': '{root}/python/x'}}\n"
    )
    (site / "__editable___bad_finder.py").write_text("MAPPING = {oops}\n")
    assert software.find_import_roots(str(root), "", False) == ["src", "python"]


def test_import_roots_are_those_of_pythonpath_and_of_other_environments(
    site: Path, tmp_path: Path
) -> None:
    root = tmp_path / "project"
    (root / "lib").mkdir(parents=True)
    path = f"lib:{root}/lib:/usr/lib:{root}/missing"
    assert software.find_import_roots(str(root), path, False) == ["lib"]
    assert software.find_import_roots(str(root), "", True) == []
    (root / "pyproject.toml").touch()
    assert software.find_import_roots(str(root), "", True) == ["."]
    assert software.find_import_roots(str(root), "", False) == []
