"""Slurm's commands as small scripts that answer with captured text and note their calls."""

from __future__ import annotations

from pathlib import Path

COMMANDS = ("sbatch", "squeue", "sacct", "scontrol", "scancel", "srun", "sinfo")


class FakeSlurm:
    """A folder of commands, to be put first on PATH."""

    def __init__(self, folder: Path, config: str, partitions: str):
        folder.mkdir()
        self.folder = folder
        (folder / "config").write_text(config)
        (folder / "partitions").write_text(partitions)
        for name in COMMANDS:
            self.answer(name, "")
        self.answer(
            "scontrol",
            'case "$*" in *config*) cat HERE/config ;; *partition*) cat HERE/partitions ;; esac',
        )

    def answer(self, command: str, body: str) -> None:
        """Give a command a body; HERE stands for this folder."""
        path = self.folder / command
        note = f'echo "{command} $*" >> HERE/calls\n'
        path.write_text(("#!/bin/bash\n" + note + body + "\n").replace("HERE", str(self.folder)))
        path.chmod(0o755)

    @property
    def path(self) -> str:
        """PATH with these commands first."""
        return f"{self.folder}:/usr/bin:/bin"

    def calls(self) -> list[str]:
        """Every call so far, command and arguments."""
        try:
            return (self.folder / "calls").read_text().splitlines()
        except FileNotFoundError:
            return []
