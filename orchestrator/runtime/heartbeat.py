"""Heartbeats of attempts: how often they come, when the next is due, and whose clock tells ages.

Runs on the compute node; the login node reads only how old a heartbeat may be. A heartbeat is the
modification time of an attempt's record, and ``runtime.claim`` makes it.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.contract.paths import TrialPaths


class Times:
    """The times, in seconds, by which attempts beat and judge each other's beats.

    Never changed once made. No dataclass, whose import would lengthen the start of each attempt.
    """

    __slots__ = (
        "end_grace_s",
        "first_beat_s",
        "heartbeat_s",
        "stale_s",
        "stopping_beat_s",
        "worth_telling_s",
    )

    def __init__(
        self,
        *,
        heartbeat_s: float = 30.0,
        first_beat_s: float = 1.0,
        stale_s: float = 100.0,
        stopping_beat_s: float = 1.0,
        worth_telling_s: float = 1.0,
        end_grace_s: float = 10.0,
    ):
        """State them.

        Args:
            heartbeat_s: The lasting distance of two heartbeats.
            first_beat_s: How soon after the claim the first one comes; the next ones at doubling
                distances, up to ``heartbeat_s``. So of one that is killed half of its life or more
                is known, from this first one on.
            stale_s: A holder whose heartbeat is older is taken for dead: three beats missed.
            stopping_beat_s: Once told to stop, a holder beats so often: what it was given can be
                read from its last beat.
            worth_telling_s: A shorter wait for an earlier attempt is no part of what a start-up
                takes.
            end_grace_s: What a superseded holder's program gets to end after SIGTERM, before
                SIGKILL.
        """
        self.heartbeat_s, self.first_beat_s, self.stale_s = heartbeat_s, first_beat_s, stale_s
        self.stopping_beat_s, self.worth_telling_s = stopping_beat_s, worth_telling_s
        self.end_grace_s = end_grace_s


def read_times(environ: Mapping[str, str]) -> Times:
    """Read what the environment says of them; tests make attempts quick with it.

    Raises:
        ValueError: A variable is no number.
    """
    words = {
        "heartbeat_s": environ.get("ORCHESTRATOR_HEARTBEAT_S"),
        "first_beat_s": environ.get("ORCHESTRATOR_FIRST_BEAT_S"),
        "stale_s": environ.get("ORCHESTRATOR_STALE_S"),
    }
    return Times(**{name: float(word) for name, word in words.items() if word is not None})


class Beats:
    """When heartbeats are due."""

    def __init__(self, now: float, times: Times):
        """Begin at ``now``, on the monotonic clock."""
        self._lasting_s = times.heartbeat_s
        self._gap_s = min(times.first_beat_s, self._lasting_s)
        self._looked_at = now  # the claim is the newest when it is made
        self.next_at = now + self._gap_s
        """When the next one is due."""

    @property
    def is_settled(self) -> bool:
        """Whether they have nearly come to their lasting distance."""
        return 2 * self._gap_s >= self._lasting_s

    def looks(self, now: float) -> bool:
        """Whether one that takes place now is to look for a successor: not if it is an early one.

        One of these does, too, a lasting distance after the claim or the last look: this process
        was frozen or held up, at once or bit by bit, and whoever waited may have passed it over.
        """
        return self.is_settled or now - self._looked_at >= self._lasting_s

    def took_place(self, now: float) -> None:
        """Take note that one took place, and looked if it was to."""
        if self.looks(now):
            self._looked_at = now
        self._gap_s = min(2 * self._gap_s, self._lasting_s)
        self.next_at = now + self._gap_s


def server_time(trial: TrialPaths) -> float:
    """Tell the time on the file server's clock: nodes' clocks need not agree with it."""
    os.utime(trial.attempts)  # without times: NFS stamps it with the server's clock
    return os.stat(trial.attempts).st_mtime
