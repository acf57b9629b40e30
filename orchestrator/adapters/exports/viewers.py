"""How an export is opened: commands that work as they are typed. Runs on the login node.

A viewer is looked for beside the Python that runs this (``.venv/bin``, which is seldom on a PATH),
on the PATH, and in ``~/.venvs/<package>``. Where there is none, the command that installs it there
is told first: in an environment of its own, since what viewers need may be at odds with what
the orchestrator needs. Nothing is installed here, and nothing is started.
"""

from __future__ import annotations

import importlib.metadata
import os
import shlex
import shutil
import sys
from collections.abc import Sequence


def open_with(
    words: str, command: Sequence[str], package: str = "", version: str = ""
) -> list[str]:
    """Say how to open an export.

    Args:
        words: What the command does, such as ``open it with``.
        command: The viewer's name and its arguments.
        package: What brings the viewer; empty if it is called like its command. A command of that
            name beside our Python is passed over if the package is not there.
        version: Of the package; empty: any.

    Returns:
        Notes: how to install it, if need be, and the command.
    """
    name, *arguments = command
    package = package or name
    own = f"~/.venvs/{package}"
    program = _find(name, package, f"{own}/bin/{name}")
    notes = []
    if program is None:
        wanted = shlex.quote(f"{package}=={version}") if version else package
        python = shlex.quote(sys.executable or "python3")
        notes.append(
            f"needs {package}, once: {python} -m venv {own} && {own}/bin/pip install {wanted}"
        )
        program = f"{own}/bin/{name}"
    return [*notes, f"{words}: {' '.join([program, *map(shlex.quote, arguments)])}"]


def _find(name: str, package: str, own: str) -> str | None:
    """Return the program as it is typed, or None."""
    # Not resolved: the Python of a virtual environment is a link to another one.
    beside = os.path.join(os.path.dirname(os.path.abspath(sys.executable or "python3")), name)
    found = shutil.which(name)
    if _is_installed(package):
        if found is not None and os.path.abspath(found) == beside:
            return name
        if os.access(beside, os.X_OK):
            return shlex.quote(beside)
    if found is not None and os.path.abspath(found) != beside:
        return name
    return own if os.access(os.path.expanduser(own), os.X_OK) else None


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
