"""Drafting a new partition: its entry in ``partitions.yaml`` and its template. Login node.

Asks Slurm what the partition is, where there is one. What stands in the templates folder is left as
it is: the entry is appended, the whole is read back before it takes the file's place, and nothing
is overwritten.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from orchestrator.adapters import slurm_cli, slurm_site
from orchestrator.adapters.profiles import read_profile_text
from orchestrator.contract.errors import ClusterUnreachable, UserError
from orchestrator.contract.file_errors import explain
from orchestrator.domain.partition_draft import (
    NAME,
    PartitionFacts,
    append_entry,
    differences,
    draft_profile,
    draft_template,
)
from orchestrator.domain.partition_loader import load_profiles
from orchestrator.domain.plan_nodes import parse_nodes
from orchestrator.domain.site import parse_partitions, parse_site
from orchestrator.domain.spec_tree import nearest
from orchestrator.runtime import durable


@dataclass(frozen=True)
class Draft:
    """What was drafted."""

    name: str
    """The entry's name."""
    profiles: str
    """The file that the entry was appended to."""
    template: str
    """The template's file."""
    entry: str
    """The entry."""
    template_text: str
    """The template."""
    asked_slurm: bool
    """Whether Slurm said what it is; if not, all of it has to be filled in."""


def new_partition(
    templates: str,
    name: str,
    slurm_partition: str | None,
    *,
    ask: bool = True,
    dry_run: bool = False,
) -> Draft:
    """Draft a partition, and write it unless it is a dry run.

    Args:
        templates: The templates folder.
        name: The new entry's name.
        slurm_partition: The partition's name in Slurm, if it is another.
        ask: Whether to ask Slurm, where there is one.
        dry_run: Whether to write nothing.

    Raises:
        UserError: The name is no name, or taken; Slurm has no such partition; or a file cannot be
            written.
        ClusterUnreachable: There is a Slurm, and it does not answer.
    """
    if not NAME.fullmatch(name):
        raise UserError(
            f"{name!r} is not allowed as a name; use letters, digits, '.', '_' and '-', as in "
            "make new-partition NAME=h100"
        )
    path, text = read_profile_text(templates)
    before = load_profiles(text, file=path)
    template = os.path.join(templates, f"{name}.sbatch.j2")
    if name in before:
        _, line = before[name].locate()
        raise UserError(f"{path}:{line}: {name} is there already; edit it, or use another NAME=")
    if os.path.lexists(template):
        raise UserError(f"{template} is there already; remove it, or use another NAME=")
    there = slurm_partition or name
    try:
        facts = _ask(there) if ask and slurm_site.has_slurm() else None
    except ClusterUnreachable as error:
        words = f"Slurm does not answer: {error}; nothing was written; type it again later"
        raise ClusterUnreachable(words) from None
    entry = draft_profile(name, there, facts)
    whole = append_entry(text, entry)
    _check_read_back(whole, path, text, name)
    draft = Draft(name, path, template, entry, draft_template(name), facts is not None)
    if not dry_run:
        _write(draft, whole)
    return draft


def _ask(partition: str) -> PartitionFacts:
    site = parse_site(slurm_cli.config_text())
    partitions = parse_partitions(slurm_cli.partitions_text())
    if partition not in partitions:
        hint = nearest(partition, partitions)
        raise UserError(
            f"Slurm has no partition {partition!r}; {hint}it has: {', '.join(partitions)}. For an "
            "entry of another name than the partition's: ARGS='--slurm-partition NAME'"
        )
    nodes = parse_nodes(slurm_cli.query(["scontrol", "-a", "-o", "show", "node"]))
    own = tuple(node for node in nodes if partition in node.partitions)
    return PartitionFacts(site, partitions[partition], own)


def _check_read_back(whole: str, path: str, text: str, name: str) -> None:
    before = load_profiles(text, file=path)
    try:
        after = load_profiles(whole, file=path)
    except UserError:
        after = {}
    if name not in after or differences(before, after, name):
        raise UserError(
            f"{path}: an entry appended to it would not be one (is it in braces?); write it as "
            "`name:` and a line for each key"
        )


def _write(draft: Draft, whole: str) -> None:
    """Write the template first: an entry without its template would be a mistake in the file."""
    try:
        durable.write_new(draft.template, draft.template_text.encode("utf-8"))
        mode = os.stat(draft.profiles).st_mode & 0o777
        os.chmod(draft.template, mode)
        try:
            durable.replace(draft.profiles, whole.encode("utf-8"))
            os.chmod(draft.profiles, mode)
        except OSError:
            os.unlink(draft.template)
            raise
    except OSError as error:
        raise UserError(explain(error)) from None
