"""What a Slurm site's configuration means for sweeps: its traps, and what is done about each. Pure.

``find_site`` speaks of the cluster as a whole, ``domain.partition_findings`` of a profile's
partition. Each finding says in a user's words what is so, what the orchestrator does about it by
itself, and what is left to do. Facts about Slurm are from slurm.conf(5), scontrol(1) and runs on
22.05.8 and 26.05.3.
"""

from __future__ import annotations

from orchestrator.domain.finding import NOTE, OK, WARNING, Finding
from orchestrator.domain.site import SiteConfig

# How long a submission waits for a job that sbatch left open (usecases.settle.SETTLE_S).
SETTLE_S = 60
SMALL_ARRAY = 1000
SMALL_QUEUE = 1000
# Below this a finished job may be forgotten between two looks at the queue.
SHORT_MEMORY_S = 120
RESUME = "keep `make supervise` running, or type `make submit` again"


def find_site(site: SiteConfig, sacct_error: str | None = None) -> list[Finding]:
    """Name what is special about a site.

    Args:
        site: Its configuration.
        sacct_error: Why sacct did not answer; None if it did, or was not asked.
    """
    findings = [
        _requeue(site),
        _requeue_hold(site),
        _accounting(site, sacct_error),
        _memory(site),
        _arrays(site),
        _queue(site),
        _split_brain(site),
        _slow_answers(site),
        _privacy(site),
    ]
    return [finding for finding in findings if finding is not None]


def _requeue(site: SiteConfig) -> Finding:
    if site.job_requeue:
        return Finding(OK, "requeue", "Slurm restarts jobs after a preemption or a node failure.")
    return Finding(
        WARNING,
        "requeue",
        "The site has turned requeuing off (JobRequeue=0).",
        "Resubmit mode is chosen (`requeue: auto`): every attempt is a new job, and a preempted "
        "trial waits until it is submitted again.",
        f"{RESUME[0].upper()}{RESUME[1:]}. Slurm still restarts jobs that ask for it: if your "
        "sysadmins agree, `requeue: true` in the profile does.",
    )


def _requeue_hold(site: SiteConfig) -> Finding | None:
    if not site.requeue_hold_s:
        return None
    return Finding(
        NOTE,
        "requeue-hold",
        f"After a requeue Slurm keeps a job waiting for {site.requeue_hold_s} s (its reason is "
        "BeginTime).",
        "`make submit` lifts that where Slurm lets the user; else the job starts later by itself.",
    )


def _accounting(site: SiteConfig, sacct_error: str | None) -> Finding:
    if site.accounting is None:
        return Finding(
            NOTE,
            "accounting",
            "There is no accounting, so sacct knows nothing.",
            "All works without: our own records say what ended how, squeue what is queued. A "
            "trial that was cancelled while it waited may be taken for lost, and submitted again.",
        )
    if sacct_error is not None:
        return Finding(
            WARNING,
            "accounting",
            f"sacct does not answer ({sacct_error}), so slurmdbd may be down.",
            "We go by squeue and our own records meanwhile.",
            "Tell your sysadmins if it stays so.",
        )
    return Finding(OK, "accounting", "sacct answers: what left the queue can be asked for.")


def _memory(site: SiteConfig) -> Finding | None:
    if site.min_job_age_s >= SHORT_MEMORY_S or site.accounting is not None:
        return None
    return Finding(
        WARNING,
        "min-job-age",
        f"Slurm forgets a job {site.min_job_age_s} s after its end (MinJobAge), and without "
        "accounting nobody remembers it.",
        "Results and failures are in our own records. An attempt that was killed without a word "
        "is taken for lost, and submitted again.",
        "Cancelled trials may come back with `make submit`: remove them from the sweep instead.",
    )


def _arrays(site: SiteConfig) -> Finding:
    n_tasks = site.tasks_per_array
    what = f"An array holds {n_tasks} trials at most (MaxArraySize"
    what += ", max_array_tasks)." if site.max_array_tasks else ")."
    if n_tasks >= SMALL_ARRAY:
        return Finding(OK, "array-size", what)
    return Finding(
        NOTE,
        "array-size",
        what,
        "Larger sweeps become several arrays, which share `max_concurrent`.",
        "With many arrays, `max_concurrent` should be larger than their number.",
    )


def _queue(site: SiteConfig) -> Finding | None:
    if site.max_job_count >= SMALL_QUEUE:
        return None
    return Finding(
        NOTE,
        "max-job-count",
        f"The cluster holds {site.max_job_count} jobs and array tasks at once (MaxJobCount). When "
        "it is full, sbatch waits up to 120 s and is then refused.",
        "What was not taken is submitted by the next `make submit`.",
    )


def _split_brain(site: SiteConfig) -> Finding:
    if not site.slurmd_timeout_s:
        return Finding(
            WARNING,
            "split-brain",
            "Slurm never gives up a silent node (SlurmdTimeout=0): its trials look as if they ran.",
            "`make status` says `no heartbeat` of them.",
            "Cancel them with scancel; `make submit ARGS=--retry-failed` takes them up.",
        )
    return Finding(
        NOTE,
        "split-brain",
        f"A node that is silent for {site.slurmd_timeout_s} s (SlurmdTimeout) is given up, and its "
        "trials start elsewhere, while the first copy may still run.",
        "The older copy ends itself when it sees the newer one; only one result is taken.",
    )


def _slow_answers(site: SiteConfig) -> Finding | None:
    if site.message_timeout_s < SETTLE_S:
        return None
    return Finding(
        WARNING,
        "message-timeout",
        f"A request to Slurm may take {site.message_timeout_s} s here (MessageTimeout).",
        f"After an sbatch without an answer we look for its job for {SETTLE_S} s, which may be too "
        "short; a second job for a trial leaves again by itself.",
    )


def _privacy(site: SiteConfig) -> Finding:
    if "jobs" in site.private_data or "all" in site.private_data:
        return Finding(OK, "private-data", "Other users do not see your jobs (PrivateData).")
    return Finding(
        NOTE,
        "private-data",
        "Everybody on the cluster sees the names, directories and command lines of your jobs.",
        "Names hold the sweep's name and a random word; parameters are only in files that you "
        "alone can read.",
        "Put no secret into a sweep's name or path.",
    )
