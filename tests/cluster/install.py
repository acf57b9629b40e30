"""Puts Slurm and the ordinary user on this machine, or says why that cannot be.

Does: installs the Debian packages where they are missing, without starting any service of theirs;
creates the user that submits the jobs. Does not: configure or start anything, nor remove what it
installed. Called by: tests/cluster/cluster.py as root, on the machine of the test cluster.
"""

import os
import platform
import pwd
import re
import shutil
import subprocess
from pathlib import Path

from tests import apt

USER = "sweeper"

PACKAGES = (
    "slurmctld",
    "slurmd",
    "slurmdbd",
    "slurm-client",
    "munge",
    "mariadb-server",
    "slurm-wlm-basic-plugins",
    "slurm-wlm-mysql-plugin",
)

_PROGRAMS = (
    "slurmctld",
    "slurmd",
    "slurmdbd",
    "sbatch",
    "srun",
    "sacct",
    "sacctmgr",
    "munged",
    "munge",
    "mariadbd",
    "mariadb",
    "mariadb-install-db",
    "runuser",
)

SEARCH_PATH = apt.SEARCH_PATH

_POLICY = Path("/usr/sbin/policy-rc.d")


class ClusterUnavailable(Exception):
    """This machine cannot have a test cluster; the message is the reason, on one line."""


def ensure_installed() -> None:
    """Installs what is missing.

    Raises:
        ClusterUnavailable: not Linux, not root, no apt-get, or apt-get failed.
    """
    if platform.system() != "Linux":
        raise ClusterUnavailable(f"Slurm runs on Linux only, this is {platform.system()}")
    if os.geteuid() != 0:
        raise ClusterUnavailable("only root can start Slurm's daemons; run this as root")
    try:
        with apt.one_at_a_time():  # several pytest processes may come at once
            _ensure_programs()
            ensure_user()
    except apt.AptFailed as error:
        raise ClusterUnavailable(str(error)) from error


def _ensure_programs() -> None:
    missing = _missing_programs()
    if not missing:
        return
    if shutil.which("apt-get", path=SEARCH_PATH) is None:
        raise ClusterUnavailable(
            f"{', '.join(missing)} not installed, and no apt-get here to install it"
        )
    _install()
    missing = _missing_programs()
    if missing:
        raise ClusterUnavailable(f"still missing after apt-get install: {', '.join(missing)}")


def ensure_user() -> pwd.struct_passwd:
    """Returns the ordinary user's entry, and creates the user where there is none.

    Raises:
        ClusterUnavailable: useradd failed.
    """
    try:
        return pwd.getpwnam(USER)
    except KeyError:
        _checked(["useradd", "--create-home", "--shell", "/bin/bash", USER], timeout_s=60)
        return pwd.getpwnam(USER)


def slurm_version() -> tuple[int, int]:
    """Asks slurmctld for its release: (22, 5) for 22.05.8.

    Raises:
        ClusterUnavailable: it does not say.
    """
    text = _checked(["slurmctld", "-V"], timeout_s=30)
    match = re.search(r"(\d+)\.(\d+)", text)
    if match is None:
        raise ClusterUnavailable(f"slurmctld -V says {text.strip()!r}, not a version")
    return int(match[1]), int(match[2])


def system_env() -> dict[str, str]:
    """The environment for daemons and commands that root runs: nothing of the caller's."""
    return {"PATH": SEARCH_PATH, "HOME": "/root", "LANG": "C.UTF-8"}


def _missing_programs() -> list[str]:
    missing = [name for name in _PROGRAMS if shutil.which(name, path=SEARCH_PATH) is None]
    plugins = Path("/usr/lib").glob("*/slurm-wlm/accounting_storage_mysql.so")
    return missing if any(plugins) else [*missing, "accounting_storage_mysql.so"]


def _install() -> None:
    """Runs apt-get, with a policy that keeps the packages from starting services meanwhile."""
    has_policy = _POLICY.exists()
    if not has_policy:
        _POLICY.write_text("#!/bin/sh\nexit 101\n")
        _POLICY.chmod(0o755)
    try:
        apt.install(*PACKAGES)
    finally:
        if not has_policy:
            _POLICY.unlink()


def _checked(argv: list[str], timeout_s: float) -> str:
    env = system_env() | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            argv,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClusterUnavailable(f"{' '.join(argv[:2])}: {error}") from error
    if done.returncode != 0:
        last = (done.stdout.strip().splitlines() or ["no output"])[-1]
        raise ClusterUnavailable(f"{' '.join(argv[:2])} exited {done.returncode}: {last}")
    return done.stdout
