"""``orchestrator submit``: hand a sweep's trials to Slurm, or run them on this machine."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from orchestrator.adapters.executors.local import LocalEvent
from orchestrator.adapters.profiles import choose_profiles
from orchestrator.adapters.slurm_cli import is_slurm_here
from orchestrator.adapters.spec_file import read_spec
from orchestrator.cli.arguments import make_parser, results_hint, show_path, split_words
from orchestrator.cli.json_output import print_json
from orchestrator.cli.next_step import count_again, tell_again
from orchestrator.contract.errors import EXIT_OK, EXIT_TRIALS_FAILED, UserError
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.states import TrialState
from orchestrator.domain.partition import JobShape
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.spec import SweepSpec
from orchestrator.usecases import released_budget, workspace
from orchestrator.usecases.observe import observe
from orchestrator.usecases.submit import SubmitOptions, SubmitReport, submit

DESCRIPTION = """\
Submit what is new of a sweep, was interrupted or got lost. What is queued,
running or finished is left alone, so the same command can be typed again.

Overrides stand as KEY=VALUE[,VALUE...]: learning_rate=1e-5,3e-5 run_cap=10
resources.gpus=2 partition=ondemand
"""
EXIT_INTERRUPTED = 130
# Of reasons why trials go again; the rest is counted.
MAX_REASONS = 10


def run(argv: Sequence[str]) -> int:
    """Run the command; see ``orchestrator.cli.main`` for the exit codes."""
    parser = make_parser(
        "submit", DESCRIPTION, "a spec such as sweeps/demo.yaml, and overrides KEY=VALUE"
    )
    parser.add_argument(
        "--templates", metavar="FOLDER", help="templates folder (default: templates)"
    )
    parser.add_argument(
        "--cluster", choices=("auto", "slurm", "local"), help="where to run (default: the spec's)"
    )
    parser.add_argument(
        "--retry-failed", action="store_true", help="submit failed and cancelled trials again too"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be submitted, and submit nothing"
    )
    options = parser.parse_intermixed_args(list(argv))
    word, overrides = split_words(options.words)
    spec, allowed = read_as_released(options.results, spec_file(options.results, word), overrides)
    templates = options.templates or default_templates()
    profiles = choose_profiles(templates, spec)
    cluster = _choose_cluster(options.cluster or spec.cluster)
    err = Console(stderr=True, highlight=False, soft_wrap=True)
    for warning in spec.warnings:
        err.print(f"[yellow]warning:[/] {_plain(warning)}")
    with contextlib.ExitStack() as stack:
        report = submit(
            spec,
            profiles,
            SubmitOptions(options.results, templates, options.retry_failed, options.dry_run),
            cluster,
            lambda n_trials: show_progress(stack, err, n_trials),
        )
    for warning in report.warnings:
        err.print(f"[yellow]warning:[/] {_plain(warning)}")
    ends = _Ends()
    if cluster == "local" and not options.dry_run:
        ends = _count_ends(report)
    if options.json:
        print_json("submit", _as_json(report, options.dry_run))
    else:
        _print_report(report, spec, options, ends, allowed)
    if report.stopped:
        return EXIT_INTERRUPTED
    return EXIT_TRIALS_FAILED if ends.failed or ends.unfinished else EXIT_OK


def default_templates() -> str:
    """Find the templates: in the working directory, else beside the installed package."""
    if os.path.isdir("templates"):
        return "templates"
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return os.path.join(package, "templates")


def spec_file(results: str, word: str | None) -> str:
    """Return the spec's file that a word means: itself, or without one the last sweep's.

    Raises:
        UserError: It does not end as a spec does.
    """
    if word is None:
        last = workspace.last_sweep(results)
        return workspace.DEFAULT_SPEC if last is None else last["spec"]
    if not word.endswith((".yaml", ".yml")):
        raise UserError(f"{word}: a sweep spec ends in .yaml; options start with --")
    return word


def read_as_released(
    results: str, file: str, overrides: Sequence[str]
) -> tuple[SweepSpec, list[str]]:
    """Read a spec with the budget that ``make release`` has allowed since, and say which words.

    Raises:
        UserError: It has a mistake.
    """
    spec = read_spec(file, overrides)
    sweep = SweepPaths(os.path.join(os.path.abspath(results), spec.name))
    allowed = released_budget.still_allowed(sweep, file, overrides)
    return (read_spec(file, [*overrides, *allowed]) if allowed else spec), allowed


def _choose_cluster(wanted: str) -> str:
    if wanted == "slurm" and shutil.which("sbatch") is None:
        raise UserError("there is no sbatch on this machine; use --cluster local, or a login node")
    if wanted != "auto":
        return wanted
    return "slurm" if is_slurm_here() else "local"


def show_progress(
    stack: contextlib.ExitStack, console: Console, n_trials: int
) -> Callable[[LocalEvent], None]:
    """Show a bar while trials run here; returns what takes their events."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[words]}"),
        TimeElapsedColumn(),
        console=console,
    )
    stack.enter_context(progress)
    bar = progress.add_task("trials", total=n_trials, words="")
    counts = {"running": 0, "failed": 0}

    def on_event(event: LocalEvent) -> None:
        if not event.trial:
            say = {
                "stopping": "stopping: the running trials checkpoint; Ctrl-C again ends them now",
                "closed": "the gate is closed: nothing more is started",
                "killing": "ended what was still running; those trials go on from their last "
                "checkpoint",
            }
            progress.console.print(say[event.kind])
            return
        counts["running"] += 1 if event.kind == "started" else -1
        if event.kind == "ended":
            counts["failed"] += event.exit_code != 0
            progress.advance(bar)
            if event.exit_code != 0:
                progress.console.print(f"[red]failed:[/] {event.trial}")
        words = f"{counts['running']} running"
        words += f", {counts['failed']} failed" if counts["failed"] else ""
        progress.update(bar, words=words)

    return on_event


@dataclass(frozen=True)
class _Ends:
    """How a run on this machine ended."""

    failed: int = 0
    """Trials of the sweep that failed, those of earlier runs included."""
    again: tuple[int, int] | None = None
    """What ``count_again`` says afterwards; None: nothing ran here."""
    unfinished: Mapping[TrialState, int] = field(default_factory=dict)
    """Trials of this run without a result, by state, that neither failed nor were asked to stop."""


def _count_ends(report: SubmitReport) -> _Ends:
    observation = observe(report.sweep)
    # What waits behind the closed gate is interrupted, and the gate is told of.
    wanted = [TrialState.LOST] if report.paused else [TrialState.INTERRUPTED, TrialState.LOST]
    found = [observation.states.get(planned.name) for planned in report.planned]
    counts = {state: found.count(state) for state in wanted if state in found}
    failed = observation.count().get(TrialState.FAILED, 0)
    return _Ends(failed, count_again(observation), {} if report.stopped else counts)


def _print_report(
    report: SubmitReport,
    spec: SweepSpec,
    options: argparse.Namespace,
    ends: _Ends,
    allowed: Sequence[str] = (),
) -> None:
    dry_run = options.dry_run
    where_else = results_hint(options.results)
    several = len(report.profiles) > 1
    where = f"Slurm, partition{'s' if several else ''} {report.partition}"
    where = where if report.cluster == "slurm" else "this machine"
    fresh = f" ({report.n_fresh} on fresh seeds)" if report.n_fresh else ""
    print(f"{spec.name}: {_trials(report.n_trials)}{fresh} on {where}")
    words = ", ".join(f"{n} {state.value}" for state, n in report.states.items())
    print(f"  before: {words or 'nothing to do'}")
    if allowed:
        words = one_line(" ".join(allowed), 200)
        print(f"  {words}: make release allowed it, until budget: in {spec.file} changes")
    if dry_run:
        _print_dry_run(report, options, where_else)
        return
    if report.n_earlier > 0:
        print(f"  beside them: {_trials(report.n_earlier)} of earlier versions of the spec")
    for array in report.arrays if report.cluster == "slurm" else []:
        on = f" on {array.partition}" if several else ""
        print(f"  array {array.job_id} [{array.indices}]{on}: {_trials(array.n_trials)}, each with")
        print(f"    {_shape_words(array.shape)}")
        if array.after:
            print(f"    it starts after {_arrays(array.after)}, as the sweep's ceilings want it")
    for name, mode in report.modes.items():
        if report.arrays and mode.choice is not None and not mode.choice.requeue:
            print(f"  resubmit mode{f' on {name}' if several else ''}: {mode.choice.reason}")
            print(f"    preempted trials go on with: make supervise{where_else} (or make submit)")
    verb = "ran" if report.cluster == "local" else "submitted"
    counts = ", ".join(f"{n} to {name}" for name, n in report.count_by_partition().items())
    words = f" ({counts})" if several and report.n_submitted == len(report.planned) > 0 else ""
    for line in release_words(report):
        print(f"  {line}")
    words += f", failed: {ends.failed}" if ends.failed else ""
    words += "".join(f", {state.value}: {n}" for state, n in ends.unfinished.items())
    print(f"  {verb}: {report.n_submitted}{words}")
    _print_decisions(report, options.retry_failed)
    if report.canary and not report.paused:
        print(f"  canary: {report.canary}")
    if not report.paused:
        _print_again(report, ends.again, where_else)
    print(f"  files: {show_path(report.sweep.root)}")
    if report.stopped:
        print(f"stopped; go on with: make submit{where_else}")
    elif report.paused:
        print(f"next: make status{where_else} says why; mend it, then: make release{where_else}")
    elif report.cluster == "slurm" and not _is_all_done(report):
        print(f"next: make supervise{where_else} until all has ended, or make status{where_else};")
        print(f"      when trials are done: make collect{where_else}")
    elif ends.unfinished:
        n = sum(ends.unfinished.values())
        it = "it" if n == 1 else "them"
        print(
            f"next: make submit{where_else} takes {it} up again; make status{where_else} says why"
        )
    elif 0 < ends.failed == report.n_trials:
        print(f"next: make status{where_else} says why they failed")
    else:
        print(f"next: make collect{where_else}")


def release_words(report: SubmitReport) -> list[str]:
    """Say that the gate is open again, and what was let go; nothing if nothing was."""
    lines = []
    if report.opened is not None:
        lines.append(f"the gate is open again; it was closed: {one_line(report.opened, 300)}")
    if report.released:
        lines.append(f"released: {one_line(', '.join(report.released), 300)}")
    return lines


def _is_all_done(report: SubmitReport) -> bool:
    return not report.n_submitted and set(report.states) == {TrialState.DONE}


def _print_decisions(report: SubmitReport, is_asked: bool) -> None:
    """Print why trials go again or not: one line for each reason, however many share it."""
    reasons: dict[str, list[str]] = {}
    for name, decision in report.decisions.items():
        if decision.reason:
            reasons.setdefault(decision.reason, []).append(name)
    for reason, names in list(reasons.items())[:MAX_REASONS]:
        who = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        print(f"  {who}: {one_line(reason, 200)}")
    if len(reasons) > MAX_REASONS:
        print(f"  ... and {len(reasons) - MAX_REASONS} other reasons (journal.jsonl has all)")
    _print_paused(report, is_asked)


def _print_paused(report: SubmitReport, is_asked: bool) -> None:
    if not report.paused:
        return
    print(f"  paused: {one_line(report.paused, 300)}")
    print("  nothing more is submitted until it is released")
    if is_asked and not report.n_submitted:
        # What waits would go on with its old scripts, which a canary has just shown to fail.
        print("  --retry-failed opens a gate only where equal failures closed it, not this one")


def _print_dry_run(report: SubmitReport, options: argparse.Namespace, where_else: str) -> None:
    groups = Counter((planned.partition, planned.shape) for planned in report.planned)
    for (name, shape), n_trials in groups.items():
        on = f" on {name}" if len(report.profiles) > 1 else ""
        print(f"  {_trials(n_trials)}{on}, each with {_shape_words(shape)}")
    for planned in report.planned[:5]:
        params = json.dumps(dict(planned.trial.params), ensure_ascii=False)
        print(f"  {planned.name} {one_line(params, 2000)}")
    if len(report.planned) > 5:
        print(f"  ... and {len(report.planned) - 5} more")
    print(f"  would submit: {len(report.planned)} (dry run: nothing was)")
    _print_paused(report, options.retry_failed)
    if not report.paused:
        _print_again(report, None, where_else)
    print("  what it takes and costs: make plan")


def _print_again(report: SubmitReport, counted: tuple[int, int] | None, where_else: str) -> None:
    """Print with what failed trials go again, as they were counted here, or by this round."""
    n_before = sum(report.states.get(s, 0) for s in (TrialState.FAILED, TrialState.CANCELLED))
    has_others = counted is None and n_before > report.n_ended
    for line in tell_again(*(counted or (0, report.n_ended)), where_else, has_others=has_others):
        print(f"  {line}")


def _shape_words(shape: JobShape) -> str:
    words = [f"{shape.nodes} nodes of"] if shape.nodes > 1 else []
    if shape.gpus:
        words.append(f"{shape.gpus} {shape.gpu_type or 'GPU'}{'s' if shape.gpus > 1 else ''},")
    words.append(f"{shape.cpus} CPU{'s' if shape.cpus > 1 else ''}")
    if shape.mem_mb is not None:
        words[-1] += ","
        words.append(f"{shape.mem_mb / 1024:.3g} GB")
    if shape.time_min is not None:
        words[-1] += ","
        words.append(f"{shape.time_min // 60}:{shape.time_min % 60:02d} h")
    return " ".join(words)


def _as_json(report: SubmitReport, dry_run: bool) -> dict[str, Any]:
    choices = {name: mode.choice for name, mode in report.modes.items()}
    choice = next(iter(choices.values()), None)
    return {
        "sweep": report.sweep.name,
        "folder": report.sweep.root,
        "cluster": report.cluster,
        "partition": report.partition,
        "by_partition": report.count_by_partition(),
        "n_trials": report.n_trials,
        "states_before": {state.value: n for state, n in report.states.items()},
        "submitted": 0 if dry_run else report.n_submitted,
        "would_submit": len(report.planned) if dry_run else None,
        "arrays": [
            {
                "job_id": array.job_id,
                "token": array.token,
                "array": array.indices,
                "n_trials": array.n_trials,
                "partition": array.partition,
                "after": list(array.after),
            }
            for array in report.arrays
        ],
        "canary": report.canary or None,
        "paused": report.paused,
        "opened": report.opened,
        "released": report.released,
        "decisions": [
            {
                "trial": name,
                "action": decision.action.value,
                "cause": decision.cause.value if decision.cause is not None else None,
                "reason": decision.reason,
            }
            for name, decision in report.decisions.items()
        ],
        "requeue": None if choice is None else choice.requeue,
        "requeue_reason": None if choice is None else choice.reason,
        "warnings": report.warnings,
        "stopped": report.stopped,
    }


def _arrays(job_ids: Sequence[str]) -> str:
    shown = ", ".join(job_ids[:4]) + (", ..." if len(job_ids) > 4 else "")
    return f"array{'s' if len(job_ids) > 1 else ''} {shown}"


def _trials(n_trials: int) -> str:
    return f"{n_trials} trial" + ("s" if n_trials != 1 else "")


def _plain(text: str) -> str:
    return one_line(text, 1000).replace("[", r"\[")
