"""Drawing a ``WatchView`` for a terminal of a given size. Runs on the login node; prints nothing.

A pure function of the view and the size. What does not fit gives way in this order: running trials
beyond three, failures and notices beyond the first, empty lines, the foot, the bar, the failure,
the best, hours and money; the headline, the counts and a notice stay longest. Of the running
trials' columns the last ones go first: parameters, node, attempt, value. Nothing is wider than the
terminal, in cells: a Chinese character takes two.

Names and values come from programs and specs: control characters are stripped, and nothing is read
as rich's markup.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.console import Group
from rich.text import Text

from orchestrator.contract.states import TrialState
from orchestrator.domain.cause import Cause
from orchestrator.domain.cost import Usage
from orchestrator.domain.durations import tell_duration
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.watch_view import RecentFailure, RunningTrial, WatchView
from orchestrator.runtime.spend import show_amount

# What a part of the bar stands for, in order: character, states, style.
_BAR = (
    ("#", (TrialState.DONE,), "green"),
    (">", (TrialState.RUNNING,), "cyan"),
    ("x", (TrialState.FAILED, TrialState.CANCELLED), "red"),
)
_GAP = "  "
_MAX_PARAM, _MAX_NODE, _MAX_NOTE = 24, 24, 40
# Full names of trials are for those who have room for them.
_WIDE = 100
# Lines from which what is long may take two of them.
_ROOMY = 20
# Running trials that are shown before anything else but the counts.
_FIRST_ROWS = 3
INTERRUPTIONS = {
    Cause.PREEMPTED: ("preemption", "preemptions"),
    Cause.INTERRUPTED: ("interruption", "interruptions"),
    Cause.TIMEOUT: ("time limit", "time limits"),
    Cause.NODE_FAILURE: ("node failure", "node failures"),
    Cause.SILENT: ("end without a word", "ends without a word"),
    Cause.CANCELLED: ("cancellation", "cancellations"),
}


class _Line(NamedTuple):
    """A line and how early it has its place; 0 is first."""

    priority: int
    text: Text
    is_running: bool = False


def draw_screen(view: WatchView, width: int, height: int, foot: str = "") -> Group:
    """Draw a view.

    Args:
        view: What was seen.
        width: Columns of the terminal.
        height: Its lines; no more come back.
        foot: The last line, such as what a key does.
    """
    width, height = max(1, width), max(1, height)
    # Of a line that is wrapped and then loses its second half nobody would see that it goes on.
    most = 2 if height >= _ROOMY else 1
    lines = [
        _Line(0, _headline(view, width)),
        _Line(6, _bar(view, width)),
        *_lines(1, _tell_counts(view), width, most),
        *_lines(3, tell_spent(view), width, most),
        *_notices(view, width, most),
        *_lines(4, tell_best(view), width, most),
        *_running(view, width),
        *_failures(view, width, most),
    ]
    if view.supervisor or foot:
        parts = (one_line(view.supervisor, 120), foot)
        lines += [_Line(8, Text()), *_lines(7, "; ".join(filter(None, parts)), width, most, "dim")]
    return Group(*_fit(lines, width, height))


def _fit(lines: Sequence[_Line], width: int, height: int) -> list[Text]:
    """Keep as many lines as fit, the important ones, and say how many running trials are not."""
    order = sorted(range(len(lines)), key=lambda index: (lines[index].priority, index))
    kept = sorted(order[:height])
    rows = [index for index in kept if lines[index].is_running]
    n_rows = sum(line.is_running for line in lines)
    texts = {index: lines[index].text for index in kept}
    if rows and len(rows) < n_rows:
        texts[rows[-1]] = Text(_cut(f"and {n_rows - len(rows) + 1} more running", width), "dim")
    found = [texts[index] for index in kept]
    while found and not found[-1].plain:
        found.pop()
    for text in found:
        text.no_wrap = True
    return found


def _headline(view: WatchView, width: int) -> Text:
    share = view.n_done / view.n_trials if view.n_trials else 0.0
    # 100 % is said when it is true.
    percent = math.floor(share * 100)
    words = f": {view.n_done} of {view.n_trials} done ({percent} %)"
    clock = f"{view.at:%H:%M:%S} UTC"
    room = width - cell_len(words) - cell_len(clock) - len(_GAP)
    name = one_line(view.name, 80)
    if room < min(cell_len(name), 12):
        name = _cut(name, max(1, width - cell_len(words)))
        return Text(_cut(name + words, width), "bold")
    name = _cut(name, room)
    pad = width - cell_len(name + words) - cell_len(clock)
    text = Text(name + words, "bold")
    text.append(" " * pad)
    text.append(clock, "dim" if not view.trouble else "yellow")
    return text


def _bar(view: WatchView, width: int) -> Text:
    """Draw the trials as a bar: done, running, ended without a result, and the others."""
    room = width - 2
    if room < 4 or not view.n_trials:
        return Text()
    text = Text("[")
    n, drawn = 0, 0
    for character, states, style in _BAR:
        n += sum(view.counts.get(state, 0) for state in states)
        # Ends are rounded down, so that a bar is full only when every trial is in it.
        end = room * n // view.n_trials
        text.append(character * (end - drawn), style)
        drawn = end
    text.append("." * (room - drawn), "dim")
    text.append("]")
    return text


def _tell_counts(view: WatchView) -> str:
    if not view.n_trials:
        return "nothing was submitted yet; next: make submit SWEEP=..."
    return ", ".join(f"{n} {state.value}" for state, n in view.counts.items())


def tell_left(view: WatchView) -> str:
    """Say how long it still takes: an estimate, or that it is unknown."""
    if view.is_over:
        return "every trial has ended"
    if view.n_open and not view.n_under_way:
        return f"{view.n_open} that failed may go again"
    if view.left_s is None:
        return "— left"
    return f"about {tell_duration(view.left_s)} left"


def tell_usage(usage: Usage) -> str:
    """Say what was used; empty before anything ran."""
    if usage.wall_h <= 0:
        return ""
    about = "at least " if usage.is_estimate else ""
    is_gpu = usage.gpu_hours > 0
    hours, unit = (usage.gpu_hours, "GPU-hours") if is_gpu else (usage.wall_h, "hours")
    amount = f"{hours:,.0f}" if hours >= 1000 else f"{hours:.3g}"
    money = [f"{show_amount(c)} {one_line(name, 12)}".strip() for name, c in usage.cost.items()]
    return ", ".join([f"{about}{amount} {unit}", *money])


def tell_spent(view: WatchView) -> str:
    """Say in one line how long it takes, what it took, and how often it was interrupted."""
    budget = f"budget: {one_line(view.budget)}" if view.budget is not None else ""
    words = [
        f"{n} {INTERRUPTIONS[cause][n != 1]}"
        for cause, n in view.interruptions.items()
        if n and cause in INTERRUPTIONS
    ]
    return "; ".join(filter(None, (tell_left(view), tell_usage(view.usage), budget, *words)))


def tell_best(view: WatchView) -> str:
    """Say what is best so far, in one line; empty where nothing is ranked."""
    if view.metric is None:
        return ""
    metric = one_line(view.metric, 40)
    if view.best is None:
        return f"best so far: — ({metric}, {view.goal})"
    best = view.best
    repeats = f", mean of {best.n_done} of {best.n_repeats}" if best.n_repeats > 1 else ""
    params = _tell_params(view.best_params)
    number = best.trial.partition("-")[0]
    words = f"best so far: {metric} {_number(best.value)} ({view.goal}{repeats}), trial {number}"
    return f"{words}: {params}" if params else words


def _notices(view: WatchView, width: int, most: int) -> list[_Line]:
    lines: list[_Line] = []
    if view.trouble:
        lines += _lines(2, f"! {tell_trouble(view)}", width, most, "yellow")
    for notice in view.notices:
        lines += _lines(2 if not lines else 9, f"! {one_line(notice, 400)}", width, most, "yellow")
    return lines


def tell_trouble(view: WatchView) -> str:
    """Say that Slurm does not answer, and how old what is shown is."""
    if view.stale_s is None:
        known = "nothing is known of its queue"
    else:
        known = f"its queue is shown as of {tell_duration(view.stale_s)} ago"
    return f"Slurm does not answer, {known}: {one_line(view.trouble, 120)}"


class _Column(NamedTuple):
    """A column of the running trials."""

    title: str
    cells: list[str]
    is_right: bool = False


def _running(view: WatchView, width: int) -> list[_Line]:
    if not view.running:
        return []
    rows = view.running
    is_wide = width >= _WIDE
    names = [row.name if is_wide else row.name.partition("-")[0] for row in rows]
    columns = [
        _Column("running", [one_line(name, 40) for name in names]),
        _Column("step", list(map(_tell_step, rows)), True),
        _Column(_value_title(rows), [_tell_value(row, rows) for row in rows], True),
        _Column("for", [tell_duration(row.age_s) for row in rows], True),
        _Column("node", [one_line(row.node, _MAX_NODE) or "—" for row in rows]),
        _Column("attempt", [str(row.attempt or "—") for row in rows], True),
        _Column("", [one_line(row.note, _MAX_NOTE) for row in rows]),
    ]
    names_of = dict.fromkeys(name for row in rows for name in row.params)
    for name in names_of:
        cells = [one_line(_show(row.params.get(name)), _MAX_PARAM) for row in rows]
        columns.append(_Column(one_line(name, _MAX_PARAM), cells))
    shown = _choose_columns(columns, width)
    lines = [_Line(9, Text()), _Line(5, _row([c.title for c in shown], shown, width, "dim"))]
    for index, row in enumerate(rows):
        priority = 5 if index < _FIRST_ROWS else 10
        style = "yellow" if row.note not in ("", "starting", "ending") else ""
        text = _row([column.cells[index] for column in shown], shown, width, style)
        lines.append(_Line(priority, text, is_running=True))
    return lines


def _choose_columns(columns: Sequence[_Column], width: int) -> list[_Column]:
    shown: list[_Column] = []
    left = width
    for column in columns:
        if not any(column.cells):
            continue
        needed = _width(column) + (len(_GAP) if shown else 0)
        if shown and needed > left:
            continue
        shown.append(column)
        left -= needed
    return shown


def _width(column: _Column) -> int:
    return max(map(cell_len, (column.title, *column.cells)))


def _row(cells: Sequence[str], columns: Sequence[_Column], width: int, style: str) -> Text:
    parts = []
    for cell, column in zip(cells, columns, strict=True):
        pad = " " * (_width(column) - cell_len(cell))
        parts.append(pad + cell if column.is_right else cell + pad)
    return Text(_cut(_GAP.join(parts).rstrip(), width), style)


def _value_title(rows: Sequence[RunningTrial]) -> str:
    names = {row.metric for row in rows if row.metric}
    return one_line(names.pop(), 20) if len(names) == 1 else "value"


def _tell_value(row: RunningTrial, rows: Sequence[RunningTrial]) -> str:
    if row.value is None:
        return "—"
    is_same = len({other.metric for other in rows if other.metric}) == 1
    return _number(row.value) if is_same else f"{one_line(row.metric, 20)} {_number(row.value)}"


def _tell_step(row: RunningTrial) -> str:
    if row.step is None:
        return "—"
    return f"{row.step}" if row.n_steps is None else f"{row.step}/{row.n_steps}"


def _failures(view: WatchView, width: int, most: int) -> list[_Line]:
    lines = [_Line(8, Text())] if view.failures else []
    for index, failure in enumerate(view.failures[:3]):
        style = "red" if failure.n_failed else "dim"
        priority = 6 if not index else 9
        lines += _lines(priority, tell_failure(failure), width, 1 if index else most, style)
    n_more = len(view.failures) - 3
    if n_more > 0:
        lines += _lines(9, f"and {n_more} more: make failures", width, 1, "dim")
    return lines


def tell_failure(failure: RecentFailure) -> str:
    """Say in one line how what failed."""
    if failure.n_failed:
        size = f"{failure.n_failed} failed"
    else:
        size = f"{failure.n_attempts} failed attempt{'s' * (failure.n_attempts != 1)}, gone again"
    age = "" if failure.age_s is None else f", {tell_duration(failure.age_s)} ago"
    reason = one_line(failure.reason, 160)
    why = failure.cause if reason in ("", failure.cause) else f"{failure.cause}: {reason}"
    return f"{size}{age}: {why}"


def _tell_params(params: Mapping[str, object]) -> str:
    return ", ".join(
        f"{one_line(name, 60)}={one_line(_show(value), 60)}" for name, value in params.items()
    )


def _show(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return _number(value)
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return "..."


def _number(value: float) -> str:
    return f"{value:.5g}"


def _lines(priority: int, words: str, width: int, most: int, style: str = "") -> list[_Line]:
    """Wrap words into lines; what is beyond the last is cut."""
    return [_Line(priority, Text(text, style)) for text in _wrap(words, width, most)]


def _wrap(words: str, width: int, most: int) -> list[str]:
    lines: list[str] = []
    line = ""
    for word in _pieces(words.split(), width):
        longer = f"{line} {word}" if line else word
        if cell_len(longer) <= width:
            line = longer
        elif len(lines) + 1 == most:
            return [*lines, _cut(longer + " …", width)]
        else:
            lines.append(line)
            line = word
    return [*lines, line] if line else lines


def _pieces(words: Iterable[str], width: int) -> Iterable[str]:
    """Break words that are longer than a line, as text without spaces is."""
    for word in words:
        yield from (word,) if cell_len(word) <= width else chop_cells(word, width)


def _cut(text: str, width: int) -> str:
    """Cut text to so many cells, with an ellipsis."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1).rstrip() + "…" if width > 1 else "…"
