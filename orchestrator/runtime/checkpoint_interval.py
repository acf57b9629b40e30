"""How often to save a checkpoint: the formulas of Young and Daly, and a clock that applies them.

Runs inside the trial's program on the compute node; programs reach it through
``orchestrator.runtime.session``. Pure but for the clock, which is given.

With delta the time to save, M the mean time between *unannounced* losses (a preemption that leaves
time to save costs no work, so it does not count) and tau the time to work between two saves:

- Young, CACM 17(9), 1974, "A first order approximation to the optimum checkpoint interval":
  ``tau = sqrt(2 delta M)``.
- Daly, FGCS 22(3), 2006, 303-312, doi 10.1016/j.future.2004.11.016: ``tau = sqrt(2 delta M) *
  (1 + sqrt(delta / 2M) / 3 + delta / 2M / 9) - delta`` for ``delta < 2M``, else ``tau = M``.

Saving twice as often or half as often as the optimum costs a quarter more than it must: a rough M
is good enough. A shell script gets tau of a save time in seconds by
``python -m orchestrator.runtime.checkpoint_interval SECONDS``.
"""

from __future__ import annotations

import math
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# Used where nothing is known, see ``runtime.loss_rate``: one loss in a node's day.
DEFAULT_MTBF_S = 24 * 3600.0
# A save takes so long until one was measured; with one loss a day the first comes after 22 min.
ASSUMED_SAVE_S = 10.0
# A save that takes no time would be due after every step, and a file server has other users.
MIN_INTERVAL_S = 10.0
# One slow save, the first one say, should not rule the interval: the median of so many counts.
N_SAVES = 5


def young_interval_s(save_s: float, mtbf_s: float) -> float:
    """Young's first-order optimum of the time to work between two saves.

    Args:
        save_s: Seconds that a save takes; 0 gives 0: save all the time.
        mtbf_s: Mean seconds between unannounced losses; infinite gives infinity: never save,
            unless saving is free.

    Raises:
        ValueError: A negative or undefined time, or a mean time of 0.
    """
    _check(save_s, mtbf_s)
    return math.sqrt(2 * save_s * mtbf_s) if save_s else 0.0


def daly_interval_s(save_s: float, mtbf_s: float) -> float:
    """Daly's higher-order optimum; arguments and edges as for Young's.

    A save that takes twice the mean time between losses or longer gives that mean time: nothing
    helps there any more.
    """
    _check(save_s, mtbf_s)
    if math.isinf(mtbf_s) or not save_s:
        return young_interval_s(save_s, mtbf_s)
    if save_s >= 2 * mtbf_s:
        return mtbf_s
    ratio = save_s / (2 * mtbf_s)
    return math.sqrt(2 * save_s * mtbf_s) * (1 + math.sqrt(ratio) / 3 + ratio / 9) - save_s


def _check(save_s: float, mtbf_s: float) -> None:
    if not (0 <= save_s < math.inf and mtbf_s > 0):
        raise ValueError(f"no interval for a save of {save_s} s and a loss each {mtbf_s} s")


class CheckpointClock:
    """Tells when the next checkpoint is due. Time spent saving does not count towards it."""

    def __init__(
        self,
        mtbf_s: float = DEFAULT_MTBF_S,
        *,
        interval_s: float | None = None,
        grace_s: float | None = None,
        now: Callable[[], float] = time.monotonic,
        warn: Callable[[str], None] = lambda line: None,
    ):
        """Start the clock.

        Args:
            mtbf_s: Mean seconds between unannounced losses of this job.
            interval_s: Seconds between saves that the user asked for; None asks Daly.
            grace_s: Seconds between the request to stop and the end, if known.
            now: A monotonic clock.
            warn: Takes one line, at most once: saves take longer than the grace.
        """
        self._mtbf_s, self._wanted_s, self._grace_s = mtbf_s, interval_s, grace_s
        self._now, self._warn = now, warn
        self._saves: list[float] = []
        self._has_warned = False
        self._since = now()

    @property
    def save_s(self) -> float:
        """Seconds that a save takes: the median of the last ones, an assumption before any."""
        saves = sorted(self._saves)
        return saves[len(saves) // 2] if saves else ASSUMED_SAVE_S

    @property
    def interval_s(self) -> float:
        """Seconds to work between two saves."""
        if self._wanted_s is not None:
            return self._wanted_s
        return max(MIN_INTERVAL_S, daly_interval_s(self.save_s, self._mtbf_s))

    def is_due(self, interval_s: float | None = None) -> bool:
        """Tell whether to save now.

        Args:
            interval_s: Seconds between saves, instead of all that is known; None: as known.
        """
        wanted = self.interval_s if interval_s is None else interval_s
        return self._now() - self._since >= wanted

    def failed(self) -> None:
        """Note that a save came to nothing: trying again after each step would help nobody."""
        self._since = self._now()

    def saved(self, seconds: float) -> None:
        """Note that a checkpoint is complete and took so long.

        Raises:
            ValueError: A negative or undefined time.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"a save cannot take {seconds} s")
        self._saves = [*self._saves[1 - N_SAVES :], seconds]
        self._since = self._now()
        if self._grace_s is not None and seconds > self._grace_s and not self._has_warned:
            self._has_warned = True
            self._warn(
                f"saving a checkpoint took {seconds:.0f} s, but a trial that is told to stop has "
                f"{self._grace_s:.0f} s: what it did since its last checkpoint will be lost then. "
                "Save less, or to a faster file system"
            )


def clock_from_environment(
    environ: Mapping[str, str], warn: Callable[[str], None]
) -> CheckpointClock:
    """Start a clock by what the runtime and the trial's script say.

    ``TRIAL_CHECKPOINT_INTERVAL_S`` (the spec's ``checkpoint: {interval_min: ...}``) rules;
    ``TRIAL_MTBF_S`` and ``TRIAL_GRACE_S`` are used if they are there. A value that is no number
    above 0 counts as not there.
    """
    return CheckpointClock(
        _seconds(environ, "TRIAL_MTBF_S") or DEFAULT_MTBF_S,
        interval_s=_seconds(environ, "TRIAL_CHECKPOINT_INTERVAL_S"),
        grace_s=_seconds(environ, "TRIAL_GRACE_S"),
        warn=warn,
    )


def _seconds(environ: Mapping[str, str], name: str) -> float | None:
    try:
        value = float(environ[name])
    except (KeyError, ValueError):
        return None
    return value if 0 < value < math.inf else None


def main(argv: Sequence[str]) -> int:
    """Print the whole seconds to work between saves, for scripts; exits 2 on a wrong call."""
    clock = clock_from_environment(os.environ, lambda line: None)
    try:
        (text,) = argv
        clock.saved(float(text))
    except ValueError:
        sys.stderr.write("usage: checkpoint_interval SECONDS_THAT_A_SAVE_TAKES\n")
        return 2
    sys.stdout.write(f"{math.ceil(clock.interval_s)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
