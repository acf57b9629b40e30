"""Puts Debian's Chromium on this machine, or says why that cannot be.

Does: installs the package where there is no Chromium, under the lock of all installers of the
tests. Does not: start it, nor remove what it installed. Called by: conftest.py.
"""

from __future__ import annotations

import os
import platform
import shutil

from tests import apt

_NAMES = ("chromium", "chromium-browser", "google-chrome")


class BrowserUnavailable(Exception):
    """This machine cannot have a browser; the message is the reason, on one line."""


def ensure_chromium() -> str:
    """Return the path of Chromium, installing it where there is none.

    Raises:
        BrowserUnavailable: Not Linux, not root, no apt-get, or apt-get failed.
    """
    found = _find()
    if found is not None:
        return found
    if platform.system() != "Linux":
        raise BrowserUnavailable(f"no Chromium found on {platform.system()}")
    if os.geteuid() != 0 or shutil.which("apt-get", path=apt.SEARCH_PATH) is None:
        raise BrowserUnavailable("no Chromium, and only root on Debian can install it here")
    try:
        with apt.one_at_a_time():
            if _find() is None:  # another process may have installed it meanwhile
                apt.install("chromium")
    except apt.AptFailed as error:
        raise BrowserUnavailable(str(error)) from error
    found = _find()
    if found is None:
        raise BrowserUnavailable("apt-get installed chromium, and it is not on the path")
    return found


def _find() -> str | None:
    return next(filter(None, (shutil.which(name, path=apt.SEARCH_PATH) for name in _NAMES)), None)
