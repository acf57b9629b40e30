"""When an attempt began with its work, as far as its reports tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.runtime.start_up import StartUp

LINE = b'{"step": 1, "loss": 2}\n'


class Watched:
    """A metrics file in pretended time: looked at as an attempt does, written as told."""

    def __init__(self, path: Path, before: bytes = b""):
        self.now, self.path = 0.0, path
        path.write_bytes(before)
        self.watch = StartUp(str(path), lambda: self.now)

    def pass_until(self, end_s: float) -> None:
        while self.now < end_s:
            self.now += min(self.watch.wait_s(30.0) or 0.01, end_s - self.now)
            self.watch.look()

    def report(self, *times_s: float) -> None:
        for time_s in times_s:
            self.pass_until(time_s)
            with open(self.path, "ab") as file:
                file.write(LINE)


@pytest.mark.parametrize("spacing_s", [1, 60, 3600])
def test_start_up_is_the_first_report_less_the_time_between_reports(
    tmp_path: Path, spacing_s: float
) -> None:
    watched = Watched(tmp_path / "m")
    watched.report(*(100 + spacing_s * n for n in range(1, 101)))
    assert watched.watch.estimate_s() == pytest.approx(100, abs=35)


def test_start_up_of_one_report_at_the_end_is_unknown(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "m")
    watched.report(500)
    watched.pass_until(501)
    assert watched.watch.estimate_s() is None


def test_start_up_without_a_report_is_unknown(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "m", before=LINE)
    (tmp_path / "m").unlink()
    watched.pass_until(100)
    assert watched.watch.estimate_s() is None


def test_start_up_after_a_rewind_waits_for_what_is_new(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "m", before=LINE * 8)
    watched.pass_until(10)
    (tmp_path / "m").write_bytes(LINE)
    watched.report(*(40 + 10 * n for n in range(1, 31)))
    assert watched.watch.estimate_s() == pytest.approx(40, abs=15)


def test_start_up_looks_are_few(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "m")
    looks = []
    real = watched.watch._size
    watched.watch._size = lambda: looks.append(1) or real()  # type: ignore[method-assign,func-returns-value]
    watched.pass_until(3600)
    assert len(looks) < 160
    assert watched.watch.wait_s(5.0) <= 5.0
