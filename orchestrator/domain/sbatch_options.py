"""The options of sbatch, and reading ``#SBATCH`` lines as sbatch does. Pure.

The table is that of Slurm's own source (``slurm_opt.c`` of 22.05, 23.02, 23.11, 24.05, 24.11,
25.05, 25.11 and 26.05). Plugins of a site (SPANK) add options: those of pyxis are known here,
others are named by ``sbatch --help`` there, or by the templates (``lint: allow --name``).

Not covered: what a value may be, which ``sbatch --test-only`` tells on a cluster.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection
from dataclasses import dataclass

from orchestrator.domain.spec_tree import nearest

_REQUIRED = """
account acctg-freq array autocomplete batch bb bbf begin chdir cluster cluster-constraint clusters
comment constraint container container-id container-type context core-spec cores-per-socket
cpu-freq cpus-per-gpu cpus-per-task deadline delay-boot dependency distribution error exclude
export export-file extra extra-node-info gid gpu-bind gpu-freq gpus gpus-per-node gpus-per-socket
gpus-per-task gres gres-flags hint input job-name kill-on-invalid-dep licenses mail-type mail-user
mcs-label mem mem-bind mem-per-cpu mem-per-gpu mem-update mincpus network nodefile nodelist nodes
ntasks ntasks-per-core ntasks-per-gpu ntasks-per-node ntasks-per-socket ntasks-per-tres open-mode
output partition power prefer priority profile qos reservation resources segment signal
sockets-per-node switches tasks-per-node thread-spec threads-per-core time time-min tmp tres-bind
tres-per-task uid wait-all-nodes wckey wrap
"""
_OPTIONAL = "exclusive get-user-env nice no-kill oom-kill-step propagate requeue resv-ports"
_FLAGS = """
consolidate-segments contiguous external help hold ignore-pbs no-requeue overcommit oversubscribe
parsable quiet reboot spread-job spread-segments stepmgr test-only usage use-min-nodes verbose
version wait
"""
# https://github.com/NVIDIA/pyxis/wiki/Usage
_PYXIS = """
container-image container-mounts container-workdir container-name container-save container-env
container-mount-home no-container-mount-home container-remap-root no-container-remap-root
container-entrypoint no-container-entrypoint container-entrypoint-log container-writable
container-readonly
"""
_SHORT = {
    "A": "account",
    "a": "array",
    "b": "begin",
    "D": "chdir",
    "M": "clusters",
    "C": "constraint",
    "S": "core-spec",
    "c": "cpus-per-task",
    "d": "dependency",
    "m": "distribution",
    "e": "error",
    "x": "exclude",
    "B": "extra-node-info",
    "G": "gpus",
    "h": "help",
    "H": "hold",
    "i": "input",
    "J": "job-name",
    "L": "licenses",
    "k": "no-kill",
    "F": "nodefile",
    "w": "nodelist",
    "N": "nodes",
    "n": "ntasks",
    "o": "output",
    "O": "overcommit",
    "s": "oversubscribe",
    "p": "partition",
    "q": "qos",
    "Q": "quiet",
    "t": "time",
    "v": "verbose",
    "V": "version",
    "W": "wait",
}
# The release that brought an option, for those younger than 22.05.
_SINCE = {
    "autocomplete": (23, 2),
    "container-id": (23, 2),
    "extra": (23, 2),
    "tres-per-task": (23, 2),
    "tres-bind": (23, 11),
    "resv-ports": (24, 5),
    "segment": (24, 5),
    "stepmgr": (24, 5),
    "oom-kill-step": (24, 11),
    "external": (25, 5),
    "resources": (25, 11),
    "consolidate-segments": (25, 11),
    "spread-segments": (25, 11),
    "container-type": (26, 5),
    "mem-update": (26, 5),
}
_GONE = {"power": (24, 5)}

_REQUIRED_SET = frozenset(_REQUIRED.split())
_OPTIONAL_SET = frozenset(_OPTIONAL.split())
_FLAG_SET = frozenset(_FLAGS.split())
_PYXIS_SET = frozenset(_PYXIS.split())
KNOWN = _REQUIRED_SET | _OPTIONAL_SET | _FLAG_SET


@dataclass(frozen=True)
class Directive:
    """One option of an ``#SBATCH`` line."""

    name: str
    """Its long name; as written where there is no such option."""
    value: str | None
    """Its value; None without one."""
    mistake: str = ""
    """What is wrong with it, in words; empty if nothing is."""


def read_directives(
    line: str, version: tuple[int, ...] | None = None, more: Collection[str] = ()
) -> list[Directive]:
    """Read the options of one ``#SBATCH`` line, as getopt_long does for sbatch.

    Args:
        line: The whole line.
        version: Slurm's release, to tell options that it does not have; None: any.
        more: Long names of options that the site's plugins add.
    """
    try:
        words = shlex.split(line.removeprefix("#SBATCH"), comments=True)
    except ValueError as error:
        return [Directive("", None, f"cannot be read: {error}".lower())]
    found: list[Directive] = []
    while words:
        word = words.pop(0)
        if word.startswith("--") and len(word) > 2:
            found.append(_long(word[2:], words, version, more))
        elif word.startswith("-") and len(word) > 1:
            found += _short(word[1:], words, version)
        elif word not in ("hetjob", "packjob"):
            found.append(
                Directive("", None, f"{word!r} is no option; sbatch takes `#SBATCH --name=value`")
            )
    return found


def _long(
    text: str, rest: list[str], version: tuple[int, ...] | None, more: Collection[str]
) -> Directive:
    written, equals, value = text.partition("=")
    known = KNOWN | _PYXIS_SET | set(more)
    matches = [written] if written in known else sorted(n for n in known if n.startswith(written))
    if len(matches) > 1:
        return Directive(
            written, value, f"--{written} could be any of {', '.join('--' + m for m in matches)}"
        )
    if not matches:
        # Nothing tells whether the next word is its value: let it be, as the usual case.
        if rest and not rest[0].startswith("-") and not equals:
            rest.pop(0)
        hint = nearest(written.replace("_", "-").lower(), sorted(known)).replace("mean ", "mean --")
        return Directive(written, value, f"sbatch has no option --{written}; {hint}".rstrip("; "))
    name = matches[0]
    if name in _FLAG_SET and equals:
        return Directive(name, value, f"--{name} takes no value")
    if name in _REQUIRED_SET and not equals:
        if not rest or rest[0].startswith("-"):
            return Directive(name, None, f"--{name} needs a value")
        value, equals = rest.pop(0), "="
    if name in _REQUIRED_SET and not value:
        return Directive(name, value, f"--{name} has an empty value")
    if name not in KNOWN and not equals and rest and not rest[0].startswith("-"):
        value, equals = rest.pop(0), "="  # an option of a plugin, which may take one
    return Directive(name, value if equals else None, _age(name, version))


def _short(letters: str, rest: list[str], version: tuple[int, ...] | None) -> list[Directive]:
    found: list[Directive] = []
    while letters:
        letter, letters = letters[0], letters[1:]
        name = _SHORT.get(letter)
        if name is None:
            found.append(Directive(letter, None, f"sbatch has no option -{letter}"))
            return found
        value: str | None = None
        if name in _REQUIRED_SET:
            value = letters or (rest.pop(0) if rest else None)
            letters = ""
            if not value:
                found.append(Directive(name, None, f"-{letter} (--{name}) needs a value"))
                return found
        elif name in _OPTIONAL_SET:
            value, letters = letters or None, ""
        found.append(Directive(name, value, _age(name, version)))
    return found


def _age(name: str, version: tuple[int, ...] | None) -> str:
    if version is None:
        return ""
    if name in _SINCE and version[:2] < _SINCE[name]:
        return f"--{name} came with Slurm {_shown(_SINCE[name])}; here is {_shown(version)}"
    if name in _GONE and version[:2] >= _GONE[name]:
        return f"--{name} is gone since Slurm {_shown(_GONE[name])}; here is {_shown(version)}"
    return ""


def _shown(version: tuple[int, ...]) -> str:
    return f"{version[0]}.{version[1]:02d}"
