"""The canary: which trials run first and alone, before the rest of a sweep is let go.

Pure. A canary is a trial of the sweep like the others, and its result counts; only the order is
special. ``runtime.canary`` tells on the node whether it passes; ``usecases.canary`` keeps the rest
back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.contract.states import TrialState
from orchestrator.domain.trial_state import TaskLook

# What has a result, or is to have none.
_OVER = (TrialState.DONE, TrialState.CANCELLED)
# How a canary is to show that it can go on: told to stop, it saves and resumes; it is stopped once
# it has saved by itself; not at all.
CHECKPOINTS = ("on_signal", "periodic", "none")


@dataclass(frozen=True)
class Canary:
    """The spec's ``canary:``."""

    trials: int = 1
    """How many run first; of each shape, with ``each_shape``."""
    each_shape: bool = False
    """Whether every distinct shape has canaries of its own."""
    checkpoint: str = "on_signal"
    """One of ``CHECKPOINTS``."""


@dataclass(frozen=True)
class Candidate:
    """A trial that may be a canary."""

    name: str
    """Directory name."""
    shape: Hashable
    """What it asks for by itself, and of which partition first; equal for trials of one shape."""
    state: TrialState
    """Where it stands."""
    task: TaskLook | None = None
    """What Slurm says of it; None if it was not asked."""


def choose_canaries(
    wanted: Canary | None, trials: Sequence[Candidate], verdicts: Mapping[str, bool | None]
) -> tuple[str, ...]:
    """Choose the canaries that still have to pass.

    The choice follows from what is on disk, so that the next submission makes the same one: a trial
    that was a canary stays one, though values were added to the sweep before it.

    Args:
        wanted: The spec's; None: no canary.
        trials: The spec's trials, in its order.
        verdicts: Whether a trial passed as a canary, by name; None: it is one and has no verdict
            yet, or has to show it again. A trial that failed as one and has a result nevertheless
            (it could not resume, say) is not asked again; another one is.

    Returns:
        Their names in the order of the spec; none if the rest need not wait.
    """
    if wanted is None:
        return ()
    groups: dict[Hashable, list[Candidate]] = {}
    for trial in trials:
        groups.setdefault(trial.shape if wanted.each_shape else None, []).append(trial)
    chosen: set[str] = set()
    for members in groups.values():
        n_missing = wanted.trials - sum(_has_passed(trial, verdicts) for trial in members)
        open_ones = [trial for trial in members if trial.state not in _OVER]
        # Former canaries first; sorting is stable, so else the spec's order holds.
        open_ones = [t for t in open_ones if not verdicts.get(t.name, False)]
        open_ones.sort(key=lambda trial: trial.name not in verdicts)
        chosen |= {trial.name for trial in open_ones[: max(0, n_missing)]}
    return tuple(trial.name for trial in trials if trial.name in chosen)


def warn_of_no_rest(wanted: Canary, trials: Sequence[Candidate]) -> list[str]:
    """Warn of a canary that leaves no trial to hold, since all of them are canaries."""
    shapes = Counter(trial.shape if wanted.each_shape else None for trial in trials)
    if sum(min(n, wanted.trials) for n in shapes.values()) < len(trials):
        return []
    n_trials = f"{len(trials)} trial" + ("s" if len(trials) != 1 else "")
    each = " of each shape" if wanted.each_shape else ""
    return [
        f"canary: {wanted.trials}{each} of {n_trials}: nothing is left to hold, so a mistake costs "
        "all of them; use fewer canaries, or none"
    ]


def _has_passed(trial: Candidate, verdicts: Mapping[str, bool | None]) -> bool:
    """Whether a trial has shown what a canary has to: a result of before the canary does too."""
    if trial.name in verdicts:
        return bool(verdicts[trial.name])
    return trial.state is TrialState.DONE


def names_in_words(names: Iterable[str]) -> str:
    """Name canaries for people."""
    found = list(names)
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return f"{found[0]}{more}" if found else "none"


def in_words(names: Sequence[str], has_rest: bool = True) -> str:
    """Say which canaries go first, on one line; empty without any."""
    if not names:
        return ""
    verb = "go" if len(names) > 1 else "goes"
    rest = "the rest is held until that has passed" if has_rest else "nothing is left to hold"
    return f"{names_in_words(names)} {verb} first; {rest}"
