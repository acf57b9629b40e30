"""The tiny job of ``doctor --probe``: its script's body, its answer, and what that means. Pure.

The body runs on the compute node as plain bash, so that it answers also where Python is missing.
It writes ``key=value`` lines aside and renames them, so that a reader sees all of them or none.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.domain.finding import OK, PROBLEM, WARNING, Finding
from orchestrator.domain.folder_findings import find_clock
from orchestrator.domain.partition import PartitionProfile
from orchestrator.domain.plain_text import one_line

REPORT = "report"
LOCK = "lock"
_BODY = """\
trap '' USR2
cd -- {folder} || exit 1
{{
  echo "node=$HOSTNAME"
  [ -d {workdir} ] && echo "workdir=$(stat -c %i {workdir} 2>/dev/null)"
  if [ -x {python} ]; then
    if words=$({python} -c 'import platform, orchestrator.runtime.attempt
print(platform.python_version())' 2>&1); then
      echo "python=$words"
    else
      echo "import_error=$(printf %s "$words" | tail -n 1)"
    fi
    if {python} -c 'import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try: fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError: sys.exit(3)' {lock} 2>/dev/null; then echo lock=taken; else echo "lock=$?"; fi
  fi
  missing=
  for command in srun scontrol squeue; do
    command -v $command >/dev/null 2>&1 || missing="$missing $command"
  done
  echo "missing=$missing"
  now=$(date +%s.%N)
  : > tick
  echo "clock=$now"
  echo "server_clock=$(stat -c %.9Y tick)"
}} > {report}.new
mv {report}.new {report}
"""


@dataclass(frozen=True)
class ProbeResult:
    """What became of a profile's probe."""

    answer: Mapping[str, str] | None = None
    """What the job wrote; None if nothing arrived."""
    waiting: str | None = None
    """Slurm's reason why it had not started in time; None if it had."""
    ended: bool = False
    """Whether it left the queue without an answer."""
    refused: str | None = None
    """sbatch's words, if it was refused."""
    log: str = ""
    """The last line of its output."""


def probe_body(folder: str, workdir: str, python: str) -> str:
    """Return the commands of a probe that answers into ``folder``."""
    return _BODY.format(
        folder=shlex.quote(folder),
        workdir=shlex.quote(workdir),
        python=shlex.quote(python),
        lock=LOCK,
        report=REPORT,
    )


def parse_answer(text: str) -> dict[str, str]:
    """Read ``key=value`` lines."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {key: one_line(value) for key, separator, value in pairs if separator}


def find_probe(
    profile: PartitionProfile,
    result: ProbeResult,
    *,
    python: str,
    workdir: str,
    workdir_inode: int | None,
    server_ahead_s: float | None,
    wait_s: float,
) -> list[Finding]:
    """Say what a probe found.

    Args:
        profile: Whose partition it ran on.
        result: What became of it.
        python: The Python that trials use.
        workdir: The directory that programs start in.
        workdir_inode: Its inode here; None if it is unknown.
        server_ahead_s: How far the file server's clock is ahead of this machine's.
        wait_s: How long the answer was waited for.
    """
    answer = result.answer
    if answer is None:
        return [_no_answer(profile, result, wait_s)]
    name = profile.name
    node = answer.get("node") or "the node"
    findings = [
        Finding(OK, "probe-results", f"Node {node} writes to the results folder.", profile=name),
        _workdir(name, node, answer.get("workdir"), workdir, workdir_inode),
        _python(name, node, answer, python),
        _commands(profile, node, answer.get("missing", "").split()),
        _lock(name, node, answer.get("lock")),
        find_clock(_node_ahead(answer, server_ahead_s), f"Node {node}", "probe-clock", name),
    ]
    return [finding for finding in findings if finding is not None]


def _no_answer(profile: PartitionProfile, result: ProbeResult, wait_s: float) -> Finding:
    name = profile.name
    if result.refused is not None:
        return Finding(
            PROBLEM,
            "probe-refused",
            f"Slurm refuses a job there: {one_line(result.refused)}.",
            "",
            "Set account, qos, constraint or sbatch options in the profile as your site wants.",
            name,
        )
    if result.ended:
        said = f" Its output ends: {one_line(result.log)}" if result.log else ""
        return Finding(
            PROBLEM,
            "probe-results",
            "The job ended, and nothing arrived in the results folder: the nodes do not share it, "
            f"or may not write there.{said}",
            "",
            "Name a folder on a file system that the nodes share with RESULTS=.",
            name,
        )
    return Finding(
        WARNING,
        "probe-waiting",
        f"The job had not answered after {wait_s:.0f} s"
        + (f" (it waits: {one_line(result.waiting)})" if result.waiting else "")
        + ": nothing is known about the nodes.",
        "It was cancelled.",
        "Try again when nodes are free, or with a longer --wait.",
        name,
    )


def _workdir(name: str, node: str, there: str | None, workdir: str, here: int | None) -> Finding:
    if there is None:
        return Finding(
            PROBLEM,
            "probe-workdir",
            f"Node {node} does not see the working directory {workdir}.",
            "Trials there fail with these words, and are not started elsewhere.",
            "Submit from a directory that the nodes share, or set `workdir:` in the sweep.",
            name,
        )
    if here is not None and there.isdigit() and int(there) != here:
        return Finding(
            WARNING,
            "probe-workdir",
            f"Node {node} has a directory {workdir}, but it seems to be another one.",
            "",
            "Submit from a directory that the nodes share, or set `workdir:` in the sweep.",
            name,
        )
    return Finding(OK, "probe-workdir", f"Node {node} shares the working directory.", profile=name)


def _python(name: str, node: str, answer: Mapping[str, str], python: str) -> Finding:
    if "python" in answer:
        return Finding(
            OK, "probe-python", f"Node {node} runs our Python ({answer['python']}).", profile=name
        )
    if "import_error" in answer:
        return Finding(
            PROBLEM,
            "probe-python",
            f"{python} is on node {node}, but does not run the orchestrator: "
            f"{answer['import_error']}.",
            "",
            "Install where the nodes see all of it, the Python that .venv was made of included.",
            name,
        )
    return Finding(
        PROBLEM,
        "probe-python",
        f"Node {node} has no {python}.",
        "",
        "Install (`make setup`) in a folder that the nodes share.",
        name,
    )


def _commands(profile: PartitionProfile, node: str, missing: list[str]) -> Finding | None:
    if not missing:
        return None
    needs_srun = "srun" in missing and profile.layout == "step"
    return Finding(
        PROBLEM if needs_srun else WARNING,
        "probe-commands",
        f"Node {node} has no {', '.join(missing)} on PATH.",
        "A trial that cannot ask for its requeue is resumed by the next `make submit`.",
        "Add them to PATH in `environment:`" + (", or set `layout: batch`." if needs_srun else "."),
        profile.name,
    )


def _lock(name: str, node: str, word: str | None) -> Finding | None:
    """Say whether the node sees a lock that this machine holds; 3 is "refused", as it should."""
    if word != "taken":
        return None
    return Finding(
        WARNING,
        "probe-locks",
        f"Node {node} does not see this machine's locks in the results folder.",
        "Trials need none: they claim by link(2).",
        "Submit a sweep from one machine at a time.",
        name,
    )


def _node_ahead(answer: Mapping[str, str], server_ahead_s: float | None) -> float | None:
    """Return the node's lead over this machine; the file server's clock is what both have seen."""
    try:
        behind_server = float(answer["server_clock"]) - float(answer["clock"])
    except (KeyError, ValueError):
        return None
    return None if server_ahead_s is None else server_ahead_s - behind_server
