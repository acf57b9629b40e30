"""Makes the folders, devices and files that the daemons of the test cluster want to find.

Does: fills the cluster's folder (drawn in cluster.py), looks for free ports. Does not: start a
daemon. Called by: tests/cluster/cluster.py, as root.
"""

import os
import pwd
import secrets
import shutil
import socket
import stat
import time
import zlib
from pathlib import Path

from tests.cluster import config, install, processes
from tests.cluster.config import ClusterOptions, Site
from tests.cluster.install import USER, ClusterUnavailable
from tests.cluster.state import write_file

_FIRST_PORT = 26_810  # below Linux's ephemeral ports (32768 on), far from Slurm's own (6817 on)
_LAST_PORT = 32_000
_MAX_SOCKET_PATH = 107  # sun_path in unix(7), less the final zero


def check_root(root: Path) -> None:
    """Makes the cluster's folder, and refuses one that cannot work.

    Raises:
        ClusterUnavailable: its path is too long, or ordinary users cannot enter it.
    """
    if len(str(root / "munge" / "run" / "socket")) > _MAX_SOCKET_PATH:
        raise ClusterUnavailable(f"{root}: path too long for a Unix socket in it")
    root.mkdir(parents=True, mode=0o755, exist_ok=True)
    for folder in (root, *root.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            raise ClusterUnavailable(f"{folder} is closed to ordinary users, {USER} among them")


def look_around(root: Path, options: ClusterOptions, port: int | None = None) -> Site:
    """Looks at this machine, for a new cluster on it.

    Args:
        root: The cluster's folder.
        options: How many nodes need a port.
        port: The first port, if it is settled because some of the daemons are up.

    Raises:
        ClusterUnavailable: no ports, or no version of Slurm to be had.
    """
    hostname = socket.gethostname().split(".")[0]
    try:
        address = socket.gethostbyname(hostname)
    except OSError:
        address = ""
    is_loopback = address.startswith("127.")
    if port is None:
        port = _find_free_ports(address if is_loopback else "", 2 + options.n_nodes, root)
    return Site(
        root=root,
        hostname=hostname,
        address=address if is_loopback else "127.0.0.1",
        is_loopback_name=is_loopback,
        version=install.slurm_version(),
        port=port,
        cluster_name=f"test{int(time.time())}x{secrets.token_hex(2)}",
    )


def lay_out(options: ClusterOptions, site: Site) -> None:
    """Makes everything for a new start: last time's state is wiped, last time's logs moved aside.

    Raises:
        ClusterUnavailable: this machine does not let root make devices.
        ValueError: a line of `options.extra` is not one of slurm.conf.
    """
    slurm_conf = config.render_slurm_conf(options, site)
    root = site.root
    for name in ("state", "spool", "run", "log.1"):
        shutil.rmtree(root / name, ignore_errors=True)
    if (root / "log").exists():
        (root / "log").rename(root / "log.1")
    nodes = [f"spool/{name}" for name in config.node_names(options)]
    for name in ("etc", "log", "state", "spool", *nodes, "run", "dev", "users"):
        (root / name).mkdir(mode=0o755, exist_ok=True)
        (root / name).chmod(0o755)
    for index in range(options.gpus_per_node):
        _make_device(site.device(index))
    _lay_out_munge(root / "munge")
    write_file(site.conf_dir / "gres.conf", config.render_gres_conf(options, site), 0o644)
    write_file(site.conf_dir / "cgroup.conf", config.render_cgroup_conf(site), 0o644)
    write_file(site.conf_dir / "slurmdbd.conf", config.render_slurmdbd_conf(site), 0o600)
    write_file(site.conf_dir / "slurm.conf", slurm_conf, 0o644)


def make_database(room: Path) -> None:
    """Makes the database's folder, once; aside and renamed, so that half of one never counts.

    Raises:
        ClusterUnavailable: mariadb-install-db failed.
    """
    user = pwd.getpwnam("mysql")
    room.mkdir(mode=0o755, exist_ok=True)
    os.chown(room, user.pw_uid, user.pw_gid)
    if (room / "data").exists():
        return
    for attempt in range(1, 4):  # it aborts now and then while others start
        shutil.rmtree(room / "data.new", ignore_errors=True)
        done = processes.run_bounded(
            [
                "mariadb-install-db",
                "--no-defaults",
                f"--datadir={room / 'data.new'}",
                "--user=mysql",
                "--auth-root-authentication-method=socket",
                "--auth-root-socket-user=root",
                "--skip-test-db",
                "--skip-name-resolve",
            ],
            env=install.system_env(),
            cwd=Path("/"),
            timeout_s=120,
        )
        if done.returncode == 0:
            break
        said = [*done.stdout.strip().splitlines(), *done.stderr.strip().splitlines()]
        if attempt == 3:
            raise ClusterUnavailable(
                f"mariadb-install-db exited {done.returncode}: {'; '.join(said[-8:])}"
            )
    (room / "data.new").rename(room / "data")


def _lay_out_munge(room: Path) -> None:
    """Key, socket and log folder of munged, which insists on their owner and modes."""
    user = pwd.getpwnam("munge")
    for folder, mode in ((room, 0o755), (room / "run", 0o755), (room / "log", 0o700)):
        folder.mkdir(mode=mode, exist_ok=True)
        folder.chmod(mode)
        os.chown(folder, user.pw_uid, user.pw_gid)
    key = room / "key"
    if not key.exists():
        with os.fdopen(os.open(key, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o400), "wb") as file:
            file.write(secrets.token_bytes(128))
        os.chown(key, user.pw_uid, user.pw_gid)


def _make_device(path: Path) -> None:
    """Makes a pretended GPU: the null device under another name.

    Raises:
        ClusterUnavailable: this machine, a container perhaps, does not let root make one.
    """
    if path.exists():
        return
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError as error:
        raise ClusterUnavailable(f"mknod {path}: {error.strerror}") from error
    path.chmod(0o666)


def _find_free_ports(address: str, count: int, root: Path) -> int:
    """Finds a run of ports that nobody listens on; the first of them.

    Where to begin follows from the cluster's folder: daemons listen a while after they were given
    their port, and two clusters that start at once shall not find the same ports free.

    Raises:
        ClusterUnavailable: there is none.
    """
    runs = range(_FIRST_PORT, _LAST_PORT, 40)
    start = zlib.crc32(os.fsencode(root)) % len(runs)
    for first in (*runs[start:], *runs[:start]):
        if all(_is_free(address, port) for port in range(first, first + count)):
            return first
    raise ClusterUnavailable(f"no {count} free ports in a row from {_FIRST_PORT} on")


def _is_free(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True
