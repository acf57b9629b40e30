"""The scripts of a submission: rendering them, and writing them to the sweep's folder. Login node.

The template of the partition's profile makes both kinds, the trial's and the array's.
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from orchestrator.adapters.code_state import newest_code
from orchestrator.adapters.rendering import Renderer
from orchestrator.adapters.source_tree import is_within
from orchestrator.contract.file_errors import naming
from orchestrator.contract.paths import ArrayPaths, SweepPaths, TrialPaths
from orchestrator.contract.records import dump_record
from orchestrator.domain.command import build_command
from orchestrator.domain.frozen_code import FrozenCode
from orchestrator.domain.partition import (
    JobShape,
    PartitionProfile,
    on_demand_prices,
    price_per_hour,
)
from orchestrator.domain.spec import SweepSpec
from orchestrator.domain.trials import Trial
from orchestrator.runtime import durable, failpoint

N_WRITERS = 4
TRIALS_PER_WRITE = 50


@dataclass(frozen=True)
class PlannedTrial:
    """A trial of the spec, with the place it has on disk."""

    name: str
    """Directory name."""
    trial: Trial
    """Its parameters."""
    shape: JobShape
    """What its job asks for."""
    env: tuple[tuple[str, str], ...] = ()
    """Variables beside the spec's, such as ``TRIAL_MICRO_BATCH_DIVISOR``."""
    partition: str = ""
    """The profile that it goes to."""


class Scripts:
    """Renders and writes the scripts of one submission."""

    def __init__(
        self, renderer: Renderer, sweep: SweepPaths, spec: SweepSpec, profile: PartitionProfile
    ):
        """Render with a renderer, for one sweep in its folder, on one partition.

        Whether to requeue is decided by now: templates read ``auto`` (None) as a no.
        """
        assert profile.requeue is not None, "see usecases.requeue_mode"
        self.renderer, self.sweep, self.spec, self.profile = renderer, sweep, spec, profile
        self._code: FrozenCode | None = None
        self._is_code_known = False
        self._slug = slug(spec.name)
        self._launch: dict[str, Any] = {
            "python": sys.executable,
            "bin_dir": os.path.dirname(sys.executable),
            "workdir": workdir(spec),
            "environment": tuple(spec.environment),
            "env": dict(spec.env),
            "checkpoint_interval_s": round((spec.checkpoint_interval_min or 0) * 60, 3),
        }

    @property
    def code(self) -> FrozenCode | None:
        """The snapshot that trials run; None for the live tree. The newest one unless it is set."""
        if not self._is_code_known:
            self.code = newest_code(self.sweep)
        return self._code

    @code.setter
    def code(self, code: FrozenCode | None) -> None:
        self._code, self._is_code_known = code, True

    def render_trial(self, planned: PlannedTrial) -> str:
        """Return a trial's own script.

        Raises:
            TemplateError: The template does not render.
            SpecError: The command does not.
        """
        paths = self.sweep.trial(planned.name)
        return self._render(
            "trial",
            planned.shape,
            env=planned.env,
            job={"name": f"{self._slug}-{planned.name}", "output": paths.log},
            trial={
                "dir": paths.root,
                "name": planned.name,
                "params": planned.trial.params,
                "seed": planned.trial.seed,
                "command": build_command(
                    dataclasses.replace(self.spec, program=self._program()),
                    planned.trial,
                    params_path=paths.params,
                    interpreter="python",
                    environ=os.environ,
                ),
            },
        )

    def render_array(self, token: str, indices: str, shape: JobShape) -> str:
        """Return the script of an array, which goes to the trials' own.

        Args:
            token: The job's name.
            indices: ``--array``, such as ``0-161%10``.
            shape: What each task asks for.

        Raises:
            TemplateError: The template does not render.
        """
        paths = self.sweep.array(token)
        return self._render(
            "array",
            shape,
            job={"name": token, "output": paths.log, "array": indices},
            array={"sweep_dir": self.sweep.root, "tasks": f"arrays/{token}/tasks"},
        )

    def render_supervisor(self, name: str, shape: JobShape, words: Sequence[str]) -> str:
        """Return the script of the job that supervises the sweep.

        Args:
            name: The job's name.
            shape: What it asks for.
            words: The words after ``orchestrator``.

        Raises:
            TemplateError: The template does not render.
        """
        paths = self.sweep.array("supervisor")
        return self._render(
            "supervisor",
            shape,
            job={"name": name, "output": paths.log},
            supervisor={"words": list(words)},
        )

    def write_trials(self, members: Sequence[PlannedTrial]) -> None:
        """Write the files of many trials; an older script is replaced whole: bash may be in it.

        Files are made by threads while this one renders, since making one takes a network file
        system a millisecond.

        Raises:
            TemplateError: The template does not render.
            OSError: A file cannot be written.
        """
        with ThreadPoolExecutor(N_WRITERS) as pool:
            writing = []
            for start in range(0, len(members), TRIALS_PER_WRITE):
                batch = [
                    (
                        self.sweep.trial(member.name),
                        dump_record(dict(member.trial.params)),
                        self.render_trial(member).encode("utf-8"),
                    )
                    for member in members[start : start + TRIALS_PER_WRITE]
                ]
                writing.append(pool.submit(_write_trials, batch))
            for done in writing:
                done.result()

    def write_array(self, token: str, members: list[PlannedTrial]) -> ArrayPaths:
        """Write the directory of an array, and its line per task."""
        paths = self.sweep.array(token)
        failpoint.reach("array.mkdir.before")
        os.mkdir(paths.root, mode=0o700)
        failpoint.reach("array.mkdir.after")
        _write(paths.tasks, "".join(f"{member.name}\n" for member in members).encode("ascii"))
        return paths

    def _program(self) -> str | None:
        """Return the program as it is started: from the snapshot, if it is in there."""
        path = program_file(self.spec)
        if path is None or self.code is None:
            return self.spec.program
        if not is_within(os.path.realpath(path), self.code.root):
            return path
        if not os.path.isabs(self.spec.program or ""):
            return self.spec.program
        here = os.path.join(self.code.root, self.code.subdir)
        relative = os.path.relpath(os.path.realpath(path), here)
        return relative if "/" in relative else f"./{relative}"

    def _code_values(self) -> dict[str, Any] | None:
        """Return what templates need to know of the snapshot."""
        if self.code is None:
            return None
        return {
            "name": self.code.name,
            "workdir": self.code.workdir,
            "import_roots": [
                os.path.normpath(os.path.join(self.code.name, path))
                for path in self.code.import_roots
            ],
            "dir": self.sweep.code,
        }

    def _render(
        self, script: str, shape: JobShape, env: Iterable[tuple[str, str]] = (), **context: Any
    ) -> str:
        resources = {
            "partition": self.profile.name,
            "gpus": shape.total_gpus,
            "cpus": shape.cpus * shape.nodes,
            "nodes": shape.nodes,
            "price_per_hour": round(price_per_hour(shape, self.profile), 6),
            "currency": self.profile.currency,
        }
        on_demand = on_demand_prices(self.profile)
        if on_demand is not None:
            # In the claim, so that a later edit of the profile changes no comparison.
            resources["on_demand_price_per_hour"] = round(price_per_hour(shape, on_demand), 6)
            resources["on_demand_currency"] = on_demand.currency
        code = self._code_values() if script == "trial" else None
        if code is not None:
            resources["code"] = code["name"]
        context["job"].setdefault("array", "")
        return self.renderer.render(
            self.profile.template,
            {
                "script": script,
                "partition": self.profile,
                "resources": shape,
                "launch": {
                    **self._launch,
                    "env": {**self._launch["env"], **dict(env)},
                    "resources": resources,
                    "code": code,
                },
                **context,
            },
        )


def _write_trials(batch: list[tuple[TrialPaths, bytes, bytes]]) -> None:
    for paths, params, script in batch:
        try:
            failpoint.reach("trial.mkdir.before")
            os.mkdir(paths.root, mode=0o700)
            failpoint.reach("trial.mkdir.after")
        except FileExistsError:
            durable.replace(paths.params, params)
            durable.replace(paths.script, script)
        else:
            # A new directory: nobody reads it before its intent stands in the journal, and a
            # submission that dies first writes both files again.
            _write(paths.params, params)
            _write(paths.script, script)


def check_files(spec: SweepSpec) -> None:
    """Refuse a working directory or program that is not there, as far as it can be seen here.

    Absolute paths may exist on the compute nodes alone and are left to them.

    Raises:
        SpecError: With the key's place.
    """
    folder = workdir(spec)
    if not os.path.isdir(folder) and not os.path.isabs(spec.workdir or ""):
        raise spec.error("workdir", f"no directory {folder}; name one that exists")
    program = spec.program or ""
    is_file = "/" in program or program.endswith((".py", ".sh"))
    if not is_file or os.path.isabs(program) or not os.path.isdir(folder):
        return
    if not os.path.isfile(os.path.join(folder, program)):
        raise spec.error(
            "program", f"no file {program!r} in {folder}; programs start there, see workdir"
        )


def program_file(spec: SweepSpec) -> str | None:
    """Return the absolute path of a program that is a file here; None for a command's name."""
    program = spec.program or ""
    path = os.path.normpath(os.path.join(workdir(spec), program))
    is_file = "/" in program or program.endswith((".py", ".sh"))
    return path if is_file and os.path.isfile(path) else None


def workdir(spec: SweepSpec) -> str:
    """Return the absolute directory that the programs start in."""
    return os.path.abspath(spec.workdir or os.getcwd())


def _write(path: str, data: bytes) -> None:
    with naming(path):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            failpoint.reach("file.create.after")
            durable.write_all(fd, data)
            failpoint.reach("file.write.after")
        finally:
            os.close(fd)


def slug(name: str) -> str:
    """Return a name as lower-case ASCII letters, digits and hyphens, fit for a job's name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "sweep"
