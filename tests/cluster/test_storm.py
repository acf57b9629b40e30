"""A small storm in every test run; ``make storm`` is the large one."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.cluster.cluster import USER, Cluster
from tests.cluster.installation import Installation
from tests.cluster.user import User
from tests.storm.__main__ import Storm, report

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.cluster_options(max_array_size=8, slurmd_timeout_s=10),
]


def test_sweep_in_a_storm_ends_complete_and_nothing_counts_twice(
    cluster: Cluster, installation: Installation, user_dir: Path
) -> None:
    folder = Path(tempfile.mkdtemp(dir=user_dir))
    folder.chmod(0o755)
    shutil.chown(folder, USER, USER)
    storm = Storm(
        User(cluster, folder, installation), seed=7, n_trials=24, n_steps=40, length_s=40.0
    )
    verdict, board, weather = storm.rage()
    print(report(storm, verdict, board, weather))
    assert verdict.violations == []
    assert verdict.outcomes["committed"] + verdict.outcomes["without a word"] >= 24
    assert storm.n_killed >= 8, "too calm to show anything"
    assert weather["stop_controller"] == weather["kill_controller"] == 1
