"""``orchestrator watch``: progress, cost and the best so far, until every trial has ended."""

from __future__ import annotations

import argparse
import math
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.text import Text

from orchestrator.adapters.live_terminal import Draw, LiveTerminal, is_fit_for_screens
from orchestrator.adapters.watch_screen import (
    draw_screen,
    tell_best,
    tell_failure,
    tell_spent,
    tell_trouble,
)
from orchestrator.cli.arguments import find_sweep, make_parser, split_words
from orchestrator.cli.json_output import print_json
from orchestrator.contract.errors import (
    EXIT_OK,
    EXIT_TRIALS_FAILED,
    EXIT_TRY_AGAIN,
    OrchestratorError,
    UserError,
)
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.watch_view import WatchView
from orchestrator.usecases.watch import Watcher

DESCRIPTION = """\
Show a sweep's progress again and again: states, running trials with step and
loss, time left, cost, the best so far and what failed. It only looks: leave it
(q or Ctrl-C) and start it whenever you like. It ends when every trial has
ended. Where standard output is no terminal, it prints a line for each change.
"""
INTERVAL_S = 10.0
MIN_INTERVAL_S = 1.0
MAX_INTERVAL_S = 300.0
# A look takes at most this share of the time: with a slow Slurm, or a huge sweep, looks are rarer.
MAX_SHARE = 0.1
# Ages on the screen go on between looks.
TICK_S = 1.0
MAX_HEIGHT = 10_000


def run(argv: Sequence[str]) -> int:
    """Run the command; exits 1 if trials failed and 3 if, with --once, Slurm did not answer."""
    parser = make_parser("watch", DESCRIPTION, "a spec or the name of a submitted sweep")
    parser.add_argument(
        "--interval",
        type=_seconds,
        default=INTERVAL_S,
        metavar="SECONDS",
        help=f"between looks; longer while Slurm is slow (default: {INTERVAL_S:g})",
    )
    parser.add_argument("--once", action="store_true", help="look once, print it, and end")
    options = parser.parse_intermixed_args(list(argv))
    word, overrides = split_words(options.words)
    if overrides:
        raise UserError(f"watch takes no overrides: {overrides[0]}")
    watcher = Watcher(find_sweep(options.results, word))
    console = Console(markup=False, highlight=False, emoji=False)
    if options.once:
        view = watcher.look()
        _print_once(view, console, options.json)
        if view.trouble:
            return EXIT_TRY_AGAIN
    elif is_fit_for_screens(console) and not options.json:
        seen = _watch_live(watcher, console, options.interval)
        if seen is None:
            return EXIT_OK
        view = seen
        _say(_tell_line(view))
    else:
        view = _watch_quietly(watcher, options.interval, options.json)
    if not view.is_over and not options.once:
        return EXIT_OK  # somebody had seen enough
    return EXIT_TRIALS_FAILED if view.n_failed else EXIT_OK


def _seconds(word: str) -> float:
    try:
        seconds = float(word)
    except ValueError:
        seconds = math.nan
    if not MIN_INTERVAL_S <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{word!r}: use seconds, {MIN_INTERVAL_S:g} at least")
    return seconds


def pause_after(look_s: float, interval_s: float, is_trouble: bool, before_s: float) -> float:
    """Tell how many seconds to wait after a look.

    Args:
        look_s: How long it took.
        interval_s: What the user wants.
        is_trouble: Whether Slurm did not answer; then pauses double.
        before_s: The pause before this look.
    """
    longest_s = max(interval_s, MAX_INTERVAL_S)
    pause_s = max(interval_s, look_s * (1 / MAX_SHARE - 1))
    return min(longest_s, max(pause_s, 2 * before_s) if is_trouble else pause_s)


class _Looker(threading.Thread):
    """Looks again and again beside the screen, which answers keys while Slurm is slow."""

    def __init__(self, watcher: Watcher, interval_s: float, terminal: LiveTerminal):
        super().__init__(daemon=True)  # left behind in the midst of a query when somebody leaves
        self.view: WatchView | None = None
        self.seen_s = 0.0
        self.pause_s = interval_s
        self.trouble = ""
        self.error: BaseException | None = None
        self._watcher, self._interval_s, self._terminal = watcher, interval_s, terminal

    def run(self) -> None:
        try:
            while self.view is None or not self.view.is_over:
                self._look()
                self._terminal.wake()
                if self.view is None or not self.view.is_over:
                    time.sleep(self.pause_s)
        except BaseException as error:
            self.error = error
            self._terminal.wake()

    def _look(self) -> None:
        began_s = time.monotonic()
        try:
            view = self._watcher.look()
        except (OrchestratorError, OSError) as error:
            if self.view is None or isinstance(error, UserError):
                raise
            self.trouble = str(error)  # a file server that is away comes back
        else:
            self.view, self.seen_s, self.trouble = view, time.monotonic(), ""
        is_trouble = bool(self.trouble or (self.view and self.view.trouble))
        look_s = time.monotonic() - began_s
        self.pause_s = pause_after(look_s, self._interval_s, is_trouble, self.pause_s)


def _watch_live(watcher: Watcher, console: Console, interval_s: float) -> WatchView | None:
    """Show the sweep on the whole terminal until it has ended, or somebody leaves.

    Returns:
        What was seen last; None if somebody left before anything was.
    """
    with LiveTerminal(console) as terminal:
        looker = _Looker(watcher, interval_s, terminal)
        terminal.draw(_drawing(None, ""))
        looker.start()
        is_left = False
        try:
            while not is_left and not (looker.view is not None and looker.view.is_over):
                is_left = terminal.wait(TICK_S)
                if looker.error is not None:
                    raise looker.error
                terminal.draw(_drawing(looker.view, _foot(looker)))
        except KeyboardInterrupt:
            pass  # Ctrl-C is how one leaves
    return looker.view


def _drawing(view: WatchView | None, foot: str) -> Draw:
    if view is None:
        return lambda width, height: Text("looking; q leaves", no_wrap=True, overflow="crop")
    return lambda width, height: draw_screen(view, width, height, foot)


def _foot(looker: _Looker) -> str:
    ago_s = time.monotonic() - looker.seen_s
    words = f"seen {ago_s:.0f} s ago"
    if looker.trouble:
        words += f", and not since: {one_line(looker.trouble, 80)}"
    return f"{words}; q leaves"


def _watch_quietly(watcher: Watcher, interval_s: float, is_json: bool) -> WatchView:
    """Print a line for each change until the sweep has ended."""
    told: set[str] = set()
    before: object = None
    pause_s = interval_s
    view: WatchView | None = None
    while True:
        began_s = time.monotonic()
        try:
            view = watcher.look()
        except (OrchestratorError, OSError) as error:
            if view is None or isinstance(error, UserError):
                raise
            _say_once(f"{_clock()} {error}", told)
        else:
            now = _what_counts(view)
            if now != before:
                if is_json:
                    print_json("watch", _as_json(view))
                else:
                    _say(f"{_clock()} {_tell_line(view)}")
                before = now
            if not is_json:
                _say_news(view, told)
            if view.is_over:
                return view
        look_s = time.monotonic() - began_s
        pause_s = pause_after(look_s, interval_s, bool(view.trouble), pause_s)
        time.sleep(pause_s)


def _what_counts(view: WatchView) -> object:
    """Return what a line is printed for when it changes."""
    best = None if view.best is None else (view.best.trial, view.best.value, view.best.n_done)
    return view.counts, best, view.notices, bool(view.trouble)


def _say_news(view: WatchView, told: set[str]) -> None:
    """Print notices and failures that were not printed yet."""
    news = [one_line(notice, 400) for notice in view.notices]
    # Without numbers, which grow: each way of failing is told once.
    news += [f"failed: {one_line(f'{f.cause}: {f.reason}', 200)}" for f in view.failures]
    for words in news:
        _say_once(words, told)


def _say_once(words: str, told: set[str]) -> None:
    if words not in told:
        told.add(words)
        _say(f"{_clock()} {words}")


def _clock() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _tell_line(view: WatchView) -> str:
    """Say in one line where a sweep stands."""
    counts = ", ".join(f"{n} {state.value}" for state, n in view.counts.items())
    trouble = tell_trouble(view) if view.trouble else ""
    name = one_line(view.name, 80)
    words = (f"{name}: {counts or 'no trials'}", tell_spent(view), tell_best(view), trouble)
    return "; ".join(filter(None, words))


def _print_once(view: WatchView, console: Console, is_json: bool) -> None:
    if is_json:
        print_json("watch", _as_json(view))
    elif is_fit_for_screens(console):
        console.print(draw_screen(view, console.width, MAX_HEIGHT))
    else:
        _say(_tell_line(view))
        for words in [*(one_line(n, 400) for n in view.notices), *map(tell_failure, view.failures)]:
            _say(f"  {words}")


def _say(line: str) -> None:
    print(line)
    sys.stdout.flush()


def _as_json(view: WatchView) -> dict[str, object]:
    best = view.best
    return {
        "sweep": view.name,
        "at": view.at.isoformat(),
        "n_trials": view.n_trials,
        "counts": {state.value: n for state, n in view.counts.items()},
        "is_over": view.is_over,
        "left_s": view.left_s,
        "gpu_hours": view.usage.gpu_hours,
        "wall_hours": view.usage.wall_h,
        "cost": dict(view.usage.cost),
        "is_estimate": view.usage.is_estimate,
        "budget": view.budget,
        "metric": view.metric,
        "goal": view.goal,
        "best": None
        if best is None
        else {
            "trial": best.trial,
            "value": best.value,
            "params": dict(best.params),
            "repeats_done": best.n_done,
            "repeats": best.n_repeats,
        },
        "running": [
            {
                "trial": row.name,
                "attempt": row.attempt,
                "node": row.node,
                "age_s": row.age_s,
                "step": row.step,
                "n_steps": row.n_steps,
                "metric": row.metric,
                "value": row.value,
                "note": row.note,
            }
            for row in view.running
        ],
        "failures": [
            {
                "cause": failure.cause,
                "reason": failure.reason,
                "n_failed": failure.n_failed,
                "n_attempts": failure.n_attempts,
                "age_s": failure.age_s,
            }
            for failure in view.failures
        ],
        "interruptions": {cause.name.lower(): n for cause, n in view.interruptions.items()},
        "notices": list(view.notices),
        "supervisor": view.supervisor,
        "unreachable": view.trouble or None,
        "stale_s": view.stale_s,
    }
