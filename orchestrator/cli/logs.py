"""``orchestrator logs``: one trial's log across its attempts, as it is or as it grows."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence

from orchestrator.cli.arguments import (
    find_sweep,
    make_parser,
    read_count,
    results_hint,
    split_words,
)
from orchestrator.cli.json_output import print_json
from orchestrator.cli.next_step import tell_next
from orchestrator.contract.errors import EXIT_OK, UserError
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.states import TERMINAL_STATES, TrialState
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.trial_choice import choose_trial
from orchestrator.domain.trial_files import Attempt, TrialFiles
from orchestrator.usecases.logs import (
    Follower,
    LogLine,
    Tail,
    read_all,
    read_slurm_log,
    read_tail,
)
from orchestrator.usecases.observe import Observation, observe
from orchestrator.usecases.recollection import Recollection

DESCRIPTION = """\
Show one trial's log: its last lines, with a heading where an attempt begins,
and what Slurm said of it. On a terminal, while the trial has not ended, more
is shown as it comes, over preemptions and new array tasks too, until it has
ended or you type Ctrl-C.
"""
# Lines by default where standard output is no terminal.
N_LINES = 40
_FOLLOWED = (TrialState.PENDING, TrialState.RUNNING, TrialState.REQUEUED)
POLL_S = 0.5
# Between questions to Slurm whether a trial without a running attempt goes on.
ASK_S = 10.0


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    options = _parse(argv)
    word, overrides = split_words(options.words)
    if overrides:
        raise UserError(f"logs takes no overrides: {overrides[0]}")
    if not options.trial:
        raise UserError("which trial? make logs TRIAL=3, with a number from make status")
    if options.json and options.follow:
        raise UserError("--json prints one document; leave out --follow")
    sweep = find_sweep(options.results, word)
    observation = observe(sweep)
    name = choose_trial([trial.name for trial in observation.trials], options.trial)
    shown = _Shown(sweep, name, observation, options)
    if options.json:
        print_json("logs", shown.as_json())
        return EXIT_OK
    is_following = options.follow
    if is_following is None:
        state = observation.states[name]
        is_last = options.attempt in (None, _newest(observation.scan.find(name)))
        is_following = sys.stdout.isatty() and state in _FOLLOWED and is_last
    end = shown.print_log(is_following)
    if is_following:
        _Follow(sweep, name, options.attempt, results_hint(options.results, sweep)).run(end)
    return EXIT_OK


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("logs", DESCRIPTION, "a spec or the name of a submitted sweep")
    parser.add_argument(
        "--trial", metavar="TRIAL", help="its number, or its directory's name (or the hash in it)"
    )
    parser.add_argument(
        "--attempt", type=read_count, metavar="N", help="only attempt N (default: all)"
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--tail", type=read_count, metavar="N", help="the last N lines (default: a screenful)"
    )
    group.add_argument("--all", action="store_true", help="the whole log")
    parser.add_argument(
        "--follow",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="go on as the log grows (default: on a terminal, until the trial has ended)",
    )
    options = parser.parse_intermixed_args(list(argv))
    if options.attempt == 0:
        raise UserError("logs: --attempt 0: attempts are numbered from 1")
    return options


def _newest(trial: TrialFiles) -> int:
    return trial.attempts[-1].number if trial.attempts else 0


class _Shown:
    """What is shown of a trial's log as it is now."""

    def __init__(
        self, sweep: SweepPaths, name: str, observation: Observation, options: argparse.Namespace
    ):
        self._trial = observation.scan.find(name)
        self._paths = sweep.trial(name)
        self._state = observation.states[name]
        self._reason = observation.reasons.get(name, "")
        self._slurm = read_slurm_log(sweep, self._trial, observation.journal)
        self._attempt: int | None = options.attempt
        self._n_lines: int | None = None if options.all else options.tail
        if not options.all and options.tail is None:
            rows = shutil.get_terminal_size((80, N_LINES + 4)).lines
            self._n_lines = max(10, rows - 4) if sys.stdout.isatty() else N_LINES

    def print_log(self, is_following: bool) -> int:
        """Print it; returns where it ends, in bytes."""
        reason = f": {one_line(self._reason)}" if self._reason else ""
        for token, lines in self._slurm:
            if self._attempt is None:
                print(_heading(f"Slurm, array {token}"))
                print("\n".join(lines))
        try:
            end = self._print_lines(is_following)
        except FileNotFoundError:
            end = 0
            if self._attempt is not None and self._trial.attempts:
                numbers = ", ".join(str(attempt.number) for attempt in self._trial.attempts)
                raise UserError(
                    f"the log of {self._trial.name} has no attempt {self._attempt}; "
                    f"there are: {numbers}"
                ) from None
            print(f"{self._trial.name} has no log yet; it is {self._state.value}{reason}")
        if not is_following:
            print(_heading(f"{self._trial.name} is {self._state.value}{reason}"))
        sys.stdout.flush()
        return end

    def _print_lines(self, is_following: bool) -> int:
        n_lines = self._n_lines or 0
        tail = read_tail(self._paths, self._attempt, n_lines, is_growing=is_following)
        if self._n_lines is None:
            _print_lines(read_all(self._paths, self._attempt, tail.end), self._trial.attempts)
            return tail.end
        if tail.is_cut:
            print("... earlier lines are left out (--all)")
        if tail.attempt and tail.lines and not tail.lines[0].begins:
            print(_heading(f"attempt {tail.attempt}, continued"))
        _print_lines(tail.lines, self._trial.attempts)
        return tail.end

    def as_json(self) -> dict[str, object]:
        """Return the same for programs."""
        tail: Tail | None = None
        lines: Iterable[LogLine] = ()
        number = 0
        try:
            if self._n_lines is None:
                lines = list(read_all(self._paths, self._attempt))
            else:
                tail = read_tail(self._paths, self._attempt, self._n_lines)
                lines, number = tail.lines, tail.attempt
        except FileNotFoundError:
            pass
        parts: list[tuple[int, list[str]]] = []
        for line in lines:
            if line.begins:
                number = line.begins
            if not parts or parts[-1][0] != number:
                parts.append((number, []))
            parts[-1][1].append(line.text)
        known = {attempt.number: attempt for attempt in self._trial.attempts}
        return {
            "trial": self._trial.name,
            "state": self._state.value,
            "reason": self._reason,
            "is_cut": tail is not None and tail.is_cut,
            "slurm": [{"array": token, "lines": said} for token, said in self._slurm],
            "parts": [_part_as_json(n, said, known.get(n)) for n, said in parts],
        }


def _part_as_json(number: int, lines: list[str], attempt: Attempt | None) -> dict[str, object]:
    return {
        "attempt": number or None,
        "node": None if attempt is None else attempt.node,
        "job_id": None if attempt is None else attempt.job_id,
        "started_at": None
        if attempt is None or attempt.started_at is None
        else attempt.started_at.isoformat(),
        "outcome": None if attempt is None else attempt.outcome,
        "lines": lines,
    }


def _heading(words: str) -> str:
    return f"==> {words} <=="


def _print_lines(lines: Iterable[LogLine], attempts: Iterable[Attempt]) -> None:
    known = {attempt.number: attempt for attempt in attempts}
    for line in lines:
        print(_tell_line(line, known.get(line.begins)))


def _tell_line(line: LogLine, attempt: Attempt | None) -> str:
    if not line.begins:
        return line.text
    if attempt is None:
        return _heading(line.text.removeprefix("[orchestrator] "))
    words = f"attempt {attempt.number}"
    words += f" on {one_line(attempt.node, 60)}" if attempt.node else ""
    words += f", job {one_line(attempt.job_id, 40)}" if attempt.job_id else ""
    if attempt.started_at is not None:
        words += f", {attempt.started_at:%Y-%m-%d %H:%M:%S} UTC"
    return _heading(words)


class _Follow:
    """Prints what a log gets until its trial has ended."""

    def __init__(self, sweep: SweepPaths, name: str, attempt: int | None, where_else: str):
        self._sweep, self._name, self._attempt = sweep, name, attempt
        self._where_else = where_else
        self._recollection = Recollection()
        self._asked_s = -ASK_S
        self._told = ""
        self._is_terminal = sys.stdout.isatty()
        self._is_drawn = False

    def run(
        self,
        start: int,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Print lines as they come."""
        follower = Follower(self._sweep.trial(self._name), start)
        end: str | None = None
        while True:
            lines = follower.read()
            if follower.note:
                self._say(_heading(follower.note))
            for line in lines:
                if self._attempt is not None and line.begins > self._attempt:
                    self._wipe()
                    return
                self._say(_tell_line(line, None))
            self._draw(follower.unfinished)
            # Its last line may come after its result: what came since is read once more.
            if end is not None and not lines:
                if follower.unfinished:
                    self._say(follower.unfinished)
                self._say(_heading(end))
                return
            end = self._find_end(clock()) if end is None else end
            sleep(POLL_S)

    def _find_end(self, now_s: float) -> str | None:
        """Say how the trial ended; None while it goes on, or may."""
        if os.path.exists(self._sweep.trial(self._name).result):
            return f"{self._name} is {TrialState.DONE.value}"
        if now_s - self._asked_s < ASK_S:
            return None
        self._asked_s = now_s
        observation = observe(self._sweep, recollection=self._recollection)
        state = observation.states.get(self._name, TrialState.UNKNOWN)
        reason = one_line(observation.reasons.get(self._name, ""))
        words = f"{self._name} is {state.value}" + (f": {reason}" if reason else "")
        if state in TERMINAL_STATES or observation.is_imported:
            return words
        if state is not TrialState.RUNNING and words != self._told:
            self._told = words
            is_final = self._name in observation.journal.gave_up
            is_paused = observation.closed is not None
            then = tell_next(state, is_final, is_paused, self._where_else)
            self._say(_heading(f"{words}; {then}"))
        return None

    def _say(self, line: str) -> None:
        self._wipe()
        print(line)
        sys.stdout.flush()

    def _draw(self, text: str) -> None:
        """Show the line that is being written, such as a progress bar, in its place."""
        if self._is_terminal and text:
            width = shutil.get_terminal_size().columns
            sys.stdout.write(f"\r\x1b[K{one_line(text, max(1, width // 2 - 1))}")
            sys.stdout.flush()
            self._is_drawn = True

    def _wipe(self) -> None:
        if self._is_drawn:
            sys.stdout.write("\r\x1b[K")
            self._is_drawn = False
