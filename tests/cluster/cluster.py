"""A real Slurm on one machine, for tests and first tries.

Does: starts munged, mariadbd, slurmdbd, slurmctld and one slurmd per pretended node from Debian's
packages, each in its own session; remembers them by identity and stops only those; runs commands
as an ordinary user; freezes and kills daemons for fault tests. Everything lies under one folder
and listens on this machine only, on ports and sockets of its own, so that a Slurm, a munged or a
database that already runs here is left alone.
Does not: measure or limit what jobs use (no cgroups), compute on GPUs, survive a reboot, or serve
two test sessions at once.
Called by: `python -m tests.cluster` and tests/cluster/conftest.py, as root, on a Debian machine
that plays login node, controller and all compute nodes at once.

    <root>/
      state.json     options and the identity of every daemon; gone when it is down
      lock           held while the cluster goes up or down
      etc/           slurm.conf gres.conf cgroup.conf slurmdbd.conf
      log/ log.1/    the daemons' logs now, and before the last start
      state/ spool/  slurmctld's and the slurmds' own; new at every start
      dev/           the pretended GPUs
      munge/         key, socket, log; of user munge
      mariadb/       the database and its socket; of user mysql; kept, as it takes long to make
      users/         room for tests, which an ordinary user can enter
"""

import fcntl
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import config, install, layout, processes
from tests.cluster.config import ClusterOptions
from tests.cluster.daemons import START_TIMEOUT_S, ClusterError, Daemons
from tests.cluster.install import USER, ClusterUnavailable
from tests.cluster.processes import T, wait_until
from tests.cluster.state import ClusterState, drop_state, load_state, store_state

__all__ = [
    "USER",
    "Cluster",
    "ClusterError",
    "ClusterOptions",
    "ClusterUnavailable",
    "QueuedJob",
    "wait_until",
]

DEFAULT_ROOT = Path("/var/tmp/orchestrator-cluster")

_DATABASE = ("munged", "mariadbd", "slurmdbd")  # these outlive a restart
_RUNUSER = "/usr/sbin/runuser"  # not in everybody's PATH
# By how much a busy machine may be slower than a test says.
PATIENCE = 3


@dataclass(frozen=True)
class QueuedJob:
    """One line of squeue."""

    job_id: str
    """Job id, or `<array>_<index>` of an array task."""
    name: str
    """Job name."""
    partition: str
    """Partition it was submitted to."""
    state: str
    """Slurm's long state: PENDING, RUNNING, COMPLETING, ..."""
    reason: str
    """Why it is pending; `None` (the word) where there is no reason."""
    nodes: str
    """Nodes it runs on; empty while pending."""
    user: str
    """Who submitted it."""


class Cluster:
    """A Slurm cluster under one folder; several objects may stand for the same cluster."""

    def __init__(self, root: Path | None = None) -> None:
        """Names the cluster; starts nothing.

        Args:
            root: Its folder; by default $ORCHESTRATOR_CLUSTER_DIR, else DEFAULT_ROOT.
        """
        self.root = root or Path(os.environ.get("ORCHESTRATOR_CLUSTER_DIR") or DEFAULT_ROOT)
        self.slurm_conf = self.root / "etc" / "slurm.conf"
        self._daemons = Daemons(self.root)

    # --- going up and down -----------------------------------------------------------------

    def up(self, options: ClusterOptions | None = None) -> None:
        """Starts the cluster, and returns when every node is idle.

        Does nothing if it is up with these options; restarts it if it is up with others.

        Args:
            options: None: the defaults, or whatever it is up with.

        Raises:
            ClusterUnavailable: Slurm cannot be installed here.
            ClusterError: a daemon did not start.
        """
        install.ensure_installed()
        layout.check_root(self.root)
        with self._locked():
            if not self.is_up():
                self._stop_everything()
                self._start_everything(options or ClusterOptions())
            elif options is not None and options != self.options:
                self._restart(options)

    def down(self) -> None:
        """Stops every daemon that this cluster started, and its jobs; keeps logs and database.

        Raises:
            TimeoutError: a process does not even end by SIGKILL.
        """
        if self.root.exists():
            with self._locked():
                self._stop_everything()

    def purge(self) -> None:
        """Stops the cluster and removes its folder."""
        self.down()
        if self.root.exists():
            shutil.rmtree(self.root)

    def restart(self, options: ClusterOptions | None = None) -> None:
        """Gives the running cluster another slurm.conf; jobs and their history are gone after it.

        The database stays up, under a new cluster name: job ids start at 1 again, and sacct knows
        none of the earlier jobs.

        Args:
            options: None: the ones it has.

        Raises:
            ClusterError: it is not up, or a daemon did not start.
        """
        with self._locked():
            self._restart(options or self.options)

    def is_up(self) -> bool:
        """Tells whether every daemon runs and the controller answers. Nodes may be down."""
        names = self.daemons()
        if not names or not all(self.is_alive(name) for name in names):
            return False
        try:
            return self._daemons.run(["scontrol", "ping"], timeout_s=15).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    @property
    def options(self) -> ClusterOptions:
        """What the cluster was started with.

        Raises:
            ClusterError: it is down.
        """
        return self._daemons.state.options

    # --- using it --------------------------------------------------------------------------

    def env(self) -> dict[str, str]:
        """The variables that point a child process at this cluster; add them to its others."""
        return {"SLURM_CONF": str(self.slurm_conf)}

    def run_as_user(
        self,
        argv: Sequence[str],
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float = 180.0,
        check: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command as the ordinary user, with a login's environment and nothing of ours.

        Args:
            argv: The command; looked up in the user's PATH.
            cwd: Where; the user's home by default.
            env: Variables on top of the login's, SLURM_CONF among them.
            timeout_s: After this time the command and its children are killed, seconds.
            check: Whether an exit status other than 0 is an error.

        Raises:
            subprocess.TimeoutExpired: the time is up.
            ClusterError: `check`, and the status was not 0; shows the output.
        """
        user = pwd.getpwnam(USER)
        login = {
            "HOME": user.pw_dir,
            "USER": USER,
            "LOGNAME": USER,
            "SHELL": user.pw_shell,
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            **self.env(),
            **(env or {}),
        }
        done = processes.run_bounded(
            [_RUNUSER, "-u", USER, "--", *argv], login, cwd or Path(user.pw_dir), timeout_s
        )
        if check and done.returncode != 0:
            raise ClusterError(
                f"{' '.join(argv)} exited {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def squeue(self, all_states: bool = False) -> list[QueuedJob]:
        """Lists the jobs and array tasks of all users.

        Args:
            all_states: Whether also those that have ended; Slurm forgets them after 300 s.

        Raises:
            ClusterError: squeue failed; an empty list is always a true answer.
        """
        argv = ["squeue", "-r", "-h", "-a", "-o", "%i|%P|%T|%r|%N|%u|%j"]
        done = self._checked([*argv, "-t", "all"] if all_states else argv)
        jobs = []
        for line in done.splitlines():
            job_id, partition, state, reason, nodes, user, name = line.split("|", 6)
            jobs.append(QueuedJob(job_id, name, partition, state, reason, nodes, user))
        return jobs

    def cancel_all(self, timeout_s: float = 120.0) -> None:
        """Cancels the ordinary user's jobs and waits until none is left, dying ones included.

        Raises:
            TimeoutError: some are left.
            ClusterError: the controller does not answer.
        """
        if not self.squeue():
            return

        def is_empty() -> bool:
            # Again and again: a job that was being requeued just now comes back as pending.
            self._checked(["scancel", f"--user={USER}"])
            return not self.squeue()

        wait_until(is_empty, timeout_s, self.squeue, interval_s=0.2)

    def wait_idle(self, timeout_s: float = 90.0) -> None:
        """Waits until every node is idle and answers.

        Raises:
            TimeoutError: one is not; shows what sinfo says, and the logs.
        """

        def is_idle() -> bool:
            states = self._node_states()
            return bool(states) and all(state == "idle" for state in states.values())

        wait_until(is_idle, timeout_s, lambda: f"{self._node_states()}\n{self._daemons.logs()}")

    @staticmethod
    def wait_until(
        predicate: Callable[[], T],
        timeout_s: float,
        on_timeout: Callable[[], object] | str = "",
        interval_s: float = 0.1,
    ) -> T:
        """See processes.wait_until; on a busy machine things take a multiple of their time."""
        return wait_until(predicate, timeout_s * PATIENCE, on_timeout, interval_s)

    # --- breaking and mending it -----------------------------------------------------------

    def daemons(self) -> list[str]:
        """Names the daemons in the order in which they start: munged, ..., slurmd-n1, ..."""
        return self._daemons.names()

    def is_alive(self, daemon: str) -> bool:
        """Tells whether a daemon runs; a frozen one does."""
        return self._daemons.is_alive(daemon)

    def kill(self, daemon: str) -> None:
        """Kills a daemon, as a crash would; its jobs go on without it."""
        self._daemons.kill([daemon])

    def terminate(self, daemon: str, timeout_s: float = 20.0) -> None:
        """Asks a daemon to end, as an administrator would, and waits until it has; see start.

        Raises:
            TimeoutError: it does not end.
        """
        self._daemons.send(daemon, signal.SIGTERM)
        wait_until(lambda: not self.is_alive(daemon), timeout_s, f"{daemon} does not end")

    def freeze(self, daemon: str) -> None:
        """Stops a daemon from doing anything; it keeps its memory, ports and files."""
        self._daemons.send(daemon, signal.SIGSTOP)

    def thaw(self, daemon: str) -> None:
        """Lets a frozen daemon go on."""
        self._daemons.send(daemon, signal.SIGCONT)

    def start(self, daemon: str) -> None:
        """Starts a daemon that is not running, and waits until it answers.

        Raises:
            ClusterError: it does not start; shows the end of its log.
        """
        if not self.is_alive(daemon):
            self._daemons.spawn(daemon)
            self._daemons.await_ready(daemon)

    def heal(self, timeout_s: float = 150.0) -> None:
        """Undoes kill, freeze and down nodes: every daemon answers and every node takes jobs.

        Raises:
            TimeoutError: a node stays down.
            ClusterError: a daemon does not start.
        """
        names = self.daemons()
        for name in names:
            self.thaw(name)
        for name in names:
            self.start(name)

        def is_healed() -> bool:
            states = self._node_states()
            bad = [name for name, state in states.items() if not _takes_jobs(state)]
            for name in bad:
                if not states[name].startswith("unk"):
                    self._daemons.run(["scontrol", "update", f"NodeName={name}", "State=RESUME"])
            return bool(states) and not bad

        wait_until(
            is_healed, timeout_s, lambda: f"{self._node_states()}\n{self._daemons.logs()}", 0.5
        )

    # --- inside ----------------------------------------------------------------------------

    def _start_everything(self, options: ClusterOptions) -> None:
        site = layout.look_around(self.root, options)
        layout.lay_out(options, site)
        if options.accounting:
            layout.make_database(self.root / "mariadb")
        store_state(self.root, ClusterState(options, site))
        for name in _DATABASE if options.accounting else ("munged",):
            self._daemons.spawn(name)
            self._daemons.await_ready(name)
        self._start_slurm()

    def _restart(self, options: ClusterOptions) -> None:
        was = self._daemons.state
        self._stop_slurm()
        kept = self._daemons.state.daemons
        has_changed = was.options.accounting != options.accounting
        if has_changed or not all(process.is_alive() for process in kept.values()):
            self._stop_everything()
            self._start_everything(options)
            return
        site = layout.look_around(self.root, options, was.site.port)
        layout.lay_out(options, site)
        store_state(self.root, ClusterState(options, site, kept))
        self._start_slurm()

    def _start_slurm(self) -> None:
        """Starts controller and nodes; what they depend on is up."""
        state = self._daemons.state
        if state.options.accounting:
            for what in (
                ["cluster", state.site.cluster_name],
                ["account", "sweeps", f"cluster={state.site.cluster_name}"],
                ["user", USER, "account=sweeps", f"cluster={state.site.cluster_name}"],
            ):
                self._add_account(what)
        for name in ("slurmctld", *(f"slurmd-{node}" for node in config.node_names(state.options))):
            self._daemons.spawn(name)
        self._daemons.await_ready("slurmctld")
        try:
            self.wait_idle(START_TIMEOUT_S)
        except TimeoutError as error:
            raise ClusterError(f"the nodes do not come up: {error}") from None

    def _add_account(self, what: list[str]) -> None:
        """Adds a cluster, an account or a user to the accounting; again if it was not to be.

        A busy slurmdbd drops the connection now and then, with the work done or not ("Unspecified
        error"); what is there already is no error.

        Raises:
            ClusterError: three times in a row; shows the end of slurmdbd's log.
        """
        for attempt in range(1, 4):
            try:
                self._checked(["sacctmgr", "-i", "add", *what])
            except ClusterError as error:
                if "already exist" in str(error) or "Nothing new added" in str(error):
                    return
                if attempt == 3:
                    log = self._daemons.log_tail("slurmdbd", 40)
                    raise ClusterError(f"{error}\n{log}") from None
            else:
                return

    def _stop_everything(self) -> None:
        self._stop_slurm()
        for name in reversed(self.daemons()):
            self._daemons.stop(name)
        drop_state(self.root)

    def _stop_slurm(self) -> None:
        """Stops controller, nodes and jobs, and forgets them; their state is of no more use."""
        names = [name for name in self.daemons() if name not in _DATABASE]
        # Killed, not asked: the jobs must not report their end to the next controller.
        self._daemons.kill(names)
        processes.kill(processes.find_job_processes(self.slurm_conf))
        state = load_state(self.root)
        if state is not None:
            store_state(self.root, state.without(names))

    def _node_states(self) -> dict[str, str]:
        """State of each node as sinfo puts it, with its flags; empty if sinfo failed."""
        done = self._daemons.run(["sinfo", "-h", "-N", "-p", "spot", "-o", "%N %t"])
        if done.returncode != 0:
            return {}
        return dict(line.split() for line in done.stdout.splitlines())

    def _checked(self, argv: list[str], timeout_s: float = START_TIMEOUT_S) -> str:
        """Runs a command as root; its output.

        Raises:
            ClusterError: it failed or ran out of time.
        """
        try:
            done = self._daemons.run(argv, timeout_s)
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"{argv[0]} did not return within {timeout_s:g} s") from error
        if done.returncode != 0:
            raise ClusterError(
                f"{' '.join(argv)} exited {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done.stdout

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keeps others from taking the same cluster up or down meanwhile; waits for a minute."""
        self.root.mkdir(parents=True, mode=0o755, exist_ok=True)
        with (self.root / "lock").open("w") as file:

            def is_locked() -> bool:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
                return True

            try:
                wait_until(is_locked, 60, "somebody else is starting or stopping it")
            except TimeoutError as error:
                raise ClusterError(f"{self.root}: {error}") from error
            yield


def _takes_jobs(state: str) -> bool:
    """Whether a node in this state of sinfo answers and is neither down nor drained.

    A trailing `*` means that it does not answer.
    """
    return state in {"idle", "mix", "alloc", "comp", "mixed", "allocated"}
