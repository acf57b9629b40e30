"""What sbatch's words mean: taken, refused, or open; and the answer of ``--test-only``. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Words in sbatch's last breath after which the controller may have taken the job all the same
# (seen with "Socket timed out"). Anything else is a refusal, and even that is checked by token.
AMBIGUOUS = re.compile(
    r"timed out|contact slurm|zero bytes|connection|communication|socket|transport|"
    r"protocol|unexpected message|receiv|temporarily|queue full|killed|i/o error",
    re.IGNORECASE,
)
# Limits on how much may be queued or used at once, as sbatch and sites' job_submit plugins name
# them (AssocMaxSubmitJobLimit, QOSMaxSubmitJobPerUserLimit, AssocGrpSubmitJobsLimit, ...). A limit
# on a single job (MaxCpuPerJob, MaxWallDuration) stays however long one waits.
FULL = re.compile(r"\w*(?:Max|Grp)Submit\w*", re.IGNORECASE)
# What getopt_long(3) says of an option that sbatch does not have, or has with an argument.
NO_OPTION = re.compile(r"unrecognized option|option '[^']*' (?:is|requires|doesn)", re.IGNORECASE)
_START = re.compile(r"Job \d+ to start at (\S+) .*?(?: on nodes (\S+))?(?: in partition \S+)?$")


@dataclass(frozen=True)
class ScriptAnswer:
    """What ``sbatch --test-only`` said of one script."""

    accepted: bool | None
    """Whether it would be taken; None: Slurm did not answer."""
    words: str
    """Its words, on one line."""
    start: str = ""
    """When it could start, as Slurm writes it; empty if it did not say."""
    nodes: str = ""
    """Where it would."""
    is_full: bool = False
    """Refused only because too many jobs are queued."""


def parse_test_only(code: int, text: str) -> ScriptAnswer:
    """Read the exit code and the words of ``sbatch --test-only``.

    22.05 and later print to standard error ``sbatch: Job 3 to start at 2026-11-21T15:07:33 using 1
    processors on nodes n1 in partition spot`` and exit 0, or ``allocation failure: ...`` and not 0.
    """
    lines = [line.removeprefix("sbatch: ").strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    start = next((match for line in lines if (match := _START.search(line))), None)
    words = "; ".join(
        line.removeprefix("error: ").removeprefix("allocation failure: ") for line in lines
    )
    if code == 0:
        if start is None:
            return ScriptAnswer(True, words)
        return ScriptAnswer(True, words, start[1], start[2] or "")
    if FULL.search(words):
        return ScriptAnswer(False, words, is_full=True)
    if not words or AMBIGUOUS.search(words):
        return ScriptAnswer(None, words or f"exit {code} without a word")
    return ScriptAnswer(False, words)
