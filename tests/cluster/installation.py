"""The orchestrator where the cluster's ordinary user can run it.

Usually that is this checkout and its Python. Where the user cannot enter one of the folders above
(a checkout below /root, say), both are copied to a folder that anybody can enter.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.cluster import Cluster

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Installation:
    """Where the orchestrator lies."""

    project: Path
    """The checkout, or a copy of it."""
    python: Path
    """A Python that has it installed."""

    @property
    def orchestrator(self) -> list[str]:
        """The words of the command."""
        return [str(self.python), "-m", "orchestrator"]


@contextlib.contextmanager
def reachable_installation(cluster: Cluster) -> Iterator[Installation]:
    """Lend an installation that the ordinary user can run."""
    here = Installation(ROOT, Path(sys.executable))
    if _is_reachable(cluster, here):
        yield here
        return
    with tempfile.TemporaryDirectory(dir=cluster.root / "users", prefix="copy-") as folder:
        copy = _copy(Path(folder))
        if not _is_reachable(cluster, copy):
            raise RuntimeError(f"{cluster.root} cannot be entered by the ordinary user either")
        yield copy


def _is_reachable(cluster: Cluster, installation: Installation) -> bool:
    argv = [*installation.orchestrator, "--version"]
    try:
        done = cluster.run_as_user(argv, timeout_s=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    readable = cluster.run_as_user(["test", "-r", str(installation.project / "pyproject.toml")])
    return done.returncode == 0 and readable.returncode == 0


def _copy(folder: Path) -> Installation:
    folder.chmod(0o755)
    project = folder / "project"
    shutil.copytree(ROOT, project, symlinks=True, ignore=shutil.ignore_patterns("results", ".git"))
    for path in (project / ".venv").rglob("*sweep_orchestrator*.pth"):
        path.write_text(f"{project}\n")  # the editable install points at the original
    for path in [project, *project.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
    return Installation(project, project / ".venv" / "bin" / os.path.basename(sys.executable))
