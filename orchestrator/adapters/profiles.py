"""Reading the partition profiles of a templates folder, and choosing the sweep's. Login node."""

from __future__ import annotations

import os

from orchestrator.contract.errors import SpecError, UserError
from orchestrator.domain.partition import PartitionProfile
from orchestrator.domain.partition_loader import load_profiles
from orchestrator.domain.spec import SweepSpec
from orchestrator.domain.spec_tree import nearest

PROFILES = "partitions.yaml"


def read_profiles(templates: str) -> dict[str, PartitionProfile]:
    """Read ``partitions.yaml`` of a templates folder.

    Raises:
        UserError: It is missing, or has a mistake.
    """
    path = os.path.join(templates, PROFILES)
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; name the folder with --templates") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8; save it as UTF-8") from None
    return load_profiles(text, file=path)


def choose_profile(templates: str, spec: SweepSpec) -> PartitionProfile:
    """Return the profile that a sweep names, or the first of the file if it names none.

    Raises:
        SpecError: There is no such profile; with the spec's line.
    """
    profiles = read_profiles(templates)
    if spec.partition is None:
        return next(iter(profiles.values()))
    if spec.partition not in profiles:
        file, line = spec.locate("partition")
        raise SpecError(
            f"unknown partition {spec.partition!r}; {nearest(spec.partition, profiles)}"
            f"{os.path.join(templates, PROFILES)} has: {', '.join(profiles)}",
            file=file,
            line=line,
            key="partition",
        )
    return profiles[spec.partition]
