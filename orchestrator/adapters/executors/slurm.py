"""Submission of rendered scripts through submitit. Runs on the login node.

submitit pickles functions and writes its own sbatch text; here the text is a rendered template and
nothing is pickled, so nothing has to be renamed after sbatch and a killed submitter loses nothing.
``ScriptExecutor`` overrides private methods of submitit 1.5.4, which is pinned for that reason:

* ``_make_submission_file_text`` alone is ignored for arrays, for which submitit builds its own
  class; so ``_submit_command``, which both go through, is overridden as well.
* submitit calls sbatch without a time limit, in the user's environment, and reads any number after
  the word "job" as the id.
* an sbatch that finds the queue full sleeps and tries again for two minutes, also when its
  submitter is long dead; where util-linux's ``setpriv`` is at hand it ends with its submitter.

What it does not do: decide what a failed sbatch means for the trials (``usecases.submit`` does).
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any, NoReturn

from submitit.core.utils import CommandFunction, FailedJobError, FailedSubmissionError
from submitit.slurm.slurm import SlurmExecutor, SlurmJob

from orchestrator.adapters.slurm_cli import SUBMIT_KILL_S, clean_environment, submit_timeout_s
from orchestrator.contract.errors import AmbiguousSubmission, ClusterFull, ClusterRefused
from orchestrator.contract.paths import ArrayPaths
from orchestrator.domain.sbatch_answer import AMBIGUOUS, FULL, NO_OPTION
from orchestrator.runtime import durable, failpoint


class ScriptExecutor(SlurmExecutor):
    """A submitit Slurm executor whose submission text is a rendered template."""

    def __init__(self, array: ArrayPaths, is_held: bool = False, after: Sequence[str] = ()):
        """Submit the script of one array.

        Args:
            array: Where the script goes; its directory exists.
            is_held: Whether its tasks wait until they are released. An option of the call, so that
                no template can forget it.
            after: Jobs, by their ids, that have to end before it starts.

        Raises:
            RuntimeError: There is no Slurm on this machine (submitit looks for srun).
        """
        super().__init__(folder=array.root)
        self._array = array
        self._options = ["--hold"] if is_held else []
        if after:
            self._options.append(f"--dependency=afterany:{':'.join(after)}")
        self._text = ""

    def submit_text(self, text: str) -> str:
        """Submit one script, of a single job or of an array, with one call of sbatch.

        Returns:
            Slurm's id of the job or array.

        Raises:
            ClusterRefused: sbatch said no, or could not be called; the text is the reason.
            ClusterFull: A limit on queued jobs is reached; later it may take them.
            AmbiguousSubmission: It is open whether the job exists; look it up by its name.
        """
        self._text = text
        try:
            return str(self._submit_command(self._array.script).job_id)
        except FailedSubmissionError as error:
            raise AmbiguousSubmission(str(error)) from None
        except FailedJobError as error:
            raise _classify(error) from None

    def _submit_command(self, command: str) -> SlurmJob[Any]:
        text = self._make_submission_file_text(command, "")
        try:
            durable.replace(command, text.encode("utf-8"))
        except OSError as error:  # a full disk; what is certain need not be settled
            reason = f"{error.filename}: {error.strerror}; sbatch was not called"
            raise ClusterRefused(reason) from None
        call = CommandFunction(
            self._make_submission_command(command),
            verbose=False,
            # No LC_ALL here: sbatch hands its environment on to the jobs.
            env=clean_environment(os.environ),
        )
        failpoint.reach("sbatch.before")
        with contextlib.redirect_stderr(io.StringIO()):  # CommandFunction prints there as well
            output = call()
        failpoint.reach("sbatch.after")
        return SlurmJob(self.folder, self._get_job_id_from_submission_command(output), [0])

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        return self._text

    def _make_submission_command(self, submission_file_path: object) -> list[str]:
        # coreutils' timeout: CommandFunction waits for ever.
        timeout = shutil.which("timeout")
        bound: list[str] = []
        if timeout:
            bound = [timeout, f"--kill-after={SUBMIT_KILL_S}", str(submit_timeout_s())]
            if _has_setpriv():
                # SIGTERM, which timeout passes on; SIGKILL would end timeout alone.
                bound = ["setpriv", "--pdeathsig", "TERM", *bound]
        return [*bound, "sbatch", "--parsable", *self._options, str(submission_file_path)]

    @staticmethod
    def _get_job_id_from_submission_command(string: bytes | str) -> str:
        """Read ``sbatch --parsable``: ``id`` or ``id;cluster`` on the last such line."""
        text = string.decode() if isinstance(string, bytes) else string
        for line in reversed(text.splitlines()):
            match = re.fullmatch(r"(\d+)(;\S*)?", line.strip())
            if match is not None:
                return match[1]
        raise FailedSubmissionError(f"sbatch answered {text[:200]!r}, which holds no job id")

    def _internal_process_submissions(self, delayed_submissions: Any) -> NoReturn:
        raise NotImplementedError("this executor submits scripts, not functions: submit_text")


def _classify(error: FailedJobError) -> ClusterRefused | AmbiguousSubmission:
    cause = error.__cause__
    code = getattr(cause, "returncode", None)
    lines = [line.removeprefix("sbatch: ").strip() for line in str(error).splitlines()]
    words = "; ".join(line.removeprefix("error: ") for line in lines if line)
    if code in (124, 137) or (isinstance(code, int) and code < 0):
        return AmbiguousSubmission(f"sbatch gave no answer in {submit_timeout_s()} s")
    full = FULL.search(words)
    if full is not None:
        return ClusterFull(
            f"sbatch: {words}; the limit on queued jobs is reached ({full[0]}): submit again when "
            "some have ended"
        )
    if not words or AMBIGUOUS.search(words):
        return AmbiguousSubmission(f"sbatch: {words or f'exit {code} without a word'}")
    # getopt_long(3): a misspelt option of a template, a profile or the spec.
    where = "; make lint shows where it stands" if NO_OPTION.search(words) else ""
    return ClusterRefused(f"sbatch: {words}{where}")


@functools.cache
def _has_setpriv() -> bool:
    """Whether there is a setpriv that can tie a process to its parent (util-linux 2.33, 2018)."""
    try:
        argv = ["setpriv", "--pdeathsig", "TERM", "true"]
        done = subprocess.run(argv, check=False, capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
