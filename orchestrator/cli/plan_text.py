"""How ``orchestrator plan`` shows a plan to people, in 80 columns."""

from __future__ import annotations

import json
import shlex
import textwrap

from orchestrator.cli.arguments import results_hint
from orchestrator.domain.partition import JobShape
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.plan import Amount, Group, count, show_hours, show_money
from orchestrator.domain.plan_batch import show_batch
from orchestrator.domain.plan_moves import Moved
from orchestrator.domain.plan_sums import in_units
from orchestrator.domain.plan_time import MEASURED, PARTITION, TrialTime, show_time
from orchestrator.domain.trials import flatten, varying_names
from orchestrator.usecases.plan import PlanReport

WIDTH = 80
_TITLE = 16
# Of rows, arrays and shapes; the rest is counted, and stands in the JSON.
MAX_ROWS = 3
MAX_SHAPES = 6


def print_report(report: PlanReport, results: str) -> None:
    """Print a plan; ``results`` is the results folder as typed."""
    several = len(report.reach) > 1
    partition = f"partition{'s' if several else ''} {report.partition}"
    where = {
        "slurm": f"Slurm, {partition}",
        "local": "this machine",
        "profile": f"{partition} by {'their' if several else 'its'} profile (no Slurm here)",
    }[report.cluster]
    _wrap("", f"{report.spec.name}: {count(report.n_trials, 'trial')} on {where}", indent=0)
    _print_trials(report)
    if report.plan.groups:
        print()
        _print_amounts(report)
    if report.spent is not None and report.spent.wall_h:
        _wrap("used so far", _spent_words(report))
    _print_slurm(report)
    for words in report.advice:
        _wrap("consider", words)
    if report.planned and report.problems:
        print("nothing was submitted; next: mend the problems below, then plan again")
    elif report.planned:
        words = shlex.join([*report.spec.overrides, *_local_words(report)])
        extra = f" ARGS={shlex.quote(words)}" if words else ""
        sweep = shlex.quote(report.spec.file)
        print("nothing was submitted; next:")
        print(f"  make submit SWEEP={sweep}{results_hint(results)}{extra}")
    elif report.paused:
        print(f"next: make status{results_hint(results)} says why; mend it, then: make release")


def _local_words(report: PlanReport) -> list[str]:
    """Keep what the command line said of the cluster, so that the next line does what is shown."""
    is_asked = report.cluster == "local" and report.spec.cluster != "local"
    return ["--cluster=local"] if is_asked else []


def shape_words(shape: JobShape) -> str:
    """Say what a trial asks for: ``8 GPUs, 2 CPUs, 4 GB, 4:00 h``."""
    words = []
    if shape.gpus:
        words.append(f"{shape.gpus} {shape.gpu_type or 'GPU'}{'s' if shape.gpus > 1 else ''}")
    words.append(count(shape.cpus, "CPU"))
    if shape.mem_mb is not None:
        words.append(f"{shape.mem_mb / 1024:.4g} GB")
    if shape.time_min is not None:
        words.append(f"{shape.time_min // 60}:{shape.time_min % 60:02d} h")
    return (f"{shape.nodes} nodes of " if shape.nodes > 1 else "") + ", ".join(words)


def _print_trials(report: PlanReport) -> None:
    states = ", ".join(f"{n} {state.value}" for state, n in report.states.items())
    _wrap("now", f"{states}; to submit: {len(report.planned)}")
    if report.paused:
        _wrap(
            "paused",
            f"{one_line(report.paused, 300)}; nothing more is submitted until it is released",
        )
    names = varying_names([planned.trial for planned in report.planned])
    for planned in report.planned[:MAX_ROWS]:
        flat = flatten(planned.trial.params)
        words = ", ".join(f"{name} {_value(flat[name])}" for name in names if name in flat)
        _wrap("", f"{planned.name}  {one_line(words, 400)}", indent=2)
    if len(report.planned) > MAX_ROWS:
        print(f"  ... and {len(report.planned) - MAX_ROWS} more (all with --json)")
    for number, array in enumerate(report.arrays[:MAX_SHAPES], start=1):
        on = f" on {array.partition}" if len(report.sites) > 1 else ""
        each = ", each with " if len(array.members) > 1 else " with "
        words = f"[{array.indices}]{on} {count(len(array.members), 'trial')}{each}"
        _wrap(f"array {number}", words + shape_words(array.shape))
        if array.after:
            before = ", ".join(map(str, array.after[:4])) + (", ..." if array.after[4:] else "")
            plural = "s" if len(array.after) > 1 else ""
            _wrap("", f"after array{plural} {before}, as the sweep's ceilings want it")
    if len(report.arrays) > MAX_SHAPES:
        print(f"  ... and {len(report.arrays) - MAX_SHAPES} more arrays")
    kinds = {(array.partition, array.shape, array.is_held) for array in report.arrays}
    if len(report.arrays) > len(kinds):
        _wrap("", f"(an array holds at most {report.tasks_per_array} tasks here)")
    for number, words in enumerate(report.skipped[:MAX_SHAPES]):
        _wrap("" if number else "does not fit", words)
    if report.canary and not report.paused:
        _wrap("canary", report.canary)
    _print_extremes(report)


def _print_extremes(report: PlanReport) -> None:
    """Show the smallest and the largest trial, by shape and by effective batch."""
    if len({planned.shape for planned in report.planned}) > 1:
        ordered = sorted(report.planned, key=lambda planned: _size(planned.shape))
        for title, planned in (("smallest", ordered[0]), ("largest", ordered[-1])):
            _wrap(title, f"{planned.name}: {shape_words(planned.shape)}")
    known = [
        (batch, planned.name)
        for batch, planned in zip(report.batches, report.planned, strict=True)
        if batch is not None
    ]
    known.sort(key=lambda item: item[0].effective)
    if not known:
        return
    (low, low_name), (high, high_name) = known[0], known[-1]
    if low.effective == high.effective:
        _wrap("each step", show_batch(low))
        return
    _wrap("smallest step", f"{show_batch(low)} ({low_name})")
    _wrap("largest step", f"{show_batch(high)} ({high_name})")


def _print_amounts(report: PlanReport) -> None:
    plan = report.plan
    for group in plan.groups[:MAX_SHAPES]:
        title = "a trial takes"
        if len(plan.groups) > 1:
            title = f"shape {plan.groups.index(group) + 1}"
        on = f" on {group.place.name}" if len(report.sites) > 1 else ""
        _wrap(title, _time_words(group.time) + _shape_note(group, len(plan.groups)) + on)
    if plan.gpu_hours is not None:
        _print_amount("GPU-hours", plan.gpu_hours, len(plan.groups))
    _print_amount("CPU-hours", plan.cpu_hours, len(plan.groups))
    _print_amount("instance-hours", plan.node_hours, len(plan.groups))
    most = " at most" if plan.is_bound else ""
    if plan.cost is not None:
        here = "" if report.moved is None else f" on {', '.join(report.sites)}"
        _wrap("cost", plan.cost.lines[-1] + most + here)
    elif plan.cpu_hours is not None:
        _wrap("cost", _no_cost(report))
    if report.moved is not None:
        _wrap("", _moved_words(report.moved))
    for number, group in enumerate(plan.groups[:MAX_SHAPES], start=1):
        title = "at a time" if number == 1 else ""
        _wrap(title, _width_words(report, group, number if len(plan.groups) > 1 else None))
    if plan.wall is not None:
        _wrap("wall time", plan.wall.lines[0] + most)
        for line in plan.wall.lines[1:]:
            _wrap("", line)
        _wrap("", "waiting behind other jobs, and preemptions, come on top")
    else:
        _wrap("wall time", "not known")


def _print_amount(title: str, amount: Amount | None, n_groups: int) -> None:
    if amount is None:
        _wrap(title, "not known, as the time of a trial is not")
        return
    lines = amount.lines if n_groups <= MAX_SHAPES else amount.lines[-1:]
    for number, line in enumerate(lines):
        _wrap(title if not number else "", line)


def _print_slurm(report: PlanReport) -> None:
    title = "limits"
    for site in report.sites.values():
        if site.allows:
            words, room = site.allows, site.room
            if room.total_gpus:
                words += f"; {room.free_gpus} of its {room.total_gpus} GPUs are free now"
            _wrap(title, words)
            title = ""  # the words name the partition
    answers = [array.answer for array in report.arrays if array.answer is not None]
    accepted = [answer for answer in answers if answer.accepted]
    if accepted and len(accepted) == len(answers):
        starts = sorted(answer.start for answer in accepted if answer.start)
        first = f"; the first trial could start at {starts[0]}" if starts else ""
        _wrap("Slurm", f"would take it (sbatch --test-only){first}")


def _time_words(time: TrialTime | None) -> str:
    if time is None:
        return "not known; state resources: {time: ...}, or a default in the profile"
    if time.source == MEASURED:
        trials = count(time.n_measured, "trial")
        mean = f"the mean of {trials}" if time.n_measured > 1 else f"as {trials}"
        words = f"{show_time(time.seconds)}, {mean} measured"
        if time.p90_s is not None and time.n_measured > 1:
            words += f" (p90 {show_time(time.p90_s)})"
        return words
    what = "the partition's limit" if time.source == PARTITION else "its time limit"
    return f"{show_time(time.seconds)} at most, by {what}; none is measured yet"


def _shape_note(group: Group, n_groups: int) -> str:
    if n_groups == 1:
        return ""
    return f": {count(group.n, 'trial')} of {shape_words(group.shape)}"


def _no_cost(report: PlanReport) -> str:
    if len({group.place.profile.currency for group in report.plan.groups}) > 1:
        return "not known: the prices of the partitions are in several currencies"
    plural = "s" if len(report.sites) > 1 else ""
    return f"the profile{plural} {', '.join(report.sites)} state{'' if plural else 's'} no price"


def _moved_words(moved: Moved) -> str:
    to = " or ".join(moved.names)
    if moved.cost is None:
        return f"not known if they move to {to}: its price is in another currency"
    most = "up to " if moved.is_bound else ""
    return (
        f"{most}{moved.cost.lines[-1]} if all move to {to}; work lost in preemptions comes on top"
    )


def _width_words(report: PlanReport, group: Group, number: int | None) -> str:
    bounds = group.width.bounds[:3]
    if number is None:
        return "; ".join(f"{b.n}: {b.words}" for b in bounds) or _no_width(report, group)
    words = "; ".join(f"{b.n} ({b.words})" for b in bounds) or _no_width(report, group)
    on = f" on {group.place.name}" if len(report.sites) > 1 else ""
    return f"shape {number}{on}: {words}"


def _no_width(report: PlanReport, group: Group) -> str:
    if report.cluster == "profile" or report.unreachable is not None:
        return (
            f"not known; state nodes: (and cpus_per_node:) in the profile {group.place.name}, "
            "or max_concurrent: in the sweep"
        )
    return "not known"


def _spent_words(report: PlanReport) -> str:
    spent = report.spent
    assert spent is not None
    words = [f"{show_hours(spent.wall_h)} h"]
    if spent.gpu_hours:
        words.append(in_units(show_hours(spent.gpu_hours), "GPU-hour"))
    words += [f"{show_money(cost)} {currency}".rstrip() for currency, cost in spent.cost.items()]
    return ", ".join(words) + (" (at least)" if spent.is_estimate else "")


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _size(shape: JobShape) -> tuple[float, ...]:
    return (
        shape.total_gpus,
        shape.cpus * shape.nodes,
        (shape.mem_mb or 0) * shape.nodes,
        shape.time_min or 0,
    )


def _wrap(title: str, words: str, indent: int = 2 + _TITLE) -> None:
    """Print words beside a title, in lines of at most ``WIDTH`` columns."""
    lead = "  " + title.ljust(_TITLE) if indent > 2 else " " * indent
    later = " " * (indent + (2 if indent <= 2 else 0))
    text = one_line(words, 2000)
    for line in textwrap.wrap(
        text, WIDTH, initial_indent=lead, subsequent_indent=later, break_on_hyphens=False
    ):
        print(line)
