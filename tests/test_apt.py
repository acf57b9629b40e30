"""The installers of the tests wait for one another, and skip where nothing can be installed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests import apt
from tests.browser import install as browser
from tests.cluster import install as cluster


@pytest.fixture(autouse=True)
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "apt.lock"
    monkeypatch.setattr(apt, "lock_path", lambda: path)
    return path


def refuse(*words: str) -> None:
    raise apt.AptFailed("apt-get update exited 100: Temporary failure resolving 'deb.debian.org'")


def test_second_installer_waits_for_the_first() -> None:
    order: list[str] = []
    waits = threading.Event()

    def second() -> None:
        waits.set()
        with apt.one_at_a_time(timeout_s=120):
            order.append("second")

    thread = threading.Thread(target=second)
    with apt.one_at_a_time():
        thread.start()
        assert waits.wait(120)
        thread.join(0.5)
        order.append("first")
    thread.join(120)
    assert order == ["first", "second"]


def test_installer_that_waits_too_long_says_for_what(lock: Path) -> None:
    with apt.one_at_a_time():
        with pytest.raises(apt.AptFailed, match=r"apt\.lock: held by another for 0 s"):
            with apt.one_at_a_time(timeout_s=0):
                raise AssertionError("two at once")
    with apt.one_at_a_time(timeout_s=0):
        pass  # it was let go


def test_no_network_makes_the_browser_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "_find", lambda: None)
    monkeypatch.setattr(browser.os, "geteuid", lambda: 0)
    monkeypatch.setattr(browser.shutil, "which", lambda name, path: f"/usr/bin/{name}")
    monkeypatch.setattr(browser.platform, "system", lambda: "Linux")
    monkeypatch.setattr(apt, "_run", refuse)
    with pytest.raises(browser.BrowserUnavailable, match="exited 100: Temporary failure"):
        browser.ensure_chromium()


def test_no_network_makes_the_cluster_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(cluster, "_POLICY", policy)
    monkeypatch.setattr(cluster, "_missing_programs", lambda: ["slurmctld"])
    monkeypatch.setattr(cluster.os, "geteuid", lambda: 0)
    monkeypatch.setattr(cluster.shutil, "which", lambda name, path: f"/usr/bin/{name}")
    monkeypatch.setattr(cluster.platform, "system", lambda: "Linux")
    monkeypatch.setattr(apt, "_run", refuse)
    with pytest.raises(cluster.ClusterUnavailable, match="exited 100: Temporary failure"):
        cluster.ensure_installed()
    assert not policy.exists()
