"""What a results folder's abilities mean for sweeps. Pure; ``adapters.folder_check`` tries them."""

from __future__ import annotations

from orchestrator.domain.finding import NOTE, OK, PROBLEM, WARNING, Finding

# A checkpoint of a small model; below it the first save fails.
LITTLE_SPACE_GB = 1.0
# A trial has about eight files; below this a sweep of a thousand does not fit.
FEW_INODES = 10_000
# Heartbeats count for 100 s (runtime.heartbeat.Times.stale_s).
SMALL_SKEW_S, LARGE_SKEW_S = 5.0, 50.0
ELSEWHERE = "Name another folder with RESULTS=."


def find_writable(path: str, tried: str, kind: str, error: str | None) -> Finding:
    """Say whether the folder can be written to."""
    shown = f"{path} ({kind})" if kind else path
    if error is not None:
        return Finding(
            PROBLEM, "results-writable", f"{tried} cannot be written to: {error}.", "", ELSEWHERE
        )
    if path != tried:
        return Finding(
            OK, "results-writable", f"{shown} can be made; tried in {tried}, which is there."
        )
    return Finding(OK, "results-writable", f"{shown} can be written to.")


def find_private(is_mine: bool | None, others_may_write: bool | None) -> Finding:
    """Say whether other users could replace a sweep there."""
    if others_may_write:
        return Finding(
            WARNING,
            "results-private",
            "Other users may write to the results folder: they could put a folder of theirs in "
            "the place of a sweep.",
            "Each sweep's own folder is yours alone (mode 0700), and one that belongs to another "
            "user is refused.",
            "chmod go-w on it, or name another with RESULTS=.",
        )
    if is_mine is False:
        return Finding(
            NOTE,
            "results-private",
            "The results folder belongs to another user.",
            "Each sweep's own folder is yours alone (mode 0700).",
        )
    return Finding(OK, "results-private", "Sweeps there are private: mode 0700, yours alone.")


def find_links(error: str | None) -> Finding:
    """Say whether results can be committed there."""
    if error is None:
        return Finding(OK, "hard-links", "link(2) works: results can be committed.")
    return Finding(
        PROBLEM,
        "hard-links",
        f"link(2) does not work there: {error}. Every result is committed by it, so that no trial "
        "has two.",
        "Trials there could not commit their results.",
        ELSEWHERE + " NFS, Lustre, GPFS and local disks have it; many FUSE mounts do not.",
    )


def find_locks(error: str | None, has_no_locks: bool) -> Finding:
    """Say whether two submissions of a sweep keep off each other there."""
    if error is None:
        return Finding(OK, "locks", "POSIX locks work: two submissions keep off each other.")
    if has_no_locks:
        return Finding(
            NOTE,
            "locks",
            f"The file system has no POSIX locks ({error}).",
            "A file made by link(2) stands in. After a crash on another machine it stays behind, "
            "and `make submit` names its owner.",
        )
    return Finding(
        PROBLEM,
        "locks",
        f"POSIX locks do not work there: {error}.",
        "",
        ELSEWHERE + " Sysadmins: mount NFS with locks (no `nolock`), Lustre with `flock`.",
    )


def find_space(free_bytes: int | None, free_inodes: int | None) -> Finding:
    """Say how much fits there; quotas are not asked for."""
    if free_bytes is None:
        return Finding(NOTE, "space", "How much space is left is not known.")
    gigabytes = free_bytes / 2**30
    what = f"{gigabytes:,.1f} GB"
    what += "" if free_inodes is None else f" and {free_inodes:,} files"
    few = free_inodes is not None and free_inodes < FEW_INODES
    if gigabytes < LITTLE_SPACE_GB or few:
        return Finding(
            WARNING,
            "space",
            f"Only {what} are left there.",
            "A full disk loses no result: what cannot be written is reported, and goes on later.",
            "Make room, or name another folder with RESULTS=.",
        )
    return Finding(OK, "space", f"{what} are free there (your quota may be less).")


def find_clock(ahead_s: float | None, who: str, topic: str, profile: str = "") -> Finding | None:
    """Compare a clock with this machine's.

    Args:
        ahead_s: Seconds that it is ahead; None: not measured.
        who: Whose clock it is.
        topic: The finding's topic.
        profile: The profile it is about.
    """
    if ahead_s is None:
        return None
    seconds = abs(ahead_s)
    if seconds < SMALL_SKEW_S:
        return Finding(OK, topic, f"{who}'s clock agrees with this machine's.", profile=profile)
    severity = WARNING if seconds < LARGE_SKEW_S else PROBLEM
    side = "ahead of" if ahead_s > 0 else "behind"
    return Finding(
        severity,
        topic,
        f"{who}'s clock is {seconds:,.0f} s {side} this machine's.",
        "Attempts are put in order by their numbers and durations are measured on one machine; "
        "but a heartbeat's age is judged by both clocks, and one of 100 s counts as dead.",
        "Tell your sysadmins: clocks are kept together by NTP.",
        profile,
    )
