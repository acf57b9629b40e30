"""``orchestrator failures``: what failed, grouped by cause, with one traceback each."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime

from orchestrator.cli.arguments import (
    find_sweep,
    make_parser,
    read_count,
    results_hint,
    split_words,
)
from orchestrator.cli.json_output import print_json
from orchestrator.cli.next_step import tell_next
from orchestrator.contract.errors import EXIT_OK, EXIT_TRIALS_FAILED, EXIT_TRY_AGAIN, UserError
from orchestrator.contract.states import TrialState
from orchestrator.domain.cause import Cause
from orchestrator.domain.failure_groups import FailureGroup
from orchestrator.domain.history import failed_for_good
from orchestrator.domain.plain_text import one_line
from orchestrator.usecases.failures import MAX_LOG_LINES, read_failures, read_interruptions
from orchestrator.usecases.observe import Observation
from orchestrator.usecases.vanished import observe_results

DESCRIPTION = """\
Show what failed, grouped by cause: trials that failed first, then what went
well in a later attempt. Of each group one traceback, or the last lines of one
log. Preemptions and lost nodes are counted, and are no failures.
"""
# Of each kind; the rest is counted. --all shows them.
MAX_GROUPS = 10
MAX_NAMES = 8
_NAMES_A_LINE = 4
_TIME = "%Y-%m-%d %H:%M:%S"
# What interruptions are called when they are counted.
_COUNTED = {
    Cause.PREEMPTED: ("preemption", "preemptions"),
    Cause.INTERRUPTED: ("interruption", "interruptions"),
    Cause.TIMEOUT: ("end by the time limit", "ends by the time limit"),
    Cause.NODE_FAILURE: ("node failure", "node failures"),
    Cause.SILENT: ("end without a word", "ends without a word"),
    Cause.CANCELLED: ("cancellation", "cancellations"),
}


def run(argv: Sequence[str]) -> int:
    """Run the command; exits 1 if trials failed and 3 if Slurm did not answer."""
    parser = make_parser("failures", DESCRIPTION, "a spec or the name of a submitted sweep")
    parser.add_argument(
        "--lines",
        type=read_count,
        default=MAX_LOG_LINES,
        metavar="N",
        help=f"log lines of each group at most (default: {MAX_LOG_LINES})",
    )
    parser.add_argument("--all", action="store_true", help="every group and trial, not the first")
    options = parser.parse_intermixed_args(list(argv))
    word, overrides = split_words(options.words)
    if overrides:
        raise UserError(f"failures takes no overrides: {overrides[0]}")
    sweep = find_sweep(options.results, word)
    observation = observe_results(sweep)
    max_groups = sys.maxsize if options.all else MAX_GROUPS
    max_logs = max_groups if not options.json or options.all else MAX_GROUPS
    groups = read_failures(sweep, observation, options.lines, max_logs)
    interruptions = read_interruptions(observation)
    if options.json:
        print_json("failures", _as_json(sweep.name, observation, groups, interruptions))
    else:
        where_else = results_hint(options.results, sweep)
        _print(sweep.name, observation, groups, max_groups, where_else)
        print(_tell_interruptions(interruptions))
    if observation.unreachable is not None:
        return EXIT_TRY_AGAIN
    return EXIT_TRIALS_FAILED if observation.count().get(TrialState.FAILED) else EXIT_OK


def _print(
    name: str,
    observation: Observation,
    groups: Sequence[FailureGroup],
    max_groups: int,
    where_else: str,
) -> None:
    n_failed = observation.count().get(TrialState.FAILED, 0)
    n_trials, n_groups = len(observation.trials), sum(bool(group.failed) for group in groups)
    ways = f" in {n_groups} ways" if n_groups > 1 else ""
    print(f"{name}: {n_failed} of {n_trials} trials failed{ways}")
    if observation.unreachable is not None:
        print(f"Slurm does not answer: {one_line(observation.unreachable)}")
    for group in groups[:max_groups]:
        print()
        _print_group(group, observation, max_groups == sys.maxsize, where_else)
    if len(groups) > max_groups:
        print(f"\n... and {len(groups) - max_groups} more groups (--all)")
    print()


def _print_group(
    group: FailureGroup, observation: Observation, is_all: bool, where_else: str
) -> None:
    print(f"{_tell_size(group)}: {group.cause}  [{one_line(group.fingerprint, 40)}]")
    if group.reason != group.cause:
        print(f"  {one_line(group.reason, 300)}")
    names = list(group.failed or group.trials)
    shown = names if is_all else names[:MAX_NAMES]
    for start in range(0, len(shown), _NAMES_A_LINE):
        is_last = start + _NAMES_A_LINE >= len(shown)
        rest = len(names) - len(shown) if is_last else 0
        more = f"  and {rest} more" if rest else ""
        print("  " + "  ".join(shown[start : start + _NAMES_A_LINE]) + more)
    where = _tell_nodes(group.nodes)
    when = _tell_time(group.first_at, group.last_at)
    if where or when:
        print("  " + "; ".join(filter(None, (where, when))))
    if group.log:
        print(f"  the log of {group.example}, attempt {group.example_attempt}:")
    for line in group.log:
        print(f"    | {line}".rstrip())
    if group.decision and group.decision != group.reason:
        print(f"  decided: {one_line(group.decision, 300)}")
    print(f"  next: {_tell_next(group, observation, where_else)}")


def _tell_size(group: FailureGroup) -> str:
    n, n_trials = group.attempts, len(group.trials)
    attempts = f"{n} attempt{'s' * (n != 1)}"
    if group.failed:
        n_failed = len(group.failed)
        words = f"{n_failed} trial{'s' * (n_failed != 1)} failed"
        return words if n in (0, n_failed) else f"{words}, with {attempts} of {n_trials} trials"
    return f"{attempts} of {n_trials} trial{'s' * (n_trials != 1)} failed"


def _tell_nodes(nodes: Sequence[tuple[str, int]]) -> str:
    if not nodes:
        return ""
    words = [f"{one_line(node, 40)} ({n})" for node, n in nodes[:MAX_NAMES]]
    rest = f" and {len(nodes) - MAX_NAMES} more" if len(nodes) > MAX_NAMES else ""
    return "on " + ", ".join(words) + rest


def _tell_time(first: datetime | None, last: datetime | None) -> str:
    if first is None or last is None:
        return ""
    start, end = first.strftime(_TIME), last.strftime(_TIME)
    if start == end:
        return f"at {start} UTC"
    same_day = first.date() == last.date()
    return f"from {start} to {last.strftime('%H:%M:%S') if same_day else end} UTC"


def _tell_next(group: FailureGroup, observation: Observation, where_else: str) -> str:
    if group.is_over:
        n = len(group.trials)
        return f"nothing: {'it' if n == 1 else 'all'} went again, and {_has(n)} a result"
    if not group.failed:
        return f"nothing: {_tell_states(group, observation)}"
    is_paused = observation.closed is not None or observation.journal.paused is not None
    is_final = group.example in observation.journal.gave_up or _is_final(group, observation)
    return tell_next(
        TrialState.FAILED, is_final, is_paused, where_else, is_imported=observation.is_imported
    )


def _is_final(group: FailureGroup, observation: Observation) -> bool:
    name = group.example
    trial = observation.scan.find(name)
    return failed_for_good(trial, observation.states[name], observation.looks[name].state)


def _tell_states(group: FailureGroup, observation: Observation) -> str:
    """Say where the trials of a group stand that did not fail in the end, or not by this."""
    counts: dict[TrialState, int] = {}
    for name in group.trials:
        state = observation.states[name]
        counts[state] = counts.get(state, 0) + 1
    parts = [
        f"{n} failed otherwise later" if state is TrialState.FAILED else f"{n} {state.value}"
        for state in TrialState
        if (n := counts.get(state, 0))
    ]
    return "went again since: " + ", ".join(parts)


def _has(n: int) -> str:
    return "has" if n == 1 else "have"


def _tell_interruptions(interruptions: Mapping[Cause, int]) -> str:
    words = [f"{n} {_COUNTED[cause][n != 1]}" for cause, n in interruptions.items() if n]
    if not words:
        return "No interruptions, no lost nodes."
    return "Interruptions, which count against no trial: " + ", ".join(words) + "."


def _as_json(
    name: str,
    observation: Observation,
    groups: Sequence[FailureGroup],
    interruptions: Mapping[Cause, int],
) -> dict[str, object]:
    return {
        "sweep": name,
        "n_trials": len(observation.trials),
        "n_failed": observation.count().get(TrialState.FAILED, 0),
        "unreachable": observation.unreachable,
        "interruptions": {cause.name.lower(): n for cause, n in interruptions.items()},
        "groups": [
            {
                "kind": group.kind,
                "cause": group.cause,
                "reason": group.reason,
                "fingerprint": group.fingerprint,
                "trials": list(group.trials),
                "failed": list(group.failed),
                "mended": list(group.mended),
                "is_over": group.is_over,
                "attempts": group.attempts,
                "nodes": dict(group.nodes),
                "first_at": None if group.first_at is None else group.first_at.isoformat(),
                "last_at": None if group.last_at is None else group.last_at.isoformat(),
                "example": {"trial": group.example, "attempt": group.example_attempt},
                "decision": group.decision,
                "log": list(group.log),
            }
            for group in groups
        ],
    }
