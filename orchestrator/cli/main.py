"""Entry point: finds the command, runs it, and turns errors into one line and an exit code.

Exit codes: 0 all well, 1 some trials failed, 2 the user's mistake, 3 try again (the cluster does
not answer, or the sweep is locked), 130 interrupted.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from orchestrator import __version__
from orchestrator.cli.json_output import print_error
from orchestrator.contract.errors import EXIT_TRY_AGAIN, EXIT_USER_ERROR, OrchestratorError
from orchestrator.contract.file_errors import explain, is_server_away
from orchestrator.domain.plain_text import one_line

COMMANDS = {
    "plan": "show what a sweep would take, and submit nothing",
    "submit": "submit what is new of a sweep, or has to go on",
    "supervise": "look after it until every trial has ended",
    "release": "open a sweep's gate, and let go what it holds",
    "status": "show where its trials stand, and why some failed",
    "watch": "show progress, cost and the best so far, again and again",
    "logs": "show or follow one trial's log across its attempts",
    "failures": "group what failed by cause, with one traceback each",
    "explain": "tell the whole story of one trial",
    "reproduce": "run one trial again here, and compare its numbers",
    "collect": "merge the results into a ranked leaderboard",
    "report": "write the results as one HTML page",
    "confirm": "run the best again with fresh seeds, and rank them anew",
    "costs": "tell what it took, and what it would have taken otherwise",
    "export": "write the results for other tools",
    "ratings": "write a sheet of answers for people to rate",
    "doctor": "name this site's traps, and what is done about each",
    "lint": "check templates and profiles before anybody submits",
    "new-partition": "draft profile and template of a Slurm partition",
}
EXIT_INTERRUPTED = 130
LONG_LIVED = ("supervise", "watch", "logs", "plan", "submit")
# Commands that only look and write files: nothing of theirs waits for the interpreter to end.
LOOKS = ("collect", "costs", "explain", "failures", "status")
# An error may quote what Slurm, git or a file said; longer ones help nobody.
MAX_ERROR_CHARS = 4000

HELP = """\
usage: orchestrator COMMAND [SWEEP] [OPTIONS]

Hyperparameter sweeps as Slurm job arrays: nothing lost, nothing run twice.

commands:
{commands}

SWEEP is a spec such as sweeps/demo.yaml, or the name of a submitted sweep;
without one, the sweep submitted last is meant. `orchestrator COMMAND --help`
lists the options of a command.

exit codes: 0 all well, 1 some trials failed, 2 your mistake, 3 try again
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] not in LONG_LIVED:
        # Its memory goes with the process: looking through ten thousand trials for cycles is in
        # vain, and takes a tenth of `status`.
        gc.disable()
    if not words or words[0] not in LOOKS:
        sys.exit(run(words))
    # Where a table needs numpy, a thread for each core of a login node is of no use to it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _leave_at_once(run(words))


def _leave_at_once(code: int) -> NoReturn:
    """Exit without taking the interpreter apart, which takes a tenth of `collect`."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed, or its reader left
            stream.flush()
    os._exit(code)


def run(argv: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    _settle_process()
    command = argv[0] if argv else "--help"
    if command in ("-h", "--help", "help"):
        lines = (f"  {name:<13} {text}" for name, text in COMMANDS.items())
        print(HELP.format(commands="\n".join(lines)), end="")
        return 0 if argv else EXIT_USER_ERROR
    if command in ("-V", "--version"):
        print(f"orchestrator {__version__}")
        return 0
    if command not in COMMANDS:
        text = f"no command {command!r}; use {', '.join(COMMANDS)}"
        return _complain(argv, text, EXIT_USER_ERROR)
    try:
        # Lazy: each command imports only what it needs, so that --help is instant.
        module = importlib.import_module(f"orchestrator.cli.{command.replace('-', '_')}")
        code: int = module.run(argv[1:])
        sys.stdout.flush()
        return code
    except OrchestratorError as error:
        return _complain(argv, str(error), error.exit_code, error)
    except OSError as error:  # a full or read-only disk, a quota, a file server that is away
        if isinstance(error, BrokenPipeError):
            # `orchestrator status | head`: the reader left; Python shall not complain at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        _name_output(error)
        return _complain(
            argv, explain(error), EXIT_TRY_AGAIN if is_server_away(error) else EXIT_USER_ERROR
        )
    except KeyboardInterrupt:
        print("orchestrator: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _name_output(error: OSError) -> None:
    """Name standard output in an error that is of it: its disk is full, say, and it knows no name.

    What could not be written is still waiting, so that flushing fails in the same way.
    """
    if error.filename is not None:
        return
    try:
        sys.stdout.flush()
    except OSError as again:
        if again.errno == error.errno:
            error.filename = "standard output"


def _settle_process() -> None:
    """Take from the environment what would hurt.

    A umask that locks us out, a narrow encoding, a closed stdin, stdout or stderr.
    """
    mask = os.umask(0o077)
    os.umask(mask & 0o077)  # what we make we can use ourselves; others see no more than before
    _fill_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _fill_closed_streams() -> None:
    """Open the null device where a standard stream is closed (``>&-``), for us and our children.

    Else the next file opened takes its number, and a child would write its words into that file.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            if null != fd:
                os.dup2(null, fd)
                os.close(null)
            os.set_inheritable(fd, True)
    if sys.stdin is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY))
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


def _complain(
    argv: Sequence[str], text: str, exit_code: int, error: Exception | None = None
) -> int:
    """Say in one line what went wrong, for programs as a document too; return the exit code."""
    line = one_line(text, MAX_ERROR_CHARS)
    print(f"orchestrator: {line}", file=sys.stderr)
    if "--json" in argv:
        with contextlib.suppress(OSError):  # of a full disk below stdout the line above tells
            print_error(argv[0], line, exit_code, error)
    return exit_code
