"""Starts, stops, kills and freezes the daemons of the test cluster.

Does: one daemon at a time, each in the foreground of its own session, remembered by identity.
Does not: know in which order they must start, or lay out what they need. Called by:
tests/cluster/cluster.py, as root.
"""

import dataclasses
import pwd
import signal
import socket
import subprocess
from pathlib import Path

from tests.cluster import config, install, processes
from tests.cluster.config import Site
from tests.cluster.processes import Process, wait_until
from tests.cluster.state import ClusterState, load_state, store_state

START_TIMEOUT_S = 90.0
_STOP_TIMEOUT_S = 5.0

# Debian's client library reads the one or the other, depending on its version.
_SOCKET_VARIABLES = ("MYSQL_UNIX_PORT", "MARIADB_UNIX_PORT")


class ClusterError(Exception):
    """The cluster did not do what it was told; the message shows the log that says why."""


class Daemons:
    """The daemons of one cluster: munged, mariadbd, slurmdbd, slurmctld, slurmd-n1, ..."""

    def __init__(self, root: Path) -> None:
        """Looks after the daemons of the cluster in this folder."""
        self.root = root
        # Popen objects of what this process started, kept so that Python does not report them
        # as lost; everything else goes by Process.
        self._children: list[subprocess.Popen[bytes]] = []

    @property
    def state(self) -> ClusterState:
        """The cluster's state.

        Raises:
            ClusterError: it is down.
        """
        state = load_state(self.root)
        if state is None:
            raise ClusterError(f"no cluster is up in {self.root}; run `python -m tests.cluster up`")
        return state

    def names(self) -> list[str]:
        """Names the daemons in the order in which they were started; none if it is down."""
        state = load_state(self.root)
        return list(state.daemons) if state else []

    def process(self, name: str) -> Process:
        """Returns the identity of a daemon, running or not.

        Raises:
            ClusterError: this cluster has no such daemon.
        """
        known = self.state.daemons
        if name not in known:
            raise ClusterError(f"no daemon {name!r} here; there are: {', '.join(known)}")
        return known[name]

    def is_alive(self, name: str) -> bool:
        """Tells whether a daemon runs; a frozen one does."""
        return self.process(name).is_alive()

    def send(self, name: str, signum: signal.Signals) -> None:
        """Sends a daemon a signal; nothing happens if it is dead."""
        self.process(name).send(signum)

    def stop(self, name: str) -> None:
        """Asks a daemon to end, kills it if it does not, and forgets it."""
        processes.stop([self.process(name)], _STOP_TIMEOUT_S)
        store_state(self.root, self.state.without([name]))

    def kill(self, names: list[str]) -> None:
        """Kills daemons and waits until they are gone; they are still remembered."""
        processes.kill([self.process(name) for name in names])

    def spawn(self, name: str) -> None:
        """Starts a daemon and remembers it; does not wait until it answers.

        Raises:
            ClusterError: it ended at once; shows the end of its log.
        """
        state = self.state
        argv, user = _command(name, state.site)
        env = install.system_env() | {"SLURM_CONF": str(state.site.conf_dir / "slurm.conf")}
        if name == "slurmdbd":  # slurmdbd.conf has no setting for it
            env |= {variable: str(state.site.mariadb_socket) for variable in _SOCKET_VARIABLES}
        account = pwd.getpwnam(user)
        with (self.root / "log" / f"{name}.out").open("ab") as log:
            child = subprocess.Popen(
                argv,
                cwd="/",
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=account.pw_uid,
                group=account.pw_gid,
                extra_groups=[],
            )
        self._children.append(child)
        process = Process.identify(child.pid)
        if process is None:
            raise ClusterError(f"{name} ended at once\n{self.log_tail(name)}")
        daemons = {**state.daemons, name: process}
        store_state(self.root, dataclasses.replace(state, daemons=daemons))

    def await_ready(self, name: str) -> None:
        """Waits until a daemon answers.

        Raises:
            ClusterError: it ended or does not answer; shows the end of its log.
        """
        state = self.state
        probe = _probe(name, state.site)

        def answers() -> bool:
            if not self.is_alive(name):
                raise ClusterError(f"{name} ended\n{self.log_tail(name)}")
            if probe:
                return self.run(probe).returncode == 0
            nodes = config.node_names(state.options)
            index = nodes.index(name.removeprefix("slurmd-"))
            return _is_listening(state.site.address, state.site.port + 2 + index)

        try:
            wait_until(answers, START_TIMEOUT_S)
        except (TimeoutError, subprocess.TimeoutExpired):
            raise ClusterError(f"{name} does not answer\n{self.log_tail(name)}") from None

    def run(
        self, argv: list[str], timeout_s: float = START_TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        """Runs one of Slurm's commands as root.

        Raises:
            subprocess.TimeoutExpired: the time is up.
        """
        env = install.system_env() | {"SLURM_CONF": str(self.root / "etc" / "slurm.conf")}
        return processes.run_bounded(argv, env, Path("/"), timeout_s)

    def logs(self) -> str:
        """The ends of the logs of the daemons that are dead; of the controller if none is."""
        dead = [name for name in self.names() if not self.is_alive(name)]
        return "\n".join(self.log_tail(name) for name in dead or ["slurmctld"])

    def log_tail(self, name: str, n_lines: int = 15) -> str:
        """The end of what a daemon wrote to its log, or to its terminal if there is no log."""
        for file in (f"{name}.log", f"{name}.out"):  # the second mostly repeats the first
            path = self.root / "log" / file
            if path.exists() and path.stat().st_size:
                lines = path.read_text(errors="replace").splitlines()[-n_lines:]
                return "\n".join([f"--- {path}", *lines])
        return f"--- {name} wrote no log"


def _command(name: str, site: Site) -> tuple[list[str], str]:
    """The command line of a daemon in the foreground, and the user it runs as."""
    if name == "munged":
        room = site.root / "munge"
        argv = ["munged", "--foreground", f"--socket={site.munge_socket}"]
        argv += [f"--key-file={room / 'key'}", f"--seed-file={room / 'log' / 'seed'}"]
        argv += [f"--pid-file={room / 'run' / 'pid'}", f"--log-file={room / 'log' / 'log'}"]
        return [*argv, "--num-threads=4"], "munge"
    if name == "mariadbd":
        room = site.root / "mariadb"
        argv = ["mariadbd", "--no-defaults", f"--datadir={room / 'data'}", "--skip-networking"]
        argv += [f"--socket={site.mariadb_socket}", f"--pid-file={room / 'pid'}"]
        argv += ["--skip-name-resolve", "--innodb-lock-wait-timeout=900"]
        argv += ["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=256M"]
        # Nothing here outlives the machine. With fsync a new cluster's forty tables take a minute
        # on a slow disk that others write to, and sacctmgr gives up before.
        argv += ["--innodb-flush-method=nosync", "--skip-innodb-doublewrite"]
        return argv, "mysql"
    if name in ("slurmdbd", "slurmctld"):
        return [name, "-D"], "root"
    return ["slurmd", "-D", "-N", name.removeprefix("slurmd-")], "root"


def _probe(name: str, site: Site) -> list[str]:
    """A command that succeeds when the daemon answers; none for a slurmd."""
    socket_option = f"--socket={site.mariadb_socket}"
    return {
        "munged": ["munge", "-n", f"--socket={site.munge_socket}"],
        "mariadbd": ["mariadb", "--no-defaults", socket_option, "--execute=select 1"],
        "slurmdbd": ["sacctmgr", "-n", "list", "cluster"],
        "slurmctld": ["scontrol", "ping"],
    }.get(name, [])


def _is_listening(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=2).close()
    except OSError:
        return False
    return True
