import os
import sys

import pytest

from orchestrator.adapters.exports import viewers
from orchestrator.adapters.exports.viewers import open_with

COMMAND = ["viewer", "--at", "/tmp/my 结果/x"]
OPENED = "--at '/tmp/my 结果/x'"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A machine with a Python, a PATH and a home, all empty."""
    for name in ("venv", "path", "home"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(viewers, "_is_installed", lambda package: False)
    return tmp_path


def add(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "viewer").write_text("#!/bin/sh\n")
    (folder / "viewer").chmod(0o755)


def test_without_a_viewer_it_says_how_to_install_it_apart(place):
    assert open_with("open it with", COMMAND, "pkg", "1.2") == [
        f"needs pkg, once: {place}/venv/python -m venv ~/.venvs/pkg && "
        "~/.venvs/pkg/bin/pip install pkg==1.2",
        f"open it with: ~/.venvs/pkg/bin/viewer {OPENED}",
    ]
    add(place / "home" / ".venvs" / "pkg" / "bin")
    assert open_with("open it with", COMMAND, "pkg") == [
        f"open it with: ~/.venvs/pkg/bin/viewer {OPENED}"
    ]


def test_one_on_the_path_is_called_by_its_name(place):
    add(place / "path")
    assert open_with("open it with", COMMAND) == [f"open it with: viewer {OPENED}"]


def test_one_beside_our_python_counts_only_with_its_package(place, monkeypatch):
    # mlflow-skinny brings a `mlflow` that has no `ui`.
    add(place / "venv")
    assert open_with("x", COMMAND)[0].startswith("needs viewer, once: ")
    monkeypatch.setenv("PATH", str(place / "venv"))
    assert open_with("x", COMMAND)[0].startswith("needs viewer, once: ")
    monkeypatch.setattr(viewers, "_is_installed", lambda package: True)
    assert open_with("x", COMMAND) == [f"x: viewer {OPENED}"]
    monkeypatch.setenv("PATH", "/nowhere")
    assert open_with("x", COMMAND) == [f"x: {place}/venv/viewer {OPENED}"]


def test_tensorboard_and_wandb_are_found_beside_our_python(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    for name in ("tensorboard", "wandb"):
        (note,) = open_with("x", [name])
        assert os.access(note.removeprefix("x: "), os.X_OK)
