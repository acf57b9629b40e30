"""Learning curves: which trials and metrics are shown, and how many points of each. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from orchestrator.contract.states import TrialState
from orchestrator.domain.figure import Figure
from orchestrator.domain.figures.columns import MAX_CHARS, cells
from orchestrator.domain.leaderboard import Leaderboard
from orchestrator.domain.plain_text import one_line

MAX_TRIALS = 200
MAX_KEYS = 3
MAX_CURVE_POINTS = 60
# Of the metrics that are not shown at first.
MAX_OTHER_POINTS = 40
_N_BEST, _N_WORST, _N_FAILED, _N_RUNNING, _N_UNRANKED, _N_FRESH = 60, 20, 40, 20, 40, 20
# In this order they are looked for when the objective itself has no curve, and beside it.
_TELLING = ("loss", "perplexity", "error", "accuracy", "acc", "score", "reward", "f1")
# Curves fall so steeply at first that what matters is pressed onto a line: the axis shows the rest.
_FIRST_SHARE = 0.1

# Of trials without a rank, by state; any other did not finish.
_GROUPS_BELOW = {TrialState.RUNNING.value: 3, TrialState.DONE.value: 5}
_FRESH_GROUP = 6

# By trial, then by metric: (step, value) by step, a value that is not finite as null.
Curve = Sequence[tuple[int, float | None]]
Curves = Mapping[str, Mapping[str, Curve]]


def choose_trials(board: Leaderboard) -> tuple[list[str], str]:
    """Pick whose curves are shown, and say by which rule; all where they are few.

    The best 60, the worst 20, up to 40 that did not finish, 40 that are done without a rank
    (diverged ones), 20 on fresh seeds and 20 that run, each evenly spread by number, and an even
    spread of the others by rank, 200 in all.
    """
    frame = board.frame
    names = frame["trial"].tolist()
    states = [TrialState(state) for state in frame["state"]]
    attempts = frame["attempts"].tolist()
    ranked = names[: board.n_ranked]
    rest = [
        (name, state)
        for name, state, n in zip(names, states, attempts, strict=True)
        if n and state is not TrialState.DONE
    ]
    running = [name for name, state in rest if state is TrialState.RUNNING]
    failed = [name for name, state in rest if state is not TrialState.RUNNING]
    unranked = [
        name
        for name, state in zip(names[board.n_ranked :], states[board.n_ranked :], strict=True)
        if state is TrialState.DONE and name not in board.fresh
    ]
    fresh = [
        name
        for name, state in zip(names, states, strict=True)
        if state is TrialState.DONE and name in board.fresh
    ]
    n_all = len(ranked) + len(rest) + len(unranked) + len(fresh)
    if n_all <= MAX_TRIALS:
        return [*ranked, *running, *failed, *unranked, *fresh], ""
    failed, running = _spread(failed, _N_FAILED), _spread(running, _N_RUNNING)
    unranked, fresh = _spread(unranked, _N_UNRANKED), _spread(fresh, _N_FRESH)
    room = MAX_TRIALS - len(failed) - len(running) - len(unranked) - len(fresh)
    if len(ranked) > room:
        best, worst = ranked[:_N_BEST], ranked[-_N_WORST:]
        between = _spread(ranked[_N_BEST:-_N_WORST], room - _N_BEST - _N_WORST)
        ranked = [*best, *between, *worst]
    chosen = [*ranked, *running, *failed, *unranked, *fresh]
    parts = [f"the best {_N_BEST}, the worst {_N_WORST}"] if len(ranked) < board.n_ranked else []
    parts += [f"{len(failed)} that did not finish"] if failed else []
    parts += [f"{len(running)} that run"] if running else []
    parts += [f"{len(unranked)} that are done without a rank"] if unranked else []
    parts += [f"{len(fresh)} on fresh seeds"] if fresh else []
    rule = f" Shown are {len(chosen)} of {n_all:,} trials: {', '.join(parts)}"
    rule += ", the others evenly by rank." if len(ranked) < board.n_ranked else ", all others."
    return chosen, rule


def _spread(names: Sequence[str], at_most: int) -> list[str]:
    if len(names) <= at_most:
        return list(names)
    if at_most < 2:
        return list(names[:at_most])
    return [names[round(i * (len(names) - 1) / (at_most - 1))] for i in range(at_most)]


def choose_keys(found: Sequence[Mapping[str, int]], objective: str | None) -> list[str]:
    """Pick which metrics have curves worth showing.

    Args:
        found: Of some trials, how many points each metric has.
        objective: Name of the metric that is ranked.

    Returns:
        At most ``MAX_KEYS``: the objective if it has two points anywhere, then names that tell of
        learning (loss, accuracy, ...), then the others that most trials have.
    """
    counts = Counter(key for points in found for key, n in points.items() if n > 1)

    def place(key: str) -> tuple[bool, int, int, str]:
        words = key.lower()
        tells = next((i for i, word in enumerate(_TELLING) if word in words), len(_TELLING))
        return key != objective, tells, -counts[key], key

    return sorted(counts, key=place)[:MAX_KEYS]


def thin_curve(curve: Curve, at_most: int) -> list[tuple[int, float | None]]:
    """Keep at most so many points (4 or more): the first, the last, and every extreme.

    The steps between are parted into equal spans; each keeps its least and its greatest value, so
    that no peak is lost. Of values that are not finite each span keeps one, so the gap shows.
    """
    if len(curve) <= at_most:
        return list(curve)
    inner = curve[1:-1]
    low, high = inner[0][0], inner[-1][0]
    n_spans = max(1, (at_most - 2) // 3 if any(v is None for _, v in inner) else (at_most - 2) // 2)
    width = (high - low) / n_spans or 1.0
    least: dict[int, int] = {}
    greatest: dict[int, int] = {}
    gaps: dict[int, int] = {}
    for index, (step, value) in enumerate(inner):
        span = min(n_spans - 1, int((step - low) / width))
        if value is None:
            gaps.setdefault(span, index)
            continue
        if span not in least or value < (inner[least[span]][1] or 0.0):
            least[span] = index
        if span not in greatest or value > (inner[greatest[span]][1] or 0.0):
            greatest[span] = index
    kept = sorted({*least.values(), *greatest.values(), *gaps.values()})
    return [curve[0], *(inner[index] for index in kept), curve[-1]]


def build_curves(
    board: Leaderboard, curves: Curves, keys: Sequence[str], rule: str, n_sampled: int
) -> Figure:
    """Build the figure.

    Args:
        board: The leaderboard.
        curves: What was read, in the order of ``choose_trials``.
        keys: Of ``choose_keys``.
        rule: Of ``choose_trials``.
        n_sampled: How many files were too long to be read whole.
    """
    title = "Learning curves"
    caption = (
        "What trials reported step by step, by how they came out. Of a step that was done twice, "
        f"after a preemption, the later report counts; of long curves {MAX_CURVE_POINTS} points "
        f"are drawn ({MAX_OTHER_POINTS} of the second and third metric), all peaks kept, with six "
        "digits." + rule
    )
    if n_sampled:
        caption += f" Of {n_sampled:,} long files only samples were read."
    shown = {name: found for name, found in curves.items() if any(found.values())}
    if not shown or not keys:
        reason = "No trial has reported a metric at two steps or more (a line with a step key)."
        return Figure("curves", title, caption, {"reason": reason})
    n_best = max(1, min(10, round(board.n_ranked / 10)))
    names_of_groups = [f"best {n_best}", "better half", "worse half", "running", "not finished"]
    names_of_groups += ["done without a rank", "on fresh seeds"]
    groups, ranks = _groups(board, n_best)
    states = dict(zip(board.frame["trial"].tolist(), board.frame["state"].tolist(), strict=True))
    series: list[dict[str, list[object]]] = []
    for key in keys:
        lines: dict[str, list[object]] = {"trial": [], "step": [], "value": []}
        for index, found in enumerate(shown.values()):
            points = found.get(key, ())
            if len(points) > 1:
                lines["trial"].append(index)
                lines["step"].append([step for step, _ in points])
                lines["value"].append([_round(value) for _, value in points])
        series.append(lines)
    logs = [_is_log(curves, key) for key in keys]
    ranges = [_range(curves, key, log) for key, log in zip(keys, logs, strict=True)]
    names = [one_line(key, MAX_CHARS) for key in keys]
    data = {
        "keys": names,
        "log": logs,
        "range": ranges,
        "groups": names_of_groups,
        "trial": [one_line(name, MAX_CHARS) for name in shown],
        "group": [groups[name] for name in shown],
        "rank": [ranks[name] for name in shown],
        "state": [states[name] for name in shown],
        "series": series,
    }
    if any(ranges):
        caption += " The axis shows what came after a tenth of the steps; a double click shows all."
    counts = Counter(groups[name] for name in shown)
    if counts[_GROUPS_BELOW[TrialState.DONE.value]]:
        caption += " Of trials done without a rank a cross ends what is finite, as before NaN."
    if counts[_FRESH_GROUP]:
        caption += " The runs on fresh seeds are hidden until their name above is pressed."
    words = "; ".join(
        f"{name}: {counts[group]}" for group, name in enumerate(names_of_groups) if counts[group]
    )
    table = f"{len(shown)} trials have curves of {', '.join(names)}. By group: {words}."
    return Figure("curves", title, caption, data, table)


def _groups(board: Leaderboard, n_best: int) -> tuple[dict[str, int], dict[str, int | None]]:
    """Return the group of each trial and its rank; halves are those of the ranked trials."""
    frame = board.frame
    groups: dict[str, int] = {}
    for row, (name, state) in enumerate(
        zip(frame["trial"].tolist(), frame["state"].tolist(), strict=True)
    ):
        if row < board.n_ranked:
            groups[name] = 0 if row < n_best else 1 if row < board.n_ranked / 2 else 2
        elif name in board.fresh and state == TrialState.DONE.value:
            groups[name] = _FRESH_GROUP
        else:
            groups[name] = _GROUPS_BELOW.get(state, 4)
    return groups, dict(zip(frame["trial"].tolist(), cells(frame["rank"]), strict=True))


def _range(curves: Curves, key: str, is_log: bool) -> list[float] | None:
    """Return the axis that shows all but the first tenth of the steps; None if that is all."""
    points = [point for found in curves.values() for point in found.get(key, ())]
    values = [value for _, value in points if value is not None]
    if not values:
        return None
    begin = _FIRST_SHARE * max(step for step, _ in points)
    late = [value for step, value in points if step >= begin and value is not None]
    if not late or (min(late), max(late)) == (min(values), max(values)):
        return None
    low, high = min(late), max(late)
    if is_log:
        reach = (high / low) ** 0.04
        return [low / reach, high * reach]
    margin = 0.04 * (high - low) or 0.04 * abs(high) or 1.0
    return [low - margin, high + margin]


def _is_log(curves: Curves, key: str) -> bool:
    """Whether a metric is drawn on a log axis: above 0 and over two decades."""
    values = [v for found in curves.values() for _, v in found.get(key, ()) if v is not None]
    return bool(values) and min(values) > 0 and max(values) >= 100 * min(values)


def _round(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")
