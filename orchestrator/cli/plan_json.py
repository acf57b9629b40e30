"""How ``orchestrator plan`` shows a plan to programs, as JSON."""

from __future__ import annotations

from typing import Any

from orchestrator.domain.partition import JobShape
from orchestrator.domain.plan import Amount, Group
from orchestrator.domain.plan_batch import BatchSize
from orchestrator.domain.sbatch_answer import ScriptAnswer
from orchestrator.usecases.plan import PlannedArray, PlanReport
from orchestrator.usecases.plan_site import PlanSite


def as_json(report: PlanReport) -> dict[str, Any]:
    """Return a plan for programs; what is not known is null."""
    plan, spent = report.plan, report.spent
    index = {p.name: i + 1 for i, array in enumerate(report.arrays) for p in array.members}
    return {
        "sweep": report.spec.name,
        "cluster": report.cluster,
        "partition": report.partition,
        "n_trials": report.n_trials,
        "states": {state.value: n for state, n in report.states.items()},
        "n_to_submit": len(report.planned),
        "n_left": plan.n,
        "paused": report.paused,
        "tasks_per_array": report.tasks_per_array,
        "arrays": [_array_json(array) for array in report.arrays],
        "shapes": [_group_json(group) for group in plan.groups],
        "instance_hours": _amount_json(plan.node_hours),
        "gpu_hours": _amount_json(plan.gpu_hours),
        "cpu_hours": _amount_json(plan.cpu_hours),
        "cost": _amount_json(plan.cost),
        "currency": plan.currency or None,
        "cost_if_moved": None
        if report.moved is None
        else {"to": list(report.moved.names), "cost": _amount_json(report.moved.cost)},
        "is_upper_bound": plan.is_bound,
        "wall": None
        if plan.wall is None
        else {
            "hours": plan.wall.high_s / 3600,
            "at_least_hours": plan.wall.low_s / 3600,
            "waves": plan.wall.waves,
            "arithmetic": list(plan.wall.lines),
        },
        "spent": None
        if spent is None
        else {"hours": spent.wall_h, "gpu_hours": spent.gpu_hours, "cost": dict(spent.cost)},
        "partitions": {name: _site_json(site, report) for name, site in report.sites.items()},
        "skipped": report.skipped,
        "may_move_to": list(report.later),
        "canary": report.canary or None,
        "trials": [
            {
                "trial": planned.name,
                "partition": planned.partition,
                "array": index[planned.name],
                "params": dict(planned.trial.params),
                "resources": _shape_json(planned.shape),
                "batch": _batch_json(batch),
            }
            for planned, batch in zip(report.planned, report.batches, strict=True)
        ],
        "unreachable": report.unreachable,
        "problems": report.problems,
        "warnings": report.warnings,
        "advice": report.advice,
    }


def _amount_json(amount: Amount | None) -> dict[str, Any] | None:
    if amount is None:
        return None
    return {"value": amount.value, "arithmetic": list(amount.lines)}


def _site_json(site: PlanSite, report: PlanReport) -> dict[str, Any]:
    room = site.room
    return {
        "n_to_submit": sum(p.partition == site.profile.name for p in report.planned),
        "nodes": len(room.nodes) or None,
        "nodes_up": room.n_up if room.nodes else None,
        "gpus": room.total_gpus if room.nodes or room.machine is not None else None,
        "gpus_free": room.free_gpus if report.cluster == "slurm" else None,
        "allows": site.allows or None,
    }


def _group_json(group: Group) -> dict[str, Any]:
    time = group.time
    return {
        "partition": group.place.name,
        "resources": _shape_json(group.shape),
        "n_to_submit": group.n_submit,
        "n_queued": group.n_queued,
        "time_s": None if time is None else time.seconds,
        "time_p90_s": None if time is None else time.p90_s,
        "time_from": None if time is None else time.source,
        "n_measured": 0 if time is None else time.n_measured,
        "at_a_time": group.width.n,
        "per_instance": group.width.per_node,
        "waves": group.waves,
        "limits": [{"at_a_time": bound.n, "why": bound.words} for bound in group.width.bounds],
    }


def _array_json(array: PlannedArray) -> dict[str, Any]:
    return {
        "array": array.indices,
        "partition": array.partition,
        "after": list(array.after),
        "is_held": array.is_held,
        "n_trials": len(array.members),
        "resources": _shape_json(array.shape),
        "slurm": _answer_json(array.answer),
    }


def _answer_json(answer: ScriptAnswer | None) -> dict[str, Any] | None:
    if answer is None:
        return None
    return {
        "accepted": answer.accepted,
        "words": answer.words,
        "start": answer.start or None,
        "nodes": answer.nodes or None,
    }


def _shape_json(shape: JobShape) -> dict[str, Any]:
    return {
        "nodes": shape.nodes,
        "gpus": shape.gpus,
        "gpu_type": shape.gpu_type,
        "cpus": shape.cpus,
        "mem_gb": None if shape.mem_mb is None else shape.mem_mb / 1024,
        "time_min": shape.time_min,
        "sbatch": dict(shape.sbatch),
    }


def _batch_json(batch: BatchSize | None) -> dict[str, Any] | None:
    if batch is None:
        return None
    return {
        "effective": batch.effective,
        "per_device": batch.per_device,
        "accumulation": batch.accumulation,
        "world": batch.world,
        "parameter": batch.parameter or None,
        "is_guess": batch.is_guess,
    }
