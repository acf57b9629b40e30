"""Why a program failed: a word for its kind, and a fingerprint that groups equal failures.

Pure but for ``read_tail`` and ``count_oom_kills``. Runs on the compute node, imported only when an
attempt failed. The retry policy on the login node decides by the kind, and holds a sweep back in
which many trials end with one fingerprint.

Covered: Python's tracebacks, also of several ranks (``[rank0]: ``) and chained ones; the words of
CUDA, HIP, glibc, Slurm and the shell. Not covered: causes that no last word, code or counter tells.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal

from orchestrator.runtime.signals import exit_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CUDA_OOM = "cuda_oom"
NON_FINITE = "non_finite"
IMPORT_ERROR = "import_error"
HOST_OOM = "host_oom"
KILLED = "killed"
CANNOT_START = "cannot_start"
DISK_FULL = "disk_full"
STUCK = "stuck"
ERROR = "error"

# The program's way to say that it diverged: run again it would only diverge again.
EXIT_DIVERGED = 65
# What a shell answers for a command that it cannot run, and for one that it does not find.
_EXITS_CANNOT_START = (126, 127)
# A shell answers 128 + n for a command that died of signal n (bash(1), "EXIT STATUS").
_SHELL_SIGNALS = range(129, 129 + 31)

TAIL_BYTES = 64 * 1024
# Without a traceback the reason stands among a program's last lines, or nowhere.
_N_LAST_LINES = 5
_FINGERPRINT_CHARS = 200

# "[rank0]: " of PyTorch, "[default0]:" of torchrun, "0: " of srun --label.
RANK = re.compile(r"^(?:\[(?:default|rank)[0-9]+\]|[0-9]+):\s?")
TRACEBACK = "Traceback (most recent call last)"
EXCEPTION = re.compile(r"^([A-Za-z_][\w.]*)(?::\s?(.*))?$")
# They only pass on that another process failed, whose own traceback stands before theirs.
WRAPPERS = frozenset(
    {
        "CalledProcessError",
        "ChildFailedError",
        "DistBackendError",
        "ProcessExitedException",
        "ProcessRaisedException",
        "SystemExit",
    }
)

# In the order of their precedence: of two ranks one runs out of memory, and the other loses it.
_TYPES = {
    "OutOfMemoryError": CUDA_OOM,
    "MemoryError": HOST_OOM,
    "_ArrayMemoryError": HOST_OOM,
    "FloatingPointError": NON_FINITE,
    "ModuleNotFoundError": IMPORT_ERROR,
    "ImportError": IMPORT_ERROR,
}
_WORDS = (
    (
        CUDA_OOM,
        re.compile(
            r"CUDA out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED"
            r"|CUDNN_STATUS_ALLOC_FAILED|HIP out of memory|HIP error: out of memory"
            r"|cudaErrorMemoryAllocation|hipErrorOutOfMemory"
        ),
    ),
    (
        HOST_OOM,
        re.compile(
            r"DefaultCPUAllocator: (?:can't allocate|not enough) memory|std::bad_alloc"
            r"|Cannot allocate memory"
        ),
    ),
    (
        DISK_FULL,
        # The last is what torch.save says of a file that is shorter than what it wrote.
        re.compile(
            r"No space left on device|Disk quota exceeded"
            r"|inline_container\.cc:\d+\].*unexpected pos"
        ),
    ),
    (IMPORT_ERROR, re.compile(r"^\S*python[\d.]*: No module named ")),
)
_NON_FINITE_WORDS = re.compile(
    r"\b(?:loss|grad\w*|metric|objective|activations?|weights?|logits|norm)\b"
    r"[^.;]{0,60}?\b(?:nan|inf|infinite|infinity|non-?finite|not finite)\b"
    r"|\b(?:nan|inf|infinite|non-?finite)\b[^.;]{0,30}?\b(?:loss|grad\w*|norm)\b"
    r"|returned nan values",
    re.IGNORECASE,
)
_SLURM_OOM = re.compile(
    r"oom[-_]kill|Out Of Memory|out-of-memory handler|Exceeded (?:job|step) memory limit"
)
_LOADER_KILLED = re.compile(r"DataLoader worker .*killed by signal: Killed")
# What the trial's script runs instead of the program when it cannot get as far.
_SCRIPT_GAVE_UP = re.compile(r"^(?:no working directory /|environment failed: )")
_FOREIGN = ("[orchestrator]", "slurmstepd:", "srun:")

_VARYING = (
    (re.compile(r"0x[0-9a-fA-F]+"), "#"),
    (re.compile(r"(?:[A-Za-z]:)?(?:~|\.{1,2})?/[^\s'\"`,;:)\]}>]*"), "/"),
    (re.compile(r"\b(?=[0-9a-fA-F-]*\d)[0-9a-fA-F]{8,}(?:-[0-9a-fA-F]{4,})*\b"), "#"),
    (re.compile(r"\d+(?:[.,]\d+)*(?:[eE][+-]?\d+)?"), "#"),
    (re.compile(r"# ?(?:bytes|[KMGT]i?B)\b"), "#"),
    (re.compile(r"\s+"), " "),
)


def describe_failure(
    exit_code: int, log: tuple[str, int], *, cause: str, kind: str, has_started: bool
) -> dict[str, str]:
    """Describe a failure as it stands in the attempt's record: ``cause, kind, fingerprint``.

    Args:
        exit_code: The program's, minus the signal's number for a death by signal.
        log: The trial's log, and where this attempt's part of it begins.
        cause: In words; empty: the exit code and the last words of the log.
        kind: One of the kinds above; empty: as ``classify`` finds.
        has_started: Whether the program could be started at all.
    """
    tail = cause or read_tail(*log)
    oom_kills = count_oom_kills()
    found, fingerprint = classify(exit_code, tail, oom_kills=oom_kills, has_started=has_started)
    if not cause:
        words, last = exit_words(exit_code), last_words(tail)
        cause = f"{words}: {last}" if last else words
    return {"cause": cause, "kind": kind or found, "fingerprint": fingerprint}


def classify(
    exit_code: int, tail: str, *, oom_kills: int = 0, has_started: bool = True
) -> tuple[str, str]:
    """Name the kind of a failure, and fingerprint it.

    Args:
        exit_code: The program's, minus the signal's number for a death by signal.
        tail: The end of what the program wrote, of this attempt alone.
        oom_kills: How many processes of the job the kernel killed for want of memory.
        has_started: Whether the program could be started at all.

    Returns:
        One of the kinds above, and 12 hexadecimal digits that are the same for the same failure
        of another trial: of the exception's type and its message without numbers and paths.
    """
    lines = _own_lines(tail)
    chains = _last_exceptions(lines)
    kind = _kind_of(exit_code, tail, lines, chains, oom_kills, has_started)
    return kind, _fingerprint(kind, exit_code, lines, chains)


def last_words(tail: str) -> str:
    """Return the last line that says something, without control characters.

    Lines of this runtime and of Slurm's step daemon are passed over. Empty if nothing was said.
    """
    lines = _own_lines(tail)
    return lines[-1].strip()[:200] if lines else ""


def read_tail(log: str, start: int) -> str:
    """Read the end of a log.

    Args:
        log: Its path.
        start: Where the attempt's own part begins, in bytes; earlier attempts wrote what is before.

    Returns:
        At most the last 64 KiB; empty without a log.
    """
    try:
        fd = os.open(log, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start if start <= size else 0, size - TAIL_BYTES))
            return file.read(TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def count_oom_kills(
    membership: str = "/proc/self/cgroup", hierarchy: str = "/sys/fs/cgroup"
) -> int:
    """Count the processes of this Slurm job that the kernel killed for want of memory.

    0 where the cgroup is not the job's alone, or cannot be read. Both versions are understood
    (cgroups(7); ``memory.events`` of version 2 counts what is below too).
    """
    try:
        with open(membership, encoding="ascii") as file:
            groups = [line.rstrip("\n").split(":", 2) for line in file]
        for _, controllers, path in groups:
            if "/job_" not in path:
                continue
            if not controllers:
                counter = f"{hierarchy}{path}/memory.events"
            elif "memory" in controllers.split(","):
                counter = f"{hierarchy}/memory{path}/memory.oom_control"
            else:
                continue
            with open(counter, encoding="ascii") as file:
                values = dict(line.split() for line in file)
            return int(values.get("oom_kill", 0))
    except (OSError, ValueError):
        pass  # no cgroups here, or not ours to read
    return 0


def _own_lines(tail: str) -> list[str]:
    """The program's own lines that say something, printable, without the prefix of a rank."""
    lines = []
    for line in tail.splitlines():
        text = "".join(c for c in line.expandtabs(4) if c.isprintable()).rstrip()
        if text and not text.lstrip().startswith(_FOREIGN):
            lines.append(text)
    return lines


def _last_exceptions(lines: Sequence[str]) -> list[list[tuple[str, str]]]:
    """Find the last traceback of every rank: a chain of (type, message), the raised one last.

    An exception that was raised while another was handled stands in one chain with it.
    """
    chains: dict[str, list[tuple[str, str]]] = {}
    is_inside: dict[str, bool] = {}
    is_chained: dict[str, bool] = {}
    for line in lines:
        match = RANK.match(line)
        rank = match[0] if match else ""
        text = line[len(rank) :]
        if text.lstrip(" +|").startswith(TRACEBACK):
            is_inside[rank] = True
            if not is_chained.pop(rank, False):
                chains[rank] = []
        elif text.startswith(("During handling of the above", "The above exception was")):
            is_chained[rank] = True
        elif is_inside.get(rank) and not text.startswith(" "):
            found = EXCEPTION.match(text)
            if found:
                name = found[1].rpartition(".")[2]
                chains.setdefault(rank, []).append((name, found[2] or ""))
                is_inside[rank] = False
    kept = []
    for chain in chains.values():
        own = [pair for pair in chain if pair[0] not in WRAPPERS]
        if own:
            kept.append(own)
    return kept or [chain for chain in chains.values() if chain]


def _kind_of(
    exit_code: int,
    tail: str,
    lines: Sequence[str],
    chains: Sequence[Sequence[tuple[str, str]]],
    oom_kills: int,
    has_started: bool,
) -> str:
    gave_up = exit_code == 1 and bool(lines) and _SCRIPT_GAVE_UP.match(lines[0]) is not None
    if not has_started or gave_up or exit_code in _EXITS_CANNOT_START:
        return CANNOT_START
    if exit_code == EXIT_DIVERGED:
        return NON_FINITE
    exceptions = [pair for chain in chains for pair in chain]
    # A traceback that was printed and survived must not be taken for the end: with one, only it
    # and the last lines count; without one, anything that was said.
    said = lines[-_N_LAST_LINES:] if exceptions else lines
    kind = _kind_of_words(exceptions, said)
    if kind is not None:
        return kind
    was_killed = exit_code < 0 or exit_code in _SHELL_SIGNALS
    by_sigkill = exit_code in (-signal.SIGKILL, 128 + signal.SIGKILL)
    loader_killed = any(_LOADER_KILLED.search(message) for _, message in exceptions)
    slurm_said = any(
        line.lstrip().startswith(("slurmstepd:", "srun:")) and _SLURM_OOM.search(line)
        for line in tail.splitlines()
    )
    if slurm_said or (oom_kills > 0 and (by_sigkill or loader_killed)):
        return HOST_OOM
    if not was_killed and any(
        _NON_FINITE_WORDS.search(text)
        for text in [*(message for _, message in exceptions), *lines[-1:]]
    ):
        return NON_FINITE
    return KILLED if was_killed else ERROR


def _kind_of_words(exceptions: Iterable[tuple[str, str]], said: Sequence[str]) -> str | None:
    """The kind that types and messages of exceptions tell, or what was said; None if neither."""
    pairs = list(exceptions)
    found = {_TYPES[name] for name, _ in pairs if name in _TYPES}
    texts = [f"{name}: {message}" for name, message in pairs] + list(said)
    found |= {kind for kind, words in _WORDS if any(words.search(text) for text in texts)}
    order = (CUDA_OOM, HOST_OOM, DISK_FULL, NON_FINITE, IMPORT_ERROR)
    return next((kind for kind in order if kind in found), None)


def _fingerprint(
    kind: str,
    exit_code: int,
    lines: Sequence[str],
    chains: Sequence[Sequence[tuple[str, str]]],
) -> str:
    """Hash what two trials that fail alike have in common."""
    last = [chain[-1] for chain in chains]
    telling = next((pair for pair in last if _kind_of_words([pair], []) == kind), None)
    if telling is None and last:
        telling = last[-1]
    if telling is not None:
        parts = (kind, *telling)
    elif kind in (KILLED, HOST_OOM):
        parts = (kind, str(exit_code), "")  # its last line was only what it was just doing
    else:
        parts = (kind, "", lines[-1] if lines else str(exit_code))
    text = "|".join((parts[0], parts[1], normalise(parts[2])))
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]


def normalise(message: str) -> str:
    """Strip a message of what differs from trial to trial: numbers, sizes, hex, paths."""
    text = message.strip()
    for pattern, instead in _VARYING:
        text = pattern.sub(instead, text)
    return text[:_FINGERPRINT_CHARS]
