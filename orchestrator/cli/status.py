"""``orchestrator status``: states, progress, and why trials failed."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Sequence

from orchestrator.cli.arguments import find_sweep, make_parser, results_hint, split_words
from orchestrator.cli.json_output import print_json
from orchestrator.cli.next_step import count_again, tell_again
from orchestrator.contract.errors import (
    EXIT_OK,
    EXIT_TRIALS_FAILED,
    EXIT_TRY_AGAIN,
    UserError,
)
from orchestrator.contract.states import TrialState
from orchestrator.domain.canary import in_words
from orchestrator.domain.plain_text import one_line
from orchestrator.runtime.gate import BUDGET
from orchestrator.usecases.status import GateView, Status, TrialLine, count_held, read_status

DESCRIPTION = "Show where a sweep's trials stand, and the last log lines of those that failed."
BAR_WIDTH = 40
MINUTE_S = 60.0
# Of each kind; the rest is counted. --all shows them.
MAX_LINES = 10
_ON_ITS_WAY = (
    TrialState.PENDING,
    TrialState.RUNNING,
    TrialState.REQUEUED,
    TrialState.DONE,
    TrialState.UNKNOWN,
)


def run(argv: Sequence[str]) -> int:
    """Run the command; exits 1 if trials failed and 3 if Slurm did not answer."""
    parser = make_parser("status", DESCRIPTION, "a spec or the name of a submitted sweep")
    parser.add_argument(
        "--lines", type=int, default=5, metavar="N", help="log lines of a failed trial (default: 5)"
    )
    parser.add_argument("--all", action="store_true", help="every trial, not the first ten")
    options = parser.parse_intermixed_args(list(argv))
    word, overrides = split_words(options.words)
    if overrides:
        raise UserError(f"status takes no overrides: {overrides[0]}")
    sweep = find_sweep(options.results, word)
    max_lines = sys.maxsize if options.all else MAX_LINES
    status = read_status(sweep, options.lines, max_lines)
    if options.json:
        print_json("status", _as_json(sweep.name, status))
    else:
        _print(sweep.name, status, max_lines, results_hint(options.results, sweep))
    if status.observation.unreachable is not None:
        return EXIT_TRY_AGAIN
    failed = status.observation.count().get(TrialState.FAILED, 0)
    return EXIT_TRIALS_FAILED if failed else EXIT_OK


def _print(name: str, status: Status, max_lines: int, where_else: str) -> None:
    observation = status.observation
    counts = observation.count()
    n_trials = len(observation.trials)
    done = counts.get(TrialState.DONE, 0)
    if not n_trials:
        print(f"{name}: nothing was submitted yet; next: make submit SWEEP=...")
        return
    filled = BAR_WIDTH * done // n_trials if n_trials else 0
    bar = "#" * filled + "." * (BAR_WIDTH - filled)
    print(f"{name}: {done} of {n_trials} trials done [{bar}]")
    print("  " + ", ".join(f"{n} {state.value}" for state, n in counts.items()))
    for words in _by_partition(status):
        print(f"  {words}")
    if observation.unreachable is not None:
        why = one_line(observation.unreachable)
        print(f"  Slurm does not answer, so nothing is given up: {why}")
    if status.budget is not None:
        print(f"  budget: {one_line(status.budget)}")
    if status.gate is not None:
        _print_gate(status.gate, where_else)
    if observation.canaries and observation.closed is None:
        print(f"  canary: {in_words(observation.canaries)}")
        for name in observation.canaries:
            state = observation.states.get(name, TrialState.NEW)
            if state not in _ON_ITS_WAY:
                print(f"  {name} is {state.value}; go on with: make submit{where_else}")
        _print_silent_canaries(status)
    for problem in observation.problems[:max_lines]:
        print(f"  problem: {one_line(problem)}")
    _print_active(status.active, max_lines)
    if status.blocked:
        print("waiting, and Slurm will not start them as things are:")
        _print_troubled(status.blocked, max_lines)
    _print_troubled(status.troubled, max_lines)
    if counts.get(TrialState.FAILED, 0):
        print(f"why, with tracebacks: make failures{where_else}")
    resumable = counts.get(TrialState.INTERRUPTED, 0) + counts.get(TrialState.LOST, 0)
    if resumable and status.gate is None:
        words = f"takes up the {resumable} interrupted or lost again"
        print(f"next: make submit{where_else} {words}")
    elif done:
        print(f"next: make collect{where_else}")
    if observation.is_imported:
        return  # nothing here can run them
    if status.gate is None:
        for line in tell_again(*count_again(observation), where_else):
            print(line)


def _print_silent_canaries(status: Status) -> None:
    """Say since when a canary runs without a report: what waits for it waits until it ends."""
    n_held = count_held(status.observation)
    waits = "others" if n_held is None else n_held
    for line in status.active:
        if line.name not in status.observation.canaries or line.state is not TrialState.RUNNING:
            continue
        if line.last_step is None and line.age_s is not None:
            is_new = line.age_s < MINUTE_S
            since = "less than a minute" if is_new else f"{line.age_s / MINUTE_S:.0f} min"
            print(f"  {line.name} has run for {since} without a report; {waits} wait until it")
            print("    reports or ends")


def _print_gate(gate: GateView, where_else: str) -> None:
    print(f"  the gate is closed: {one_line(gate.reason, 300)}")
    print(f"  closed by {one_line(gate.by, 60)} at {one_line(gate.at, 30)}")
    if gate.log:
        alike = f", one of {gate.n_alike}," if gate.n_alike > 1 else ""
        print(f"  the log of {gate.trial}{alike} ends:")
    for text in gate.log:
        print(f"    | {text}")
    n_held = "not known" if gate.n_held is None else gate.n_held
    print(f"  running trials go on, no other starts; held in the queue: {n_held}")
    if gate.kind == BUDGET:
        print(f"  go on with more: make release{where_else} ARGS='budget.cost=...' (or gpu_hours)")
    else:
        print(f"  mend it, then: make release{where_else}")


def _by_partition(status: Status) -> list[str]:
    """One line for each partition, if there are several."""
    counts: dict[str, Counter[str]] = {}
    for name, partition in status.observation.journal.partitions.items():
        if name in status.observation.states:
            state = status.observation.states[name].value
            counts.setdefault(partition, Counter())[state] += 1
    if len(counts) < 2:
        return []
    return [
        f"on {one_line(partition, 40)}: " + ", ".join(f"{n} {state}" for state, n in found.items())
        for partition, found in counts.items()
    ]


def _print_active(lines: list[TrialLine], max_lines: int) -> None:
    if lines:
        print("in progress:")
    for line in lines[:max_lines]:
        words = [line.name, line.state.value]
        node = one_line(line.node, 40) if line.state is TrialState.RUNNING else ""
        words += [f"on {node}"] if node else []
        words += [f"step {line.last_step}"] if line.last_step is not None else []
        words += [f"attempt {line.n_attempts}"] if line.n_attempts > 1 else []
        words += [one_line(line.reason, 40)] if line.reason else []
        print("  " + "  ".join(words))
    _print_rest(len(lines), max_lines)


def _print_troubled(lines: list[TrialLine], max_lines: int) -> None:
    """Print one paragraph for each way of going wrong: a hundred trials can fail the same way."""
    groups: dict[tuple[TrialState, str], list[TrialLine]] = {}
    for line in lines:
        groups.setdefault((line.state, line.reason), []).append(line)
    for (state, reason), members in list(groups.items())[:max_lines]:
        print(f"{len(members)} {state.value}" + (f": {one_line(reason, 300)}" if reason else ""))
        names = [line.name for line in members[:max_lines]]
        rest = f" and {len(members) - len(names)} more (--all)" if len(members) > len(names) else ""
        for start in range(0, len(names), 4):
            last = start + 4 >= len(names)
            print("  " + "  ".join(names[start : start + 4]) + (rest if last else ""))
        shown = next((line for line in members if line.log), None)
        if shown is not None:
            print(f"  the log of {shown.name} ends:")
        for text in shown.log if shown is not None else ():
            print(f"    | {text}")
    _print_rest(len(groups), max_lines)


def _print_rest(n_lines: int, max_lines: int) -> None:
    if n_lines > max_lines:
        print(f"  ... and {n_lines - max_lines} more (--all)")


def _as_json(name: str, status: Status) -> dict[str, object]:
    observation = status.observation
    return {
        "sweep": name,
        "n_trials": len(observation.trials),
        "counts": {state.value: n for state, n in observation.count().items()},
        "unreachable": observation.unreachable,
        "canaries": list(observation.canaries),
        "problems": observation.problems,
        "gate": None if status.gate is None else dataclasses.asdict(status.gate),
        "budget": status.budget,
        "arrays": [
            {
                "token": submission.token,
                "job_id": submission.job_id,
                "n_trials": len(submission.trials),
                "dead": submission.dead,
            }
            for submission in observation.journal.submissions.values()
            if submission.executor == "slurm"
        ],
        "trials": [
            {
                "trial": trial.name,
                "state": observation.states[trial.name].value,
                "reason": observation.reasons.get(trial.name, ""),
                "partition": observation.journal.partitions.get(trial.name),
                "attempts": len(trial.attempts),
                "last_step": trial.last_step,
            }
            for trial in observation.trials
        ],
    }
