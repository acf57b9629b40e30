"""Options that the commands share, and finding the sweep that a command means."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from typing import NoReturn

from orchestrator.contract.errors import UserError
from orchestrator.contract.paths import SweepPaths
from orchestrator.usecases import workspace


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are ``UserError``s, like all others."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and exiting."""
        raise UserError(f"{self.prog}: {message}; see {self.prog} --help")


def make_parser(command: str, description: str, words_help: str) -> Parser:
    """Make a command's parser, with what all commands take."""
    parser = Parser(
        prog=f"orchestrator {command}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("words", nargs="*", metavar="SWEEP", help=words_help)
    parser.add_argument(
        "--results", default="results", metavar="FOLDER", help="results folder (default: results)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    return parser


def read_count(word: str) -> int:
    """Read a number of things from the command line, for ``type=``.

    Raises:
        argparse.ArgumentTypeError: It is none, or negative.
    """
    if not word.isascii() or not word.isdigit() or len(word) > 9:
        raise argparse.ArgumentTypeError(f"{word!r} is not a count; use 0, 1, 2, ...")
    return int(word)


def split_words(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """Tell the sweep from ``key=value`` overrides.

    Raises:
        UserError: More than one word is no override.
    """
    overrides = [word for word in words if "=" in word]
    sweeps = [word for word in words if "=" not in word]
    if len(sweeps) > 1:
        raise UserError(f"one sweep at a time, not {' and '.join(sweeps)}")
    return (sweeps[0] if sweeps else None), overrides


def results_hint(results: str, sweep: SweepPaths | None = None) -> str:
    """Return what make needs to be told to mean this place, in front of a command's other words.

    Args:
        results: The results folder; nothing is said of make's own.
        sweep: The sweep; nothing is said of the one submitted last. None: any.
    """
    words = ""
    if sweep is not None and workspace.is_other(results, sweep):
        words = f" SWEEP={shlex.quote(workspace.word_for(sweep))}"
    return words if results == "results" else f"{words} RESULTS={shlex.quote(results)}"


def show_path(path: str) -> str:
    """Return a path as people type it: from here if it lies below, else whole."""
    relative = os.path.relpath(path)
    return os.path.abspath(path) if relative.split(os.sep, 1)[0] == os.pardir else relative


def find_sweep(results: str, word: str | None) -> SweepPaths:
    """Find the submitted sweep that a word means: a spec's file, a name, or the last one.

    Raises:
        UserError: There is none.
    """
    if word is None:
        last = workspace.last_sweep(results)
        if last is None:
            raise UserError(f"nothing was submitted to {results} yet; start with: make submit")
        return workspace.open_sweep(results, last["name"])
    if word.endswith((".yaml", ".yml")):
        return workspace.open_sweep(results, _name_of(word))
    return workspace.open_sweep(results, os.path.basename(word.rstrip("/")))


def _name_of(file: str) -> str:
    # Lazy: reading YAML costs more than the rest of `status`, which seldom needs it.
    from orchestrator.adapters.spec_file import read_spec

    return read_spec(file, []).name
