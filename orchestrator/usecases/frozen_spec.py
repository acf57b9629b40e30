"""The spec as a sweep was submitted last: later edits of the user's file change nothing.

Runs on the login node; for what goes on with a sweep as it is (``supervise``, ``confirm``).
"""

from __future__ import annotations

import dataclasses

from orchestrator.contract.errors import UserError
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import read_record
from orchestrator.domain.spec import SweepSpec
from orchestrator.domain.spec_loader import load_spec


def read_frozen(sweep: SweepPaths) -> tuple[SweepSpec, str]:
    """Read the spec as it was submitted last, and where: ``slurm`` or ``local``.

    Raises:
        UserError: It has a mistake, or the sweep was never submitted.
    """
    try:
        summary = read_record(sweep.summary)
        with open(sweep.spec, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: missing; submit the sweep first") from None
    overrides = [str(word) for word in summary.get("overrides", [])]
    spec = load_spec(text, file=str(summary.get("spec", sweep.spec)), overrides=overrides)
    workdir = summary.get("workdir")
    spec = dataclasses.replace(
        spec,
        name=sweep.name,
        partition=str(summary["partition"]),
        workdir=str(workdir) if workdir else spec.workdir,
    )
    return spec, "local" if summary.get("cluster") == "local" else "slurm"
