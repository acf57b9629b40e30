"""Putting an export in its place: written aside, then renamed. Runs on the login node.

A folder is replaced as a whole, and only one that an export made (it has ``MARK`` in it): whatever
else lies there may be somebody's work.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable

from orchestrator.contract.errors import OrchestratorError, UserError
from orchestrator.contract.file_errors import explain
from orchestrator.runtime import durable

MARK = ".orchestrator-export"


def publish_bytes(folder: str, name: str, data: bytes) -> str:
    """Write a file and return its path; the old one is replaced."""
    path = f"{folder}/{name}"
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        durable.replace(path, data)
    except OSError as error:
        raise OrchestratorError(f"{path}: not written: {explain(error)}") from None
    return path


def publish(folder: str, name: str, write: Callable[[str], None], *, is_folder: bool) -> str:
    """Have a file or folder written aside, put it in its place, and return its path.

    Args:
        folder: Where to.
        name: Its name there.
        write: Writes it to the path that it is given: a folder that is there and empty, or a file
            that is not there yet.
        is_folder: Which of both.

    Raises:
        UserError: A folder that no export made is in its place.
        OrchestratorError: It could not be written; the old one is as it was.
    """
    path = f"{folder}/{name}"
    if is_folder and os.path.lexists(path) and not os.path.lexists(f"{path}/{MARK}"):
        raise UserError(f"{path} is there and no export of ours; name another --output")
    aside = f"{folder}/.export.{os.urandom(8).hex()}.tmp"
    try:
        os.makedirs(aside, mode=0o700)
        target = f"{aside}/{name}"
        if is_folder:
            os.mkdir(target, mode=0o700)
        write(target)
        if is_folder:
            durable.write_new(f"{target}/{MARK}", b"")
            with contextlib.suppress(FileNotFoundError):
                os.rename(path, f"{aside}/old")
            os.rename(target, path)
        else:
            with open(target, "rb") as file:
                os.fsync(file.fileno())
            os.replace(target, path)
        durable.sync_directory(folder)
    except OSError as error:
        if not os.path.lexists(path) and os.path.lexists(f"{aside}/old"):
            os.rename(f"{aside}/old", path)
        raise OrchestratorError(f"{path}: not written: {explain(error)}") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return path
