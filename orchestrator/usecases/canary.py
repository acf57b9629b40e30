"""The canary, seen from the login node: who runs first, and what waits for it in Slurm's queue.

Runs within a submission or a supervisor's round, by the holder of the sweep's lock. The canary's
own array is submitted first, and free to start; the arrays of the rest follow, held by Slurm
(``sbatch --hold``), and the canary itself lets them go from its node (``runtime.canary``). In this
order a full queue that has no room for the rest still takes the canary, and a submitter that is
killed in between leaves nothing that runs unguarded: what it did not submit is submitted by the
next, held or not as the verdicts are then. Nothing depends on a round: one only does what a node
could not (it died before it wrote a verdict, or was not allowed to speak to Slurm).

After a failure the gate is closed. ``make release`` opens it, and the canary has to pass again
before the rest goes: that costs one trial if the mend was none. ``canary=0`` lets all go.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.adapters import slurm_arrays, slurm_cli
from orchestrator.adapters.journal import read_journal
from orchestrator.contract.errors import ClusterUnreachable
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.states import LIVENESS, Liveness, TrialState
from orchestrator.domain.canary import (
    Candidate,
    choose_canaries,
    in_words,
    warn_of_no_rest,
)
from orchestrator.domain.ratings import HUMAN_SCORE
from orchestrator.domain.spec import SweepSpec
from orchestrator.runtime import canary, gate
from orchestrator.runtime.gate_queue import BY_HOLD
from orchestrator.usecases.scripts import PlannedTrial

if TYPE_CHECKING:
    from orchestrator.usecases.choose import Choice
    from orchestrator.usecases.observe import Observation


@dataclass
class Hold:
    """What waits for whom; of a sweep without a canary nothing for nobody."""

    sweep_root: str = ""
    """The sweep's folder."""
    names: tuple[str, ...] = ()
    """The canaries that have not passed; without any nothing waits."""
    rule: dict[str, Any] | None = None
    """What the nodes have to know about them."""
    warnings: list[str] = field(default_factory=list)
    """For people: nothing is left to hold."""

    def split(self, planned: Sequence[PlannedTrial]) -> list[list[PlannedTrial]]:
        """Part the trials to submit into the canaries and the rest, in this order."""
        first = [trial for trial in planned if trial.name in self.names]
        rest = [trial for trial in planned if trial.name not in self.names]
        return [part for part in (first, rest) if part]

    def holds(self, name: str) -> bool:
        """Whether a trial has to wait."""
        return bool(self.names) and name not in self.names

    def held_arrays(self, observation: Observation | None) -> set[str]:
        """Return the tokens of arrays that Slurm holds until then, but for canaries in them."""
        if not self.names or observation is None:
            return set()
        newest = observation.journal.last_submission_of()
        ours, found = canary.waiting_tokens(self.sweep_root), dict[str, bool]()
        for name, look in observation.looks.items():
            token = newest[name][0].token if name in newest else ""
            if token in ours and look.state is not None and name not in self.names:
                is_left = LIVENESS[look.state] is not Liveness.GONE
                is_held = not is_left or look.reason == BY_HOLD
                found[token] = found.get(token, True) and is_held
        return {token for token, is_held in found.items() if is_held}

    def may_start(self, name: str) -> bool:
        """Whether a trial may start now, the verdicts being as they are."""
        return not self.holds(name) or canary.have_passed(self.sweep_root)

    def note(self, token: str) -> None:
        """Write down that an array is about to be submitted, held."""
        canary.note_rest(self.sweep_root, token)

    def release_if_passed(self) -> list[str]:
        """Let go what was submitted held, if the canaries have passed meanwhile; warnings.

        The last of them may have looked at the queue a moment too early.
        """
        return _release(SweepPaths(self.sweep_root))[1]

    def in_words(self) -> str:
        """Say who goes first, on one line; empty if nobody does."""
        return in_words(self.names, has_rest=not self.warnings)


def choose(sweep: SweepPaths, spec: SweepSpec, choice: Choice) -> Hold:
    """Choose who goes first; what the nodes have to know of it is written after.

    Args:
        sweep: The sweep.
        spec: Its spec.
        choice: Where its trials stand, and what is about to be submitted. If a canary failed
            without anybody saying so, the gate is closed and nothing is submitted.

    Raises:
        OSError: A verdict cannot be written.
    """
    hold = Hold(sweep.root)
    if spec.canary is None:
        return hold
    known = canary.canary_rule(gate.read_rules(sweep.root))
    is_release = choice.judgement.is_release
    if is_release or gate.read_closed(sweep.root) is None:
        canary.retire_failures(sweep.root)  # a person opens the gate, or has since
    _judge_silent(sweep, choice, [] if known is None else known["trials"])
    hold.names = _choose_names(sweep, spec, choice)
    if hold.names:
        hold.warnings = warn_of_no_rest(spec.canary, choice.lineup)
        hold.rule = {
            "trials": list(hold.names),
            "checkpoint": spec.canary.checkpoint,
            "metric": _awaited_metric(spec),
        }
    return hold


def _awaited_metric(spec: SweepSpec) -> str | None:
    """Name the objective if the program itself reports it; people rate after the end."""
    name = spec.metric.name if spec.metric is not None else None
    return None if name == HUMAN_SCORE else name


def preview(sweep: SweepPaths, spec: SweepSpec, choice: Choice) -> Hold:
    """Tell who would go first if the sweep were submitted now; writes nothing."""
    hold = Hold(sweep.root, _choose_names(sweep, spec, choice))
    if hold.names and spec.canary is not None:
        hold.warnings = warn_of_no_rest(spec.canary, choice.lineup)
    return hold


def _choose_names(sweep: SweepPaths, spec: SweepSpec, choice: Choice) -> tuple[str, ...]:
    known = canary.canary_rule(gate.read_rules(sweep.root))
    verdicts: dict[str, bool | None] = dict.fromkeys(canary.former_canaries(sweep.root))
    verdicts.update(dict.fromkeys([] if known is None else known["trials"]))
    for name, verdict in canary.read_verdicts(sweep.root).items():
        verdicts[name] = True if verdict.get("passed") is True else None
    return choose_canaries(spec.canary, choice.lineup, verdicts)


def let_go(sweep: SweepPaths, choice: Choice) -> tuple[list[str], list[str]]:
    """Do in the queue what no node has done; the nodes know by now who the canaries are.

    Returns:
        What was released, as scontrol wants it; and what Slurm did not do, for people: the next
        round tries again.
    """
    if gate.read_closed(sweep.root) is not None:
        return [], []
    if not choice.canary.names:
        return _release(sweep)
    return [], _free_canaries(sweep, choice.canary.names, choice.lineup)


def _judge_silent(sweep: SweepPaths, choice: Choice, names: Sequence[str]) -> None:
    """Give a verdict on canaries that ended without one: their node died, or never ran them."""
    verdicts = canary.read_verdicts(sweep.root)
    goes_again = {trial.name for trial in choice.trials}
    for trial in choice.lineup:
        name = trial.name
        if name not in names or name in verdicts or name in goes_again:
            continue
        attempt = choice.n_attempts.get(name, 0)
        if trial.state is TrialState.DONE and name not in canary.former_canaries(sweep.root):
            canary.publish_verdict(sweep.root, name, attempt, True, "it has a result")
        elif trial.state is TrialState.FAILED:
            seen = choice.observation.reasons.get(name, "") if choice.observation else ""
            decision = choice.judgement.decisions.get(name)
            reason = (decision.reason if decision is not None else "") or seen or "nobody says why"
            words = f"canary {name} failed: {reason}"
            canary.publish_verdict(sweep.root, name, attempt, False, reason)
            detail = {"trial": name, "trials": {name: attempt}}
            gate.close(sweep.root, gate.CANARY, words, "submit", detail)
            choice.judgement.paused, choice.trials = words, []


def _free_canaries(
    sweep: SweepPaths, names: Sequence[str], lineup: Sequence[Candidate]
) -> list[str]:
    """Let a canary go that was submitted as one of the rest, before the choice fell on it.

    Its array may stand behind others, for the sweep's ceilings, that are held until it has passed.
    """
    ours = canary.waiting_tokens(sweep.root)
    newest = read_journal(sweep).last_submission_of() if ours else {}
    warnings = []
    for trial in lineup:
        look = trial.task
        if trial.name not in names or look is None or look.reason != BY_HOLD:
            continue
        if trial.name in newest and newest[trial.name][0].token in ours:
            try:
                if newest[trial.name][0].after:  # first: once released it is not looked at again
                    slurm_arrays.clear_dependency(look.task)
                slurm_cli.release(look.task)
            except ClusterUnreachable as error:
                warnings.append(f"canary {trial.name}: {error}")
    return warnings


def _release(sweep: SweepPaths) -> tuple[list[str], list[str]]:
    """Let go what waits for canaries, if they have passed or are no longer asked for.

    Returns:
        As ``let_go`` does.
    """
    tokens = canary.waiting_tokens(sweep.root)
    if not tokens or not canary.have_passed(sweep.root):
        return [], []
    if gate.read_closed(sweep.root) is not None:  # a node that opens it needs the notes
        return [], []
    try:
        released = canary.release_rest(sweep.root)
    except (OSError, subprocess.SubprocessError) as error:
        return [], [f"what waited for the canary is not released yet: {error}"]
    if gate.read_closed(sweep.root) is None:
        submissions = read_journal(sweep).submissions
        settled = [t for t in tokens if t not in submissions or submissions[t].is_settled]
        gate.forget_held(sweep.root, [canary.NOTE + token for token in settled])
    return released, []
