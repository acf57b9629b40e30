"""Finds a model by its hub name among the files at hand. Nothing is ever downloaded.

Looks below ``MODELS_DIR`` (``MODELS_DIR/org/name``, ``MODELS_DIR/name``), then in the local cache
of Hugging Face, whose layout huggingface_hub documents ("Understand caching"): ``models--org--name/
refs/main`` names the commit, and ``snapshots/<commit>/`` has its files. Standard library only.

The cache's ``main`` is what was downloaded last, which may differ between machines; a checkpoint
knows its base model by content (``identity.py``), so none is resumed with another.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping

_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def find_model(name: str, environ: Mapping[str, str]) -> str | None:
    """Return the directory of a model's files; None if it is not at hand.

    Args:
        name: ``org/name``; anything else is no name of the hub.
        environ: For ``MODELS_DIR`` and where the cache lies.
    """
    if not is_name(name):
        return None
    return next((path for path in _places(name, environ) if _has_model(path)), None)


def is_name(name: str) -> bool:
    """Whether this can be a name of the hub; a relative path of two parts can be one as well."""
    return bool(_NAME.fullmatch(name)) and ".." not in name


def explain_missing(name: str, environ: Mapping[str, str]) -> str:
    """Say in one line where a model was looked for, and how it gets there."""
    models = environ.get("MODELS_DIR", "")
    places = f"{models} (MODELS_DIR) or {_cache(environ)}" if models else _cache(environ)
    return (
        f"--model={name}: no such directory, nor a model of that name in {places}; nothing is "
        f"downloaded here: run `hf download {name}` where there is a network, with HF_HOME on a "
        "disk that the nodes see"
    )


def _places(name: str, environ: Mapping[str, str]) -> Iterator[str]:
    if models := environ.get("MODELS_DIR", ""):
        yield os.path.join(models, name)
        yield os.path.join(models, name.rpartition("/")[2])
    folder = os.path.join(_cache(environ), f"models--{name.replace('/', '--')}")
    try:
        with open(os.path.join(folder, "refs", "main"), encoding="utf-8") as file:
            commit = file.read(200).strip()
    except (OSError, UnicodeDecodeError):
        return
    if re.fullmatch(r"\w+", commit):
        yield os.path.join(folder, "snapshots", commit)


def _cache(environ: Mapping[str, str]) -> str:
    """Return the cache's directory (huggingface_hub, ``constants.py``)."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environ.get(variable):
            return os.path.expanduser(environ[variable])
    home = environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    hf_home = environ.get("HF_HOME") or os.path.join(home, "huggingface")
    return os.path.join(os.path.expanduser(hf_home), "hub")


def _has_model(path: str) -> bool:
    return os.path.isfile(os.path.join(path, "config.json"))
