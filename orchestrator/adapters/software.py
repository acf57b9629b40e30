"""Which software trials find: Python, the packages installed, and those that are a live tree.

Runs on the login node, and describes the Python that the orchestrator runs in, which is the trials'
too unless their sweep or partition activates another one. Reads names of folders, not the packages'
metadata, which would take ten times as long.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from orchestrator.adapters.source_tree import is_within
from orchestrator.contract.records import dump_record
from orchestrator.domain.frozen_code import N_DIGITS
from orchestrator.runtime import durable

_INFO = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)(?:-py[0-9.]+)?\.(?:dist|egg)-info")
_MAPPING = re.compile(r"^MAPPING\b[^=]*=\s*(\{.*\})\s*$", re.MULTILINE)
# Above a package's folder, what says that it can be installed.
_PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg")


def describe_software() -> dict[str, Any]:
    """Describe this Python and its packages."""
    packages: dict[str, str] = {}
    for name in _site_entries():
        match = _INFO.fullmatch(name.rpartition("/")[2])
        if match:  # the first on the path is the one that is imported
            packages.setdefault(re.sub(r"[-_.]+", "-", match["name"]).lower(), match["version"])
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "machine": f"{platform.system()} {platform.machine()}",
        "executable": sys.executable,
        "packages": dict(sorted(packages.items())),
    }


def save_software(code: str, software: dict[str, Any]) -> str:
    """Keep a description in ``<code>/environment-<hash>.json``, once; returns the hash."""
    text = json.dumps(software, sort_keys=True).encode("utf-8", "surrogateescape")
    name = hashlib.sha256(text).hexdigest()[:N_DIGITS]
    path = software_path(code, name)
    if not os.path.exists(path):
        durable.replace(path, dump_record(software))
    return name


def software_path(code: str, name: str) -> str:
    """Return where a description is kept."""
    return f"{code}/environment-{name}.json"


def find_import_roots(root: str, python_path: str, has_own_environment: bool) -> list[str]:
    """Return the folders of a tree that Python imports from, relative to it.

    They are what ``pip install --editable`` has put on Python's path, and what ``PYTHONPATH``
    holds: a copy of the tree has to stand before them. An environment that trials activate
    themselves is not known here; where they do, a project that can be installed counts as
    installed.

    Args:
        root: The tree's top, without links.
        python_path: The value of ``PYTHONPATH``.
        has_own_environment: Whether the trials activate something first.
    """
    found: dict[str, None] = {}
    folders = [*filter(os.path.isabs, python_path.split(os.pathsep)), *_editable_folders()]
    if has_own_environment and any(os.path.exists(f"{root}/{name}") for name in _PROJECT_FILES):
        folders.append(f"{root}/src" if os.path.isdir(f"{root}/src") else root)
    for folder in folders:
        real = os.path.realpath(folder)
        if is_within(real, root) and os.path.isdir(real) and not _is_site(real):
            found[os.path.relpath(real, root)] = None
    return list(found)


def _is_site(folder: str) -> bool:
    """Whether packages are installed there: an environment within the tree is no code of it."""
    return "site-packages" in folder.split("/")


def _site_entries() -> Iterator[str]:
    for folder in sys.path:
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(folder or ".")):
                if name.endswith((".dist-info", ".egg-info", ".pth", ".py")):
                    yield os.path.join(folder, name)


def _editable_folders() -> Iterator[str]:
    """Yield the folders that editable installs import from."""
    for path in _site_entries():
        name = path.rpartition("/")[2]
        if name.endswith(".pth"):
            for line in _read(path).splitlines():
                if line.strip() and not line.startswith(("import ", "import\t", "#")):
                    yield os.path.join(os.path.dirname(path), line.strip())
        elif name.startswith("__editable__") and name.endswith(".py"):
            yield from _mapped_folders(_read(path))


def _mapped_folders(text: str) -> Iterable[str]:
    """Return where setuptools' finder for an editable install looks: above each package."""
    match = _MAPPING.search(text)
    with contextlib.suppress(ValueError, SyntaxError, AttributeError):
        mapping = ast.literal_eval(match[1]) if match else {}
        return [os.path.dirname(str(path)) for path in mapping.values()]
    return []


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(2**20)
    except OSError:
        return ""
