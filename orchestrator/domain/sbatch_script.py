"""What sbatch and bash would make of a rendered script, and what the node side misses in it. Pure.

``check_misread`` holds for every script that is rendered: sbatch would misread it without a word.
``find_mistakes`` is the whole list, for ``orchestrator lint``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from orchestrator.domain.sbatch_options import Directive, read_directives

# sbatch refuses scripts over 4 MB; a script of ours has a few kilobytes.
MAX_SCRIPT_BYTES = 2**20
# Each of these may stand once in a script: twice, sbatch silently takes the last.
_ONCE = ("array", "job-name", "requeue", "no-requeue", "signal", "output", "open-mode")
_OPTION = re.compile(r"#SBATCH\s+--([A-Za-z0-9-]+)")
# A comment whose first word could be a misspelt SBATCH, with an option after it.
_NEAR_MISS = re.compile(r"(\s*)#(\s*)([A-Za-z]{5,8})(\s+)--?[A-Za-z]")
_SIMILAR = 0.7

# What each kind of script needs, and what breaks without it.
_HEADER = {
    "job-name": "trials and arrays are found in Slurm's queue by it",
    "partition": "the job would go to the cluster's default partition",
    "nodes": "the job would get what Slurm takes for enough",
    "cpus-per-task": "the program would get one CPU",
    "signal": "the program would not be asked to checkpoint before its time is up",
    "chdir": "the program would start where `make submit` was typed, or in /tmp",
    "output": "what Slurm says about the job would be written to its working directory",
    "open-mode": "a requeued job would wipe its log; write --open-mode=append",
}
_REQUEUE = "whether Slurm restarts a preempted job would be left to the site"
_BODY = {
    "trial": (
        (r"^exec .*\$\{attempt\[@\]\}|^\s*\"\$\{attempt\[@\]\}\"", "never starts the attempt"),
        (r"-m orchestrator\.runtime\.attempt", "has no orchestrator.runtime.attempt"),
        (r"--trial-dir", "does not tell the attempt its --trial-dir"),
        (r"\$\{program\[@\]\}|ORCHESTRATOR_WORD_", "does not hand the program to the attempt"),
        (r"^\s*(cd|pushd) ", "does not change to the working directory"),
    ),
    "array": ((r"^exec bash .*trial\.sbatch", "does not go to the trial's own script"),),
    "supervisor": ((r"^exec .*-m orchestrator", "does not start the supervisor"),),
}


@dataclass(frozen=True)
class ScriptMistake:
    """One thing that is wrong with a script."""

    line: int | None
    """Its 1-based line in the rendered script; None: something is missing."""
    check: str
    """A stable name for programs, such as ``option``."""
    message: str
    """In words."""


def check_misread(text: str) -> ScriptMistake | None:
    """Return the first thing that sbatch would misread without a word; None if there is none."""
    if len(text) > MAX_SCRIPT_BYTES:
        return ScriptMistake(
            None,
            "size",
            f"the script has more than {MAX_SCRIPT_BYTES} characters; sbatch takes no "
            "such script. Put long values into a file",
        )
    if not text.startswith("#!"):
        return ScriptMistake(None, "shebang", "the script must start with #!/bin/bash")
    if "#SBATCH" not in text:
        return None
    return next(iter(_misread_lines(text.split("\n"))), None)


def find_mistakes(
    text: str,
    kind: str,
    version: tuple[int, ...] | None = None,
    more: Collection[str] = (),
) -> list[ScriptMistake]:
    """Return all mistakes of a script.

    Args:
        text: The script.
        kind: ``trial``, ``array`` or ``supervisor``.
        version: Slurm's release; None: any.
        more: Options that the site's plugins add.
    """
    lines = text.split("\n")
    found = [*_misread_lines(lines)]
    whole = check_misread(text)
    if whole is not None and whole.line is None:
        found.append(whole)
    directives: list[Directive] = []
    for number, line in _header(lines):
        if line.startswith("#SBATCH"):
            read = read_directives(line, version, more)
            directives += read
            found += [
                ScriptMistake(number, "option", item.mistake) for item in read if item.mistake
            ]
            found += [
                ScriptMistake(number, "missing", f"--open-mode={item.value}: {_HEADER[item.name]}")
                for item in read
                if item.name == "open-mode" and item.value != "append"
            ]
        elif (words := near_miss(line)) is not None:
            found.append(ScriptMistake(number, "near-miss", words))
    return found + _missing(text, kind, directives)


def near_miss(line: str) -> str | None:
    """Tell whether a comment was meant as an ``#SBATCH`` line, in words; None if not."""
    match = _NEAR_MISS.match(line)
    if match is None:
        return None
    before, gap, word, _ = match.groups()
    ratio = difflib.SequenceMatcher(None, word.upper(), "SBATCH").ratio()
    if ratio < _SIMILAR or (word == "SBATCH" and not gap and not before):
        return None
    shown = line.strip()[:40]
    return f"{shown!r} is a comment to sbatch; write #SBATCH at the start of the line"


def _header(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Yield the lines that sbatch looks at, up to the first command."""
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            return
        yield number, line


def _misread_lines(lines: list[str]) -> Iterator[ScriptMistake]:
    seen: set[str] = set()
    number = 0
    for number, line in enumerate(lines, start=1):
        if line.startswith("#SBATCH"):
            name = _once_name(line)
            if name in seen:
                yield ScriptMistake(number, "twice", f"--{name} stands twice")
            seen.update([name] if name else [])
        elif line.strip() and not line.lstrip().startswith("#"):
            break
    for late, line in enumerate(lines[number:], start=number + 1):
        if line.startswith("#SBATCH"):
            yield ScriptMistake(
                late,
                "late",
                f"{line!r} stands after the first command (line {number}); sbatch would ignore it",
            )


def _once_name(line: str) -> str | None:
    """Return which option of ``_ONCE`` a line states; sbatch takes shortened names too."""
    match = _OPTION.match(line)
    if match is None:
        return None
    short = [name for name in _ONCE if name == match[1] or name.startswith(match[1])]
    return match[1] if match[1] in short else (short[0] if len(short) == 1 else None)


def _missing(text: str, kind: str, directives: list[Directive]) -> list[ScriptMistake]:
    stated = {item.name: item.value for item in directives}
    found = [
        ScriptMistake(None, "missing", f"no #SBATCH --{name}: {why}")
        for name, why in _HEADER.items()
        if name not in stated
    ]
    if not {"requeue", "no-requeue"} & stated.keys():
        found.append(
            ScriptMistake(None, "missing", f"no #SBATCH --requeue or --no-requeue: {_REQUEUE}")
        )
    if kind == "array" and "array" not in stated:
        why = "one trial would run instead of all; write it where job.array is set"
        found.append(ScriptMistake(None, "missing", f"no #SBATCH --array: {why}"))
    if kind == "supervisor" and "singleton" not in (stated.get("dependency") or ""):
        why = "two supervisors of a sweep would run at once"
        found.append(ScriptMistake(None, "missing", f"no #SBATCH --dependency=singleton: {why}"))
    for pattern, words in _BODY[kind]:
        if not re.search(pattern, text, re.MULTILINE):
            found.append(ScriptMistake(None, "missing", f"the {kind}'s script {words}"))
    return found
