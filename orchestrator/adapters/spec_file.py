"""Reading a sweep spec from its file. Runs on the login node."""

from __future__ import annotations

import glob
from collections.abc import Sequence

from orchestrator.contract.errors import UserError
from orchestrator.domain.spec import SweepSpec
from orchestrator.domain.spec_loader import load_spec

MAX_SPEC_BYTES = 2**20


def read_spec(path: str, overrides: Sequence[str]) -> SweepSpec:
    """Read a spec.

    Raises:
        UserError: No such file, not text, too large, or a mistake in it with its line.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_SPEC_BYTES + 1)
    except OSError as error:
        known = ", ".join(sorted(glob.glob("sweeps/*.yaml")))
        hint = f"; here are: {known}" if known else ""
        raise UserError(f"{path}: {error.strerror}{hint}") from None
    if len(data) > MAX_SPEC_BYTES:
        raise UserError(f"{path}: larger than {MAX_SPEC_BYTES} bytes; is it a sweep spec?")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    return load_spec(text, file=path, overrides=overrides)
