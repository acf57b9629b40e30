"""The faults that the orchestrator must survive, by number, and the tests named after them.

A test that shows a fault starts with its number: ``test_a03_...``. ``python -m
tests.faults.catalogue``
lists all of them with their tests; ``test_catalogue.py`` holds the list complete.
"""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]

FAULTS = {
    # Submission
    "a01": "killed before sbatch, the intent written",
    "a02": "killed after sbatch, the id not yet written down",
    "a03": "sbatch says that it timed out, the job exists",
    "a04": "sbatch says that it timed out, there is no job",
    "a05": "our own time limit ends sbatch while it waits for a full queue",
    "a06": "sbatch succeeds and prints more than an id",
    "a07": "the controller forgets the job and gives its id to another",
    "a08": "the controller is away for minutes",
    "a09": "the accounting daemon is away",
    "a10": "there is no accounting at all",
    "a11": "two submissions at once, on one host or two",
    "a12": "more array tasks or jobs than the limits allow",
    "a13": "some arrays of a submission are accepted, then it fails",
    "a14": "a limit of the account is reached in the midst of a sweep",
    "a15": "wrong partition or account, a typo in an option",
    "a16": "a request that can never run",
    "a17": "the disk is full while the intent is written",
    "a18": "the sweep's file is edited between two submissions",
    # Preemption and requeue
    "b01": "requeued at once: no grace, no signal",
    "b02": "requeued after a grace period, with the user signal",
    "b03": "Slurm runs a finished job again (24.05 and later)",
    "b04": "a clean exit within the grace, whatever Slurm calls it",
    "b05": "preempted jobs are cancelled, not requeued",
    "b06": "gang scheduling: no grace, no signal, only SIGTERM",
    "b07": "held for ever after five exits within the grace",
    "b08": "held because a launch or prolog failed",
    "b09": "the requeue command fails",
    "b10": "the last task of an array requeues itself",
    "b11": "an operator requeues a finished array",
    "b12": "preempted while a checkpoint is being written",
    "b13": "a checkpoint takes longer than the grace",
    "b14": "a second signal while the first is handled",
    "b15": "a signal before its handler is there",
    "b16": "a signal at the instant of the commit",
    "b17": "interrupted again and again without progress",
    "b18": "suspended for hours",
    "b19": "cancelled by a person",
    "b20": "out of time",
    "b21": "held back for two minutes after a requeue",
    # Nodes and processes
    "c01": "a node loses power",
    "c02": "a node is given up while its trial lives on: two copies",
    "c03": "both copies commit in the same millisecond",
    "c04": "out of memory on the host",
    "c05": "the program alone is killed",
    "c06": "a broken node fails every trial within seconds",
    "c07": "every trial fails in the same way",
    "c08": "no heartbeat, and Slurm says that it runs",
    "c09": "a superseded copy goes on writing",
    "c10": "clocks that disagree",
    "c11": "process ids and host names that come again after a reboot",
    # Files
    "d01": "metrics cut short, empty or full of zeros",
    "d02": "NaN, infinity, numbers that overflow",
    "d03": "duplicate keys",
    "d04": "huge numbers, deep nesting, wrong types",
    "d05": "a gigabyte, a pipe, a device or a link where a file should be",
    "d06": "ids and numbers that change their type",
    "d07": "the texts NA, null and None",
    "d08": "an objective of mixed types",
    "d09": "ties, no trial, one trial, only invalid ones",
    "d10": "the disk fills during commit or merge",
    "d11": "read-only folders, I/O errors, stale handles",
    "d12": "a file that a network file system does not show yet",
    "d13": "a reply of the file server is lost",
    "d14": "temporary files that killed writers left",
    "d15": "merging while trials write",
    "d16": "the sweep's folder is moved or removed",
    "d17": "too many files",
    # Hostile or odd input
    "e01": "values that are shell code",
    "e02": "values that are sbatch directives",
    "e03": "values that are template code",
    "e04": "templates that reach into Python",
    "e05": "a misspelt name in a template",
    "e06": "a template that renders without end",
    "e07": "names that are paths, or too long, or twins",
    "e08": "links planted where we write or read",
    "e09": "pickles of strangers",
    "e10": "markup in names, in an HTML report",
    "e11": "formulas in CSV",
    "e12": "YAML that explodes",
    "e13": "YAML that means something else than it looks",
    "e14": "names in any script",
    "e15": "separators in what Slurm echoes, jobs of others with our name",
    "e16": "secrets among the parameters",
    "e17": "odd environments",
    "e18": "a wrapper around sbatch that prints",
    "e19": "folders that others can write",
    "e20": "terminal escape codes in foreign text",
}
WITHOUT_TEST = {"e10": "there is no HTML report yet; its escaping comes with it"}

_TEST = re.compile(r"^(?:async )?def test_([a-e][0-9]{2})_(\w+)", re.MULTILINE)


def find_tests() -> dict[str, list[str]]:
    """Return the tests of each fault as ``file::test``."""
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for number, rest in _TEST.findall(path.read_text(encoding="utf-8")):
            where = f"{path.relative_to(TESTS)}::test_{number}_{rest}"
            found.setdefault(number, []).append(where)
    return found


if __name__ == "__main__":
    tests = find_tests()
    for number, title in FAULTS.items():
        print(f"{number.upper()}  {title}")
        for where in tests.get(number, [f"no test: {WITHOUT_TEST.get(number, 'missing')}"]):
            print(f"       {where}")
    print(f"{len(tests)} of {len(FAULTS)} faults have a test")
