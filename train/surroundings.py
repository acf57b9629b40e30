"""What a trial finds on its node that cannot work: no GPU where one was given, nowhere to write.

Standard library only. Called by ``arguments.refuse_mistakes`` once the machine is known, on the
compute node; the login node could not tell.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arguments import Arguments
    from machine import Machine

# GPUs of this job on this node, as Slurm tells its steps (sbatch(1), srun(1), OUTPUT ENVIRONMENT).
_GIVEN = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS")
_DEVICES = ("/dev/nvidia[0-9]*", "/dev/kfd")


def find_mistakes(
    arguments: Arguments,
    machine: Machine,
    environ: Mapping[str, str],
    devices: tuple[str, ...] = _DEVICES,
) -> Iterator[str]:
    """Say what cannot work here, a line each.

    Args:
        arguments: With ``output_dir`` filled in.
        machine: As this process finds it.
        environ: Its environment.
        devices: Patterns of the files that a GPU's driver makes.
    """
    given = next((environ[name] for name in _GIVEN if environ.get(name)), "")
    has_device = any(glob.glob(pattern) for pattern in devices)
    # Without a device Slurm only calls something a GPU, as clusters for tests do.
    if given and has_device and machine.has_gpu is False:
        yield (
            f"Slurm gave this job GPU {given}, and torch finds none: it may be built for CPUs "
            "only, or not fit the driver (nvidia-smi says its version); install the build that "
            "fits, or ask for no GPU"
        )
    yield from _find_unwritable(arguments.output_dir)


def _find_unwritable(output_dir: str) -> Iterator[str]:
    """Look at the directory, or at the nearest one above it that exists."""
    if not output_dir:
        return
    place = os.path.abspath(output_dir)
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    if not os.path.isdir(place):
        yield f"--output_dir={output_dir}: {place} is no directory; name another"
    elif not os.access(place, os.W_OK | os.X_OK):
        yield f"--output_dir={output_dir}: {place} is not writable here; name another"
