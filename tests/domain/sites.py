"""Sites for the tests of what the orchestrator makes of a configuration.

``data/config-22.05.8.txt`` and ``data/partitions-22.05.8.txt`` are outputs of a real cluster (names
and folders made neutral). The other 22.05 sites are its real differences, seen by starting the same
cluster with other options: the lines below are those that changed. There are no outputs of newer
releases here: ``newer`` is MADE FROM THE MANUAL, slurm.conf(5) of 24.05 and 26.05.
"""

from __future__ import annotations

import re
from pathlib import Path

from orchestrator.domain.site import PartitionConfig, SiteConfig, parse_partitions, parse_site

DATA = Path(__file__).parent / "data"
CONFIG = (DATA / "config-22.05.8.txt").read_text()
PARTITIONS = (DATA / "partitions-22.05.8.txt").read_text()

# Lines that changed on the real cluster, by what it was started with.
GANG = {"PreemptMode": "GANG,REQUEUE"}
NO_REQUEUE = {"JobRequeue": "0"}
NO_ACCOUNTING = {
    "AccountingStorageHost": "localhost",
    "AccountingStoragePort": "0",
    "AccountingStorageType": "accounting_storage/none",
    "AccountingStorageUser": "root",
}
CANCEL = {"PreemptMode": "CANCEL"}
USER_SIGNAL = {"SlurmctldParameters": "preempt_send_user_signal"}
SMALL_ARRAYS = {"MaxArraySize": "5"}
PRIVATE = {"PrivateData": "jobs"}


def config(**changes: str) -> str:
    """The real configuration with other values for some of its keys."""
    text = CONFIG
    for key, value in changes.items():
        text, n = re.subn(rf"(?m)^({key}\s*=) .*$", lambda m, v=value: f"{m[1]} {v}", text)
        assert n == 1, key
    return text


def newer(version: str, parameters: str = "(null)", batch_requeue: int = 5) -> str:
    """Made from the manual: what 23.02 and later have beyond 22.05."""
    return (
        config(SLURM_VERSION=version)
        + f"MaxBatchRequeue         = {batch_requeue}\n"
        + f"PreemptParameters       = {parameters}\n"
    )


def site(**changes: str) -> SiteConfig:
    return parse_site(config(**changes))


def partitions(**spot: str) -> dict[str, PartitionConfig]:
    """The real partitions, with other values for keys of the first one, ``spot``."""
    text = PARTITIONS
    for key, value in spot.items():
        text, n = re.subn(rf"\b{key}=\S+", f"{key}={value}", text, count=1)
        assert n == 1, key
    return parse_partitions(text)
