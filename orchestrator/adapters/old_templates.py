"""The templates folder as it was: of a git revision, or another folder. Runs on the login node."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator

from orchestrator.contract.errors import UserError
from orchestrator.domain.plain_text import one_line

GIT_TIMEOUT_S = 30.0


@contextlib.contextmanager
def templates_at(folder: str, against: str) -> Iterator[str]:
    """Lend the older templates as a folder.

    Args:
        folder: The templates folder as it is now.
        against: A folder, or a git revision of ``folder``'s repository.

    Raises:
        UserError: Neither of both, or git is not here.
    """
    if os.path.isdir(against):
        yield against
        return
    data = _archive(folder, against)
    with tempfile.TemporaryDirectory(prefix="templates-") as copy:
        try:
            _unpack(data, copy)
        except (tarfile.TarError, OSError) as error:
            raise UserError(f"--against {against}: cannot be unpacked: {error}") from None
        yield copy


def _unpack(data: bytes, folder: str) -> None:
    """Write the files of an archive; links and the like are no templates."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive.getmembers():
            name = os.path.normpath(member.name)
            content = archive.extractfile(member) if member.isfile() else None
            if content is None or os.path.isabs(name) or name.startswith(".."):
                continue
            path = os.path.join(folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(content.read())


def _archive(folder: str, revision: str) -> bytes:
    # A revision that begins with a dash would be an option of git.
    words = ["git", "-C", folder, "archive", "--format=tar"]
    name = f"--against {revision}"
    if revision.startswith("-"):
        raise UserError(f"{name}: no such folder, and no revision of git")
    try:
        done = subprocess.run(
            [*words, revision, "."],
            check=False,
            capture_output=True,
            timeout=GIT_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(f"{name}: git: {error}") from None
    if done.returncode != 0:
        said = one_line(done.stderr.decode("utf-8", "replace").strip())
        raise UserError(f"{name}: no such folder, and git says: {said}")
    return done.stdout
