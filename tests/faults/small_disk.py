"""A small disk of a test's own: a tmpfs to fill, to run out of inodes, or to make read-only."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class SmallDisk:
    """A mounted tmpfs."""

    def __init__(self, path: Path):
        self.path = path

    def fill(self) -> None:
        """Leave not a byte."""
        with open(self.path / "ballast", "ab", buffering=0) as file:
            for size in (2**20, 2**12, 1):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError:
                    pass

    def empty(self) -> None:
        """Give the space back."""
        (self.path / "ballast").unlink()

    def remount(self, option: str) -> None:
        """Make it ``ro`` or ``rw``."""
        subprocess.run(
            ["mount", "-o", f"remount,{option}", str(self.path)], check=True, timeout=120
        )


@contextmanager
def small_disk(path: Path, options: str = "size=4m") -> Iterator[SmallDisk]:
    """Mount a small disk at ``path``, for the one who may; skip the test where nobody may."""
    path.mkdir()
    if os.getuid() != 0:
        pytest.skip("only root can mount a small disk")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"mode=755,{options}", "none", str(path)],
        capture_output=True,
        timeout=120,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"no mounts here: {done.stderr.decode()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True, timeout=120)
