"""What a submission freezes: the spec, what was made of it, and the code that its trials run.

Runs on the login node; called by ``usecases.submit``, which holds the sweep's lock.
"""

from __future__ import annotations

import os

from orchestrator.adapters import code_state
from orchestrator.adapters.journal import JournalWriter
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import dump_record
from orchestrator.domain.partition import PartitionProfile
from orchestrator.domain.spec import SweepSpec
from orchestrator.runtime import durable
from orchestrator.usecases.scripts import workdir


def freeze_spec(
    sweep: SweepPaths,
    spec: SweepSpec,
    varying: list[str],
    profile: PartitionProfile,
    cluster: str,
) -> None:
    """Record the spec and what was made of it."""
    durable.replace(sweep.spec, spec.source_text.encode("utf-8"))
    metric = spec.metric
    summary = {
        "name": spec.name,
        "spec": spec.file,
        "spec_path": os.path.abspath(spec.file),
        "overrides": list(spec.overrides),
        "metric": None if metric is None else {"name": metric.name, "goal": metric.goal},
        "parameters": varying,
        "seeded": bool(spec.seeds),
        "cluster": cluster,
        "partition": profile.name,
        "workdir": workdir(spec),
    }
    durable.replace(sweep.summary, dump_record(summary))


def record_code(
    sweep: SweepPaths, spec: SweepSpec, writer: JournalWriter, warnings: list[str]
) -> None:
    """Record what code the trials submitted next run, or warn of why that is not known."""
    record, diff = code_state.describe_code(workdir(spec))
    if record:
        if "refused" in record:
            warnings.append(f"the code is not recorded, git says: {record['refused']}")
        if diff:
            code_state.save_diff(sweep.code, str(record["commit"])[:12], diff)
        writer.write("code", **record)
