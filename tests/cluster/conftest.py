"""Lends the test cluster to tests.

Does: starts it or takes the one that is up, gives each test the options it asks for, gives it
a folder that an ordinary user can write to, and leaves no job and no broken daemon to the next
test. Each of several pytest workers has a cluster of its own. Does not: share one between two
pytest processes at once. Runs as root, on the machine of the cluster; where there can be none,
tests that ask for it are skipped with the reason.

    def test_x(cluster, user_dir): ...                          # the default options

    @pytest.mark.cluster_options(preempt_mode="CANCEL", grace_s=0)
    def test_y(cluster, user_dir): ...                          # tests of equal options in a row
                                                                # share one restart
"""

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import (
    DEFAULT_ROOT,
    USER,
    Cluster,
    ClusterError,
    ClusterOptions,
    ClusterUnavailable,
)
from tests.cluster.install import ensure_installed
from tests.cluster.installation import Installation, reachable_installation
from tests.cluster.user import COUNTER, User


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "cluster_options(**options): options of the test cluster, see ClusterOptions"
    )
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker:  # programs that the tests start look for it there, too
        root = os.environ.get("ORCHESTRATOR_CLUSTER_DIR") or str(DEFAULT_ROOT)
        os.environ["ORCHESTRATOR_CLUSTER_DIR"] = f"{root}-{worker}"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running cluster: the one that is up if it has the default options, else a new one.

    One that is up with other options belongs to somebody: it is left alone, and the new one gets
    a folder of its own.
    """
    try:
        ensure_installed()
        running = Cluster()
        if not running.is_up():
            lent, started = running, True
        elif running.options == ClusterOptions():
            lent, started = running, False
        else:
            lent, started = Cluster(Path(tempfile.mkdtemp(dir="/var/tmp", prefix="cluster-"))), True
            lent.root.chmod(0o755)
        try:
            lent.up(ClusterOptions())
        except ClusterError as error:
            # A database or a daemon that comes up badly on a busy machine spoils what a hundred
            # tests need; a second start from nothing does not hide a defect of ours.
            warnings.warn(f"the cluster is started anew: {error}", stacklevel=1)
            lent.purge()
            lent.up(ClusterOptions())
    except ClusterUnavailable as reason:
        pytest.skip(f"no test cluster: {reason}")
    try:
        yield lent
    finally:
        if not started:
            if lent.options != ClusterOptions():
                lent.restart(ClusterOptions())
        elif lent.root == running.root:
            lent.down()
        else:
            lent.purge()


@pytest.fixture
def user_dir(cluster: Cluster) -> Iterator[Path]:
    """A new folder that belongs to the ordinary user and that the test reaches too."""
    folder = Path(tempfile.mkdtemp(dir=cluster.root / "users"))
    folder.chmod(0o755)
    shutil.chown(folder, USER, USER)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)  # a dying job may still write to it


@pytest.fixture(scope="session")
def installation(cluster: Cluster) -> Iterator[Installation]:
    """The orchestrator where the ordinary user can run it."""
    with reachable_installation(cluster) as found:
        yield found


@pytest.fixture
def user(cluster: Cluster, user_dir: Path, installation: Installation) -> User:
    """The ordinary user, in a folder of their own that holds ``count.sh``."""
    someone = User(cluster, user_dir, installation)
    someone.write("count.sh", COUNTER)
    return someone


@pytest.fixture(autouse=True)
def _clean_cluster(request: pytest.FixtureRequest) -> Iterator[None]:
    """Gives a test its options before, and ends its jobs and mends what it broke after."""
    if "cluster" not in request.fixturenames:
        yield
        return
    lent: Cluster = request.getfixturevalue("cluster")
    marker = request.node.get_closest_marker("cluster_options")
    wanted = ClusterOptions(**marker.kwargs) if marker else ClusterOptions()
    if lent.options != wanted:
        lent.restart(wanted)
    yield
    try:
        lent.heal()
        lent.cancel_all()
    except (ClusterError, TimeoutError):
        lent.restart()  # throws away what cannot be mended
