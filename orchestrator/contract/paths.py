"""The one place that names files on disk. Paths are strings: the compute node imports this.

::

    results/<sweep>/                         mode 0700
      sweep.yaml                             the spec as it was at the last submit
      sweep.json                             what was made of it: metric, parameters, price
      import.json                            of results that something else made: from where
      code/<hash>/                           the program's tree as it was at a submit
      code/<hash>.{json,patch}               its files' digests; what differed from git's commit
      code/environment-<hash>.json           Python and packages then
      journal.jsonl                          append-only decisions; one writer at a time
      journal.lock                           held by the writer; names it
      loss_rate.json                         how often attempts were lost, for programs to know
      gate/rules.json                        what attempts look at as they start and end
      gate/closed.json                       why no new attempt starts; absent: the gate is open
      gate/opened-<n>.json                   a closed.json of earlier
      gate/failures/<fingerprint>/<trial>    trials that failed so, without having got anywhere
      gate/going_well                        some trial got somewhere: no failure is everybody's
      gate/released.json                     the budget that a release allowed
      gate/held/<name>                       array tasks that the gate holds, one expression a line
      gate/left/<trial>                      the token whose task ended itself at the closed gate
      gate/canary/<trial>.json               a canary's verdict; retired ones end in .retired-<n>
      gate/spend/<node>.jsonl                what attempts cost; only of a sweep with a budget
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
        responses.jsonl                      answers to held-out prompts, if the program writes it
      reproductions/<trial>/<n>/             trials run again by hand, each a small sweep
      leaderboard.{csv,md}
      best.yaml                              the best configuration, as a sweep to submit
      exports/                               the leaderboard for other tools
      report.html                            all of it as one page that needs no network
      confirmation.json                      trials on fresh seeds, to confirm who comes first
      ratings.csv                            people's ratings of answers, as imported
      rating-sheet.csv                       answers for a person to rate
      rating-salt.json                       what makes the sheets' keys blind
      .cache/                                may be deleted at any time: trials.jsonl, what was read
                                             of trials at rest, and stamps of what was written

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
    def responses(self) -> str:
        """What the program answered to held-out prompts, for people to rate; JSON lines."""
        return self.root + "/responses.jsonl"

    @property
    def attempts(self) -> str:
        """Directory of the attempt records."""
        return self.root + "/attempts"

    @property
    def sweep(self) -> str:
        """The folder of the sweep that the trial lies in."""
        return self.root + "/../.."

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


class GatePaths:
    """Files of one sweep's gate, below ``root``; see ``orchestrator.runtime.gate``."""

    __slots__ = ("root",)

    def __init__(self, root: str):
        """Name the files of the gate in directory ``root``."""
        self.root = root

    @property
    def rules(self) -> str:
        """What attempts have to look at."""
        return self.root + "/rules.json"

    @property
    def closed(self) -> str:
        """Why the gate is closed."""
        return self.root + "/closed.json"

    @property
    def failures(self) -> str:
        """Directory of the marks of failed trials, a directory for each fingerprint."""
        return self.root + "/failures"

    @property
    def going_well(self) -> str:
        """Mark that some trial got somewhere."""
        return self.root + "/going_well"

    @property
    def held(self) -> str:
        """Directory of what the gate holds in Slurm's queue."""
        return self.root + "/held"

    @property
    def left(self) -> str:
        """Directory of the trials whose task ended itself at the closed gate."""
        return self.root + "/left"

    @property
    def spend(self) -> str:
        """Directory of the nodes' ledgers."""
        return self.root + "/spend"

    @property
    def canary(self) -> str:
        """Directory of the canaries' verdicts."""
        return self.root + "/canary"

    @property
    def released(self) -> str:
        """The budget that a release allowed; see ``usecases.released_budget``."""
        return self.root + "/released.json"

    def opened(self, number: int) -> str:
        """The ``closed.json`` that was opened as number ``number``."""
        return f"{self.root}/opened-{number}.json"


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
    def imported(self) -> str:
        """Of results that something else made, what they were made of; see ``import_folder``."""
        return self.root + "/import.json"

    @property
    def code(self) -> str:
        """Directory of the code's snapshots."""
        return self.root + "/code"

    def reproductions(self, trial: str) -> str:
        """Directory of a trial's reproductions, one folder each."""
        return f"{self.root}/reproductions/{trial}"

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
    def gate(self) -> GatePaths:
        """What holds its trials back."""
        return GatePaths(self.root + "/gate")

    @property
    def arrays(self) -> str:
        """Directory of submitted arrays."""
        return self.root + "/arrays"

    @property
    def trials(self) -> str:
        """Directory of trials."""
        return self.root + "/trials"

    @property
    def best(self) -> str:
        """The best configuration, as a spec."""
        return self.root + "/best.yaml"

    @property
    def exports(self) -> str:
        """Directory of what is written for other tools."""
        return self.root + "/exports"

    @property
    def cache(self) -> str:
        """Directory of what can be computed again."""
        return self.root + "/.cache"

    @property
    def ratings(self) -> str:
        """People's ratings of answers."""
        return self.root + "/ratings.csv"

    @property
    def rating_sheet(self) -> str:
        """Answers for a person to rate."""
        return self.root + "/rating-sheet.csv"

    @property
    def rating_salt(self) -> str:
        """What makes the keys of rating sheets blind."""
        return self.root + "/rating-salt.json"

    @property
    def confirmation(self) -> str:
        """Which configurations run again on which fresh seeds; see ``domain.confirmation``."""
        return self.root + "/confirmation.json"

    def array(self, token: str) -> ArrayPaths:
        """Files of the array with this token."""
        return ArrayPaths(f"{self.root}/arrays/{token}")

    def trial(self, name: str) -> TrialPaths:
        """Files of the trial with this directory name."""
        return TrialPaths(f"{self.root}/trials/{name}")

    def leaderboard(self, extension: str) -> str:
        """The leaderboard as ``csv`` or ``md``."""
        return f"{self.root}/leaderboard.{extension}"

    @property
    def report(self) -> str:
        """The results as one HTML page."""
        return self.root + "/report.html"
