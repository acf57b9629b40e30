"""Reading the partition profiles of a templates folder, and choosing the sweep's. Login node."""

from __future__ import annotations

import os
from dataclasses import replace

from orchestrator.contract.errors import SpecError, UserError
from orchestrator.domain.partition import PartitionProfile
from orchestrator.domain.partition_loader import inspect_profiles, load_profiles
from orchestrator.domain.spec import SweepSpec
from orchestrator.domain.spec_tree import nearest

PROFILES = "partitions.yaml"


def read_profiles(templates: str) -> dict[str, PartitionProfile]:
    """Read ``partitions.yaml`` of a templates folder.

    Raises:
        UserError: It is missing, or has a mistake.
    """
    path, text = read_profile_text(templates)
    return load_profiles(text, file=path)


def read_profile_text(templates: str) -> tuple[str, str]:
    """Return path and text of a templates folder's ``partitions.yaml``.

    Raises:
        UserError: It is missing, or no text.
    """
    path = os.path.join(templates, PROFILES)
    try:
        with open(path, encoding="utf-8") as file:
            return path, file.read()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; name the folder with --templates") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SpecError("not UTF-8; save it as UTF-8", file=path, line=line) from None


def inspect_profile_file(
    templates: str,
) -> tuple[dict[str, PartitionProfile], list[UserError]]:
    """Read the profiles that have no mistake, and all mistakes of the others.

    Raises:
        UserError: The file is missing.
    """
    try:
        path, text = read_profile_text(templates)
    except SpecError as error:
        return {}, [error]
    try:
        profiles, mistakes = inspect_profiles(text, file=path)
    except UserError as error:
        return {}, [error]
    return profiles, [*mistakes]


def choose_profiles(templates: str, spec: SweepSpec) -> dict[str, PartitionProfile]:
    """Return the profiles that a sweep's trials may go to by name, the preferred one first.

    Raises:
        SpecError: One of them does not exist; with the spec's line.
    """
    if spec.resources.partition is not None:
        return read_profiles(templates)
    names: tuple[str | None, ...] = (spec.partition,)
    if spec.placement is not None:
        names = spec.placement.order
    chosen = [choose_profile(templates, replace(spec, partition=name)) for name in names]
    return {profile.name: profile for profile in chosen}


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
