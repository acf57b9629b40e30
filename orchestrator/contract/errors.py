"""Every error the project raises on purpose, and the exit code each one means.

Exit codes: 0 all well, 1 some trials failed, 2 the user's mistake, 3 try again (the cluster
did not answer or takes no more jobs for now, or another submission holds the sweep). Only
``orchestrator.cli`` exits.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_TRIALS_FAILED = 1
EXIT_USER_ERROR = 2
EXIT_TRY_AGAIN = 3
# sysexits.h EX_TEMPFAIL: the program checkpointed and asks to be run again.
EXIT_CHECKPOINTED = 75


class OrchestratorError(Exception):
    """Base of every expected error; its text is shown to the user without a traceback."""

    exit_code = EXIT_USER_ERROR


class UserError(OrchestratorError):
    """The user's mistake: the text says what was found, what is allowed and what to do."""


class SpecError(UserError):
    """A mistake in a sweep spec, a profile or an override, with the place it stands at."""

    def __init__(self, message: str, *, file: str = "", line: int | None = None, key: str = ""):
        """Compose ``file:line: key: message``, leaving out what is unknown.

        Args:
            message: What was found, what is allowed and what to do, in one line.
            file: Path as the user typed it; empty for a value from the command line.
            line: 1-based line in ``file``.
            key: Dotted path of the key, such as ``parameters.lr.min``.
        """
        self.message, self.file, self.line, self.key = message, file, line, key
        place = f"{file}:{line}" if file and line is not None else file
        super().__init__(": ".join(part for part in (place, key, message) if part))


class TemplateError(UserError):
    """A template that does not render, with its file and line."""


class ClusterRefused(UserError):
    """Slurm answered and said no (wrong account, impossible request, limit)."""


class ClusterBusy(ClusterRefused):
    """Slurm certainly did not take the jobs this time, and may take them later."""

    exit_code = EXIT_TRY_AGAIN


class ClusterFull(ClusterBusy):
    """Slurm takes no more jobs of this user for now: a limit on how many may be queued."""


class ClusterUnreachable(OrchestratorError):
    """Slurm did not answer. Unknown is never absent: nothing may be concluded from it."""

    exit_code = EXIT_TRY_AGAIN


class AmbiguousSubmission(OrchestratorError):
    """sbatch failed in a way that leaves open whether the job exists; settle it by its token."""

    exit_code = EXIT_TRY_AGAIN


class SweepLocked(OrchestratorError):
    """Another process is submitting this sweep."""

    exit_code = EXIT_TRY_AGAIN


class CorruptRecord(OrchestratorError):
    """A file that we or a program wrote cannot be used; the text names file and reason."""
