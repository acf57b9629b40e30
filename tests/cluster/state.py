"""Remembers what a test cluster was started with and which processes it consists of.

Does: reads and writes <root>/state.json. Does not: look at the processes. Called by:
tests/cluster/{cluster,daemons}.py, as root; anybody may read it.
"""

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.config import ClusterOptions, Site
from tests.cluster.processes import Process


@dataclass(frozen=True)
class ClusterState:
    """One cluster, from its start to its end."""

    options: ClusterOptions
    """What it was started with."""
    site: Site
    """Where: ports, addresses, the name it has in the database."""
    daemons: dict[str, Process] = field(default_factory=dict)
    """Daemons in the order of their start; one that died stays here until the cluster is down."""

    def without(self, names: list[str]) -> "ClusterState":
        """Returns the state with these daemons forgotten."""
        kept = {name: value for name, value in self.daemons.items() if name not in names}
        return dataclasses.replace(self, daemons=kept)


def load_state(root: Path) -> ClusterState | None:
    """Reads the state; None if no cluster was started here, or it was taken down."""
    try:
        text = (root / "state.json").read_text()
    except FileNotFoundError:
        return None
    stored = json.loads(text)
    options = stored["options"] | {"extra": tuple(stored["options"]["extra"])}
    site = stored["site"] | {"root": root, "version": tuple(stored["site"]["version"])}
    daemons = {name: Process(**value) for name, value in stored["daemons"].items()}
    return ClusterState(options=ClusterOptions(**options), site=Site(**site), daemons=daemons)


def store_state(root: Path, state: ClusterState) -> None:
    """Writes the state."""
    stored = dataclasses.asdict(state)
    stored["site"]["root"] = str(root)
    write_file(root / "state.json", json.dumps(stored, indent=2) + "\n", 0o644)


def drop_state(root: Path) -> None:
    """Forgets the state: the cluster is down."""
    (root / "state.json").unlink(missing_ok=True)


def write_file(path: Path, text: str, mode: int) -> None:
    """Writes a file aside and renames it: never half a text, never a wider mode than asked for."""
    aside = path.with_name(path.name + ".new")
    aside.unlink(missing_ok=True)
    with os.fdopen(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(text)
    aside.chmod(mode)
    aside.rename(path)
