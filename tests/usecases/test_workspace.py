"""A sweep's folder: made once, private, whoever comes first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.contract.errors import UserError
from orchestrator.usecases import workspace


def test_create_sweep_when_another_submit_makes_it_meanwhile_uses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = workspace.create_sweep(str(tmp_path), "sweep")
    # What a second submit saw a moment earlier.
    isdir = os.path.isdir
    monkeypatch.setattr(os.path, "isdir", lambda path: path != first.root and isdir(path))
    assert workspace.create_sweep(str(tmp_path), "sweep").root == first.root


def test_create_sweep_where_a_file_stands_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sweep").write_text("")
    with pytest.raises(UserError, match="name another RESULTS="):
        workspace.create_sweep(str(tmp_path), "sweep")


def test_create_sweep_that_others_can_write_is_refused(tmp_path: Path) -> None:
    root = workspace.create_sweep(str(tmp_path), "sweep").root
    os.chmod(root, 0o777)
    with pytest.raises(UserError, match=f"chmod go-w {root}"):
        workspace.create_sweep(str(tmp_path), "sweep")


def test_open_sweep_in_a_folder_that_is_closed_to_us_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "results"
    workspace.create_sweep(str(results), "sweep")
    look = os.stat

    def refuse(path: object, *more: object, **options: object) -> os.stat_result:
        if str(path).startswith(f"{results}/"):
            raise PermissionError(13, "Permission denied", str(path))
        return look(path, *more, **options)  # type: ignore[call-overload,no-any-return]

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", refuse)
        with pytest.raises(UserError) as caught:
            workspace.open_sweep(str(results), "sweep")
    assert str(caught.value).startswith(f"{results} is closed to you: it belongs to ")


def test_open_sweep_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no sweep 'x' in .*; submit one first"):
        workspace.open_sweep(str(tmp_path), "x")
