"""Confirming the first place: running the best configurations again on fresh seeds.

Runs on the login node. What is added is written into ``confirmation.json`` under the sweep's lock,
and then a submission follows like any other, of the spec and the code as they were submitted last:
what is confirmed is what ran, not what was edited since. Trials that failed do not go again with
it: they take no fresh seed, and no forecast has their cost. The record comes first, and the trials
are those of the sweep from then on. So a command that is killed anywhere has either asked for
nothing, or its trials are made by whoever submits next; typed again, it asks for what is missing,
which is nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from orchestrator.adapters import journal
from orchestrator.adapters.confirmation_file import read_confirmation, write_confirmation
from orchestrator.adapters.executors.local import LocalEvent
from orchestrator.contract.errors import ClusterUnreachable, UserError
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.states import TERMINAL_STATES, TrialState
from orchestrator.domain.confirmation import (
    extend,
    find_seed_parameter,
    seeds_in,
)
from orchestrator.domain.cost import Usage, sum_usage, trial_usage
from orchestrator.domain.fresh_trials import Confirmation, FreshTrial
from orchestrator.domain.leaderboard import Leaderboard
from orchestrator.domain.partition import PartitionProfile
from orchestrator.domain.spec import SweepSpec
from orchestrator.domain.trials import Trial
from orchestrator.usecases.check_trials import refuse_hopeless
from orchestrator.usecases.collect import collect
from orchestrator.usecases.observe import Observation, observe
from orchestrator.usecases.placed_trials import place_trials
from orchestrator.usecases.submit import SubmitOptions, SubmitReport, submit
from orchestrator.usecases.vanished import with_vanished

# The best alone cannot lose; against two others it can. More only where ties say so.
DEFAULT_TOP = 3
MAX_DEFAULT_TOP = 5
# With 5 runs the 95 % interval is 1.24 standard deviations to each side, with 3 it is 2.48: half of
# it for two more runs. The next half takes twelve.
DEFAULT_SEEDS = 5


@dataclass(frozen=True)
class ConfirmOptions:
    """What to confirm."""

    results: str
    """The results folder."""
    templates: str
    """The templates folder."""
    top: int | None = None
    """How many configurations; None: as many as were asked for last, else ``DEFAULT_TOP``, or as
    many as are tied with the best, at most ``MAX_DEFAULT_TOP``."""
    n_seeds: int | None = None
    """Fresh seeds of each; None: as many as there are already, else ``DEFAULT_SEEDS``."""
    again: bool = False
    """Whether so many fresh seeds are added to those that there are, once their runs have ended."""
    seed_parameter: str | None = None
    """The parameter that takes the seed; None: found in the spec."""
    now: bool = False
    """Whether to choose although trials of the sweep have not ended."""
    dry_run: bool = False
    """Whether to stop before anything is written or submitted."""


@dataclass
class ConfirmReport:
    """What is confirmed, and what was added for it."""

    sweep: SweepPaths
    """The sweep."""
    board: Leaderboard
    """Its leaderboard, as it was before."""
    confirmation: Confirmation
    """All that is asked for by now."""
    chosen: list[str]
    """Names of the trials that the configurations were chosen by, the best first."""
    added: tuple[FreshTrial, ...]
    """What was, or on a dry run would be, added."""
    expected: Usage
    """What that takes, by the sweep's own runs of the same configurations."""
    n_measured: int
    """How many trials that is measured by."""
    n_open: int
    """Fresh trials that have not ended, those that were added included."""
    n_left_failed: int = 0
    """Trials of the sweep itself that failed; they are left as they are."""
    warnings: list[str] = field(default_factory=list)
    """For people."""
    submission: SubmitReport | None = None
    """What was submitted; None if nothing was to be done."""


@dataclass(frozen=True)
class _Seen:
    """The sweep as it is."""

    spec: SweepSpec
    observation: Observation
    board: Leaderboard
    own: Sequence[Trial]
    """The spec's trials."""


def confirm(
    sweep: SweepPaths,
    spec: SweepSpec,
    profiles: Mapping[str, PartitionProfile],
    options: ConfirmOptions,
    cluster: str,
    on_local_start: Callable[[int], Callable[[LocalEvent], None]],
) -> ConfirmReport:
    """Run the best configurations again on fresh seeds, as far as they do not already.

    Args:
        sweep: A submitted sweep.
        spec: As it was submitted last, see ``frozen_spec``.
        profiles: The partitions that its trials may go to by name, the preferred one first.
        options: See ``ConfirmOptions``.
        cluster: ``slurm`` or ``local``.
        on_local_start: As of ``submit``.

    Raises:
        UserError: Nothing is ranked, trials have not ended, or the seed is not known.
        ClusterUnreachable: Slurm did not answer; nothing was asked for.
        SweepLocked: Another submission of this sweep is under way.
    """
    before = read_confirmation(sweep)
    seen = _look(sweep, spec, profiles, cluster, before)
    wanted = _extend(before, seen, options)
    report = _report(sweep, seen, before, wanted)
    if report.added:
        _refuse_early(seen, wanted, options)
        placed = place_trials(spec, profiles, cluster, wanted)
        fresh = {trial.id for trial in report.added}
        new = [(trial, places) for trial, places in placed.trials if trial.id in fresh]
        report.warnings += refuse_hopeless(spec, new, cluster)
    if options.again and before.trials and not report.added:
        words = f"{report.n_open} runs on fresh seeds have not ended; --again adds some once"
        report.warnings.append(f"{words} they have")
    if options.dry_run:
        return report
    if report.added:
        with journal.lock(sweep) as writer:
            before = read_confirmation(sweep)  # another one may have asked meanwhile
            wanted = _extend(before, seen, options)
            report = _report(sweep, seen, before, wanted, report.warnings)
            if report.added:
                write_confirmation(sweep, wanted)
                seeds = sorted({trial.seed for trial in report.added})
                of = {trial.id: trial.of for trial in report.added}
                writer.write("confirming", seeds=seeds, trials=of)
    if report.n_open:
        how = SubmitOptions(options.results, options.templates, is_round=True, retries=False)
        report.submission = submit(spec, profiles, how, cluster, on_local_start)
        report.warnings += report.submission.warnings
    return report


def _look(
    sweep: SweepPaths,
    spec: SweepSpec,
    profiles: Mapping[str, PartitionProfile],
    cluster: str,
    before: Confirmation,
) -> _Seen:
    own = place_trials(spec, profiles, cluster, before).own
    observation = observe(sweep)
    if observation.unreachable is not None:
        raise ClusterUnreachable(
            f"{observation.unreachable}; what has ended is unknown, so nothing was asked for"
        )
    shown = with_vanished(observation, sweep)
    collection = collect(
        sweep,
        shown.states,
        shown.reasons,
        datetime.now(UTC),
        scan=shown.scan,
        write_files=False,
    )
    if not collection.board.leads:
        raise UserError(
            f"{sweep.name}: nothing is ranked yet, so there is nothing to confirm: make collect"
        )
    return _Seen(spec, observation, collection.board, own)


def _extend(before: Confirmation, seen: _Seen, options: ConfirmOptions) -> Confirmation:
    """Return what is to be asked for in all."""
    spec = seen.spec
    asked = options.seed_parameter or (before.seed_parameter if before.trials else None)
    seed_parameter = find_seed_parameter(spec, asked)
    on_disk = [trial.params for trial in seen.observation.trials if trial.params is not None]
    taken = seeds_in([*on_disk, *(trial.params for trial in seen.own)], seed_parameter)
    n_before = len(before.seeds)
    # Not while runs are open: typed again after it was killed, it would add twice.
    if options.again and not _count_open(before, seen.observation):
        n_seeds = n_before + (options.n_seeds or DEFAULT_SEEDS)
    elif options.again:
        n_seeds = n_before
    else:
        n_seeds = max(n_before, options.n_seeds or (0 if n_before else DEFAULT_SEEDS))
    # Which configurations are the same is a question of the parameter, not of seeds.
    sieve = extend(before, spec, [], seed_parameter, 0, ())
    chosen = _choose(seen, sieve, options.top or before.top or _default_top(seen.board))
    return extend(before, spec, chosen, seed_parameter, n_seeds, taken)


def _choose(
    seen: _Seen, sieve: Confirmation, n_wanted: int
) -> list[tuple[str, Mapping[str, object]]]:
    """Return name and parameters of the best configurations, the best first."""
    params = {trial.name: trial.params for trial in seen.observation.trials}
    names = [seen.board.table["trial"].cells[row] for row in seen.board.leads]
    found: dict[str, tuple[str, Mapping[str, object]]] = {}
    for name in names:
        own = params.get(name)
        if own is not None and len(found) < n_wanted:
            found.setdefault(sieve.key(own), (name, own))
    return list(found.values())


def _default_top(board: Leaderboard) -> int:
    n_tied = 0
    if "tie" in board.table:
        n_tied = sum(board.table["tie"].cells[row] == 1 for row in board.leads)
    return min(max(DEFAULT_TOP, n_tied), MAX_DEFAULT_TOP)


def _refuse_early(seen: _Seen, wanted: Confirmation, options: ConfirmOptions) -> None:
    """Refuse to choose while the choice may change.

    Raises:
        UserError: Trials of the sweep have not ended, and nobody said ``--now``.
    """
    states = seen.observation.states
    by_id = {trial.id: states[trial.name] for trial in seen.observation.trials}
    own = [trial for trial in seen.own if trial.id not in wanted.by_id]
    n_open = sum(by_id.get(trial.id) not in TERMINAL_STATES for trial in own)
    if n_open and not options.now:
        raise UserError(
            f"{n_open} of {len(own)} trials have not ended, so who is best may change: make "
            "supervise first, or choose now with ARGS=--now"
        )


def _report(
    sweep: SweepPaths,
    seen: _Seen,
    before: Confirmation,
    wanted: Confirmation,
    warnings: Sequence[str] = (),
) -> ConfirmReport:
    added = wanted.missing(before)
    states = seen.observation.states
    measured: dict[str, list[Usage]] = {}
    for trial in seen.observation.trials:
        if trial.is_committed and trial.params is not None:
            used = trial_usage(trial.attempts, states[trial.name], time.time())
            measured.setdefault(wanted.key(trial.params), []).append(used)
    expected = [_mean(measured.get(wanted.key(trial.params), [])) for trial in added]
    keys = {wanted.key(trial.params) for trial in added}
    failed = {t.id for t in seen.observation.trials if states[t.name] is TrialState.FAILED}
    n_left = sum(t.id in failed and t.id not in wanted.by_id for t in seen.own)
    return ConfirmReport(
        sweep,
        seen.board,
        wanted,
        list(dict.fromkeys(trial.of for trial in wanted.trials)),
        added,
        sum_usage(expected),
        sum(len(measured.get(key, [])) for key in keys),
        _count_open(wanted, seen.observation),
        n_left,
        list(warnings),
    )


def _count_open(confirmation: Confirmation, observation: Observation) -> int:
    states = {trial.id: observation.states[trial.name] for trial in observation.trials}
    return sum(states.get(t.id) not in TERMINAL_STATES for t in confirmation.trials)


def _mean(usages: Sequence[Usage]) -> Usage:
    """Return what one of several runs took on average."""
    n, total = len(usages), sum_usage(usages)
    if not n:
        return Usage(is_estimate=True)
    cost = {currency: amount / n for currency, amount in total.cost.items()}
    return Usage(total.wall_h / n, total.gpu_hours / n, cost, True)
