"""The one place that names files on disk. Paths are strings: the compute node imports this.

::

    results/<sweep>/                         mode 0700
      sweep.yaml                             the spec as it was at the last submit
      sweep.json                             what was made of it: metric, parameters, price
      code/                                  git commit and diff of the code at submit
      journal.jsonl                          append-only decisions; one writer at a time
      journal.lock                           held by the writer; names it
      loss_rate.json                         how often attempts were lost, for programs to know
      arrays/<token>/array.sbatch            what sbatch got; the token is the job's name
      arrays/<token>/tasks                   line i+1 is the trial directory of array task i
      arrays/<token>/slurm.log               what Slurm said before a trial's log was open
      trials/<number>-<hash>/
        params.json                          the parameters, as the program gets them
        trial.sbatch                         runs this trial by hand with bash or sbatch
        attempts/<n>.json                    claim, heartbeat (its mtime) and end of attempt n
        log                                  all attempts, one after the other
        metrics.jsonl                        what the program reported
        result.json                          the committed result; the first writer wins
        checkpoints/                         keyed by trial, never by job id
      leaderboard.{csv,md,parquet}
      .cache/                                may be deleted at any time

A trial takes eight files and folders, its own included, and one more for each attempt, beside what
its program writes: ten thousand trials of one attempt each take 90,000 inodes.
"""

from __future__ import annotations

import os


class TrialPaths:
    """Files of one trial, below ``root``."""

    __slots__ = ("root",)

    def __init__(self, root: str):
        """Name the files of the trial in directory ``root``."""
        self.root = root

    @property
    def name(self) -> str:
        """Directory name, ``<number>-<hash>``."""
        return os.path.basename(self.root)

    @property
    def params(self) -> str:
        """Parameters as a JSON object."""
        return self.root + "/params.json"

    @property
    def script(self) -> str:
        """Standalone script of this trial."""
        return self.root + "/trial.sbatch"

    @property
    def log(self) -> str:
        """Standard output and error of all attempts."""
        return self.root + "/log"

    @property
    def metrics(self) -> str:
        """JSON lines that the program reported."""
        return self.root + "/metrics.jsonl"

    @property
    def result(self) -> str:
        """The committed result."""
        return self.root + "/result.json"

    @property
    def checkpoints(self) -> str:
        """Directory that the program may fill with checkpoints."""
        return self.root + "/checkpoints"

    @property
    def attempts(self) -> str:
        """Directory of the attempt records."""
        return self.root + "/attempts"

    @property
    def sweep_loss_rate(self) -> str:
        """``loss_rate.json`` of the sweep that the trial lies in."""
        return self.root + "/../../loss_rate.json"

    def attempt(self, number: int) -> str:
        """Record of attempt ``number`` (1, 2, ...)."""
        return f"{self.root}/attempts/{number}.json"


class ArrayPaths:
    """Files of one submitted array, below ``root``."""

    __slots__ = ("root",)

    def __init__(self, root: str):
        """Name the files of the array in directory ``root``."""
        self.root = root

    @property
    def script(self) -> str:
        """The script that sbatch got."""
        return self.root + "/array.sbatch"

    @property
    def tasks(self) -> str:
        """Trial directory names, one a line, by array index."""
        return self.root + "/tasks"

    @property
    def log(self) -> str:
        """What Slurm and the shell said before a trial's own log was open."""
        return self.root + "/slurm.log"


class SweepPaths:
    """Files of one sweep, below ``root``."""

    __slots__ = ("root",)

    def __init__(self, root: str):
        """Name the files of the sweep in directory ``root``."""
        self.root = root

    @property
    def name(self) -> str:
        """The sweep's name."""
        return os.path.basename(self.root)

    @property
    def spec(self) -> str:
        """The spec as it was at the last submit."""
        return self.root + "/sweep.yaml"

    @property
    def summary(self) -> str:
        """What was made of the spec: metric, goal, parameter names, profile prices."""
        return self.root + "/sweep.json"

    @property
    def code(self) -> str:
        """Directory that records the code at submit."""
        return self.root + "/code"

    @property
    def journal(self) -> str:
        """Append-only decisions."""
        return self.root + "/journal.jsonl"

    @property
    def lock(self) -> str:
        """Held by the one writer of the journal."""
        return self.root + "/journal.lock"

    @property
    def loss_rate(self) -> str:
        """How often attempts were lost without a word; see ``runtime.loss_rate``."""
        return self.root + "/loss_rate.json"

    @property
    def arrays(self) -> str:
        """Directory of submitted arrays."""
        return self.root + "/arrays"

    @property
    def trials(self) -> str:
        """Directory of trials."""
        return self.root + "/trials"

    @property
    def cache(self) -> str:
        """Directory of what can be computed again."""
        return self.root + "/.cache"

    def array(self, token: str) -> ArrayPaths:
        """Files of the array with this token."""
        return ArrayPaths(f"{self.root}/arrays/{token}")

    def trial(self, name: str) -> TrialPaths:
        """Files of the trial with this directory name."""
        return TrialPaths(f"{self.root}/trials/{name}")

    def leaderboard(self, extension: str) -> str:
        """The leaderboard as ``csv``, ``md`` or ``parquet``."""
        return f"{self.root}/leaderboard.{extension}"
