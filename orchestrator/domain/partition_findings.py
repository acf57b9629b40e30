"""What a profile's partition means for its trials: limits, preemption, signals. Pure.

Compares a profile of ``templates/partitions.yaml`` with what Slurm says about its partition. The
traps of preemption: what a trial is told, when, and what Slurm does with a job that leaves.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.domain.finding import NOTE, OK, PROBLEM, WARNING, Finding
from orchestrator.domain.partition import PartitionProfile
from orchestrator.domain.site import (
    PartitionConfig,
    SiteConfig,
    choose_requeue,
    counts_grace_exits,
    effective_grace_s,
    preempt_mode,
)
from orchestrator.domain.site_findings import RESUME


def find_partition(
    site: SiteConfig, partitions: Mapping[str, PartitionConfig], profile: PartitionProfile
) -> list[Finding]:
    """Name what is special about a profile's partition.

    Args:
        site: The cluster's configuration.
        partitions: Its partitions, by name.
        profile: The profile.
    """
    partition = partitions.get(profile.slurm_partition)
    if partition is None:
        known = ", ".join(sorted(partitions)) or "none"
        return [
            Finding(
                PROBLEM,
                "partition-missing",
                f"The cluster has no partition {profile.slurm_partition}; it has: {known}.",
                "A sweep that names it is refused before anything is submitted.",
                "Set `slurm_partition:` in templates/partitions.yaml, or remove the profile.",
                profile.name,
            )
        ]
    findings = [
        _state(partition, profile),
        _time(partition, profile),
        _mode(site, partition, profile),
        _claim(site, partition, partitions, profile),
    ]
    if can_be_preempted(site, partition, partitions):
        findings += [
            _notice(site, partition, profile),
            _save(site, partition, profile),
            _early_exit(site, partition, profile),
            _rerun(site, partition, profile),
            _held(site, partition, profile),
        ]
    return [finding for finding in findings if finding is not None]


def can_be_preempted(
    site: SiteConfig, partition: PartitionConfig, partitions: Mapping[str, PartitionConfig]
) -> bool:
    """Tell whether jobs there can be preempted, as far as the configuration says.

    Another partition of a higher tier is taken for one over the same nodes.
    """
    if preempt_mode(site, partition) == "OFF":
        return False
    if site.preempt_type == "preempt/qos":
        return True
    return any(other.priority_tier > partition.priority_tier for other in partitions.values())


def _state(partition: PartitionConfig, profile: PartitionProfile) -> Finding | None:
    if partition.state == "UP" and partition.n_nodes != 0:
        return None
    what = "has no nodes" if partition.state == "UP" else f"is {partition.state}"
    return Finding(
        WARNING,
        "partition-state",
        f"Partition {partition.name} {what}: trials submitted to it wait, or are refused.",
        "",
        "Ask your sysadmins, or name another partition.",
        profile.name,
    )


def _time(partition: PartitionConfig, profile: PartitionProfile) -> Finding | None:
    longest = partition.max_time_min
    if longest is None:
        return None
    default = profile.defaults.get("time_min")
    if default is not None and default > longest:
        return Finding(
            PROBLEM,
            "max-time",
            f"The profile's default time of {_hours(default)} is longer than the partition runs "
            f"jobs, {_hours(longest)} (MaxTime): its trials would wait for ever or be refused.",
            "",
            f"Set `defaults: {{time: ...}}` to {_hours(longest)} or less.",
            profile.name,
        )
    if profile.max_time_min is not None and profile.max_time_min <= longest:
        return None
    says = "none" if profile.max_time_min is None else _hours(profile.max_time_min)
    return Finding(
        WARNING,
        "max-time",
        f"The partition runs jobs for {_hours(longest)} at most (MaxTime), the profile says "
        f"{says}: a trial that asks for more waits for ever or is refused.",
        "",
        f"Set `max_time: {_hours(longest)}` in the profile: such trials are then refused before "
        "they are submitted.",
        profile.name,
    )


def _mode(site: SiteConfig, partition: PartitionConfig, profile: PartitionProfile) -> Finding:
    choice = choose_requeue(site, partition)
    if profile.requeue is None and choice.requeue:
        return Finding(OK, "mode", f"Requeue mode: {choice.reason}.", profile=profile.name)
    if profile.requeue is None:
        return Finding(
            NOTE,
            "mode",
            f"Resubmit mode: {choice.reason}.",
            "A preempted trial keeps its checkpoints, and its next attempt is a new job.",
            f"{RESUME[0].upper()}{RESUME[1:]}.",
            profile.name,
        )
    word = "true" if profile.requeue else "false"
    if profile.requeue == choice.requeue:
        return Finding(
            OK, "mode", f"`requeue: {word}`, as auto would choose.", profile=profile.name
        )
    return Finding(
        WARNING if profile.requeue else NOTE,
        "mode",
        f"The profile says `requeue: {word}`, though {choice.reason}.",
        "The profile is obeyed." + ("" if profile.requeue else f" To resume trials, {RESUME}."),
        "Write `requeue: auto`, unless you know better.",
        profile.name,
    )


def _claim(
    site: SiteConfig,
    partition: PartitionConfig,
    partitions: Mapping[str, PartitionConfig],
    profile: PartitionProfile,
) -> Finding | None:
    preempted = can_be_preempted(site, partition, partitions)
    if profile.preemptible == preempted:
        return None
    can = "can" if preempted else "cannot"
    says = "true" if profile.preemptible else "false"
    return Finding(
        NOTE,
        "preemptible",
        f"Jobs there {can} be preempted, but the profile says `preemptible: {says}`.",
        "Trials checkpoint and resume either way; the word is for people.",
        f"Set `preemptible: {'true' if preempted else 'false'}`.",
        profile.name,
    )


def _notice(
    site: SiteConfig, partition: PartitionConfig, profile: PartitionProfile
) -> Finding | None:
    """Say when a trial learns of its preemption."""
    mode, grace = preempt_mode(site, partition), effective_grace_s(site, partition)
    if mode == "SUSPEND":
        return Finding(
            NOTE,
            "suspend",
            "Preempted jobs are stopped and go on later (PreemptMode=SUSPEND).",
            "While squeue shows a trial as suspended it is not given up.",
            profile=profile.name,
        )
    if site.has_gang:
        return Finding(
            WARNING,
            "gang",
            "Preemption goes by Slurm's gang scheduler (PreemptMode=GANG), which gives no "
            f"GraceTime and no signal: SIGTERM, and {site.kill_wait_s} s later the kill.",
            "SIGTERM asks the program to save. What it does not finish in that time is lost, and "
            "it resumes at its last complete checkpoint.",
            "Save at intervals. Sysadmins: only SUSPEND and time slicing need GANG.",
            profile.name,
        )
    if grace == 0:
        return Finding(
            WARNING,
            "no-grace",
            f"There is no GraceTime: a preempted trial gets SIGTERM, and {site.kill_wait_s} s "
            "later the kill.",
            "SIGTERM asks the program to save; else it resumes at its last complete checkpoint.",
            "Save at intervals. Sysadmins: a GraceTime on the partition gives time to save.",
            profile.name,
        )
    return _signal(site, partition, profile, grace)


def _signal(
    site: SiteConfig, partition: PartitionConfig, profile: PartitionProfile, grace: int | None
) -> Finding:
    long = "of the QOS" if grace is None else f"of {grace} s"
    if profile.layout == "step":
        return Finding(
            OK,
            "notice",
            f"A preempted trial is told at the start of its grace period {long}.",
            "Its program runs in a step (`layout: step`), which Slurm always tells.",
            profile=profile.name,
        )
    if site.user_signal:
        return Finding(
            OK,
            "notice",
            f"The site sends the user signal: a trial is told at the start of its grace {long}.",
            profile=profile.name,
        )
    doubt = "does not send" if site.user_signal is False else "may not send"
    return Finding(
        WARNING,
        "user-signal",
        f"The site {doubt} the user signal, so with `layout: batch` a preempted trial learns of "
        "it only when the grace period is over.",
        "It then saves if it can within KillWait, else resumes at its last complete checkpoint.",
        "Set `layout: step` in the profile. Sysadmins: "
        + ("SlurmctldParameters=preempt_send_user_signal" if _is_old(site) else _NEW_SIGNAL)
        + " in slurm.conf.",
        profile.name,
    )


def _save(
    site: SiteConfig, partition: PartitionConfig, profile: PartitionProfile
) -> Finding | None:
    """Compare the time to save with what the profile wants for a checkpoint."""
    if preempt_mode(site, partition) not in ("REQUEUE", "CANCEL"):
        return None
    grace = effective_grace_s(site, partition)
    told_late = profile.layout == "batch" and not site.user_signal
    if grace is None:
        return None
    seconds, name = (
        (site.kill_wait_s, "KillWait")
        if told_late or not grace
        else (
            grace + site.kill_wait_s,
            "GraceTime and KillWait",
        )
    )
    if seconds >= profile.signal_before_end_s:
        return None
    return Finding(
        WARNING,
        "save-time",
        f"A preempted trial has {seconds} s to save ({name}); the profile counts on "
        f"{profile.signal_before_end_s} s for a checkpoint (signal_before_end_s).",
        "A checkpoint that is cut short is never used: the one before it is.",
        "Save at intervals, so that little is lost.",
        profile.name,
    )


def _early_exit(
    site: SiteConfig, partition: PartitionConfig, profile: PartitionProfile
) -> Finding | None:
    """Name the state that a job gets which leaves within its grace."""
    grace = effective_grace_s(site, partition)
    if grace == 0 or site.reruns_after_grace:
        return None
    return Finding(
        NOTE,
        "exit-in-grace",
        "A job that leaves within its grace period reads COMPLETED in squeue and sacct, also "
        "when its trial is half done.",
        "We never go by that: a trial is done when its result is committed.",
        profile=profile.name,
    )


def _rerun(
    site: SiteConfig, partition: PartitionConfig, profile: PartitionProfile
) -> Finding | None:
    if not counts_grace_exits(site, partition):
        return None
    return Finding(
        NOTE,
        "rerun-after-grace",
        f"Slurm {site.version_text} runs a finished job once more if it was ever preempted "
        "through a grace period (since 24.05).",
        "The second run sees the committed result and leaves within seconds; nothing is counted "
        "twice.",
        profile=profile.name,
    )


def _held(
    site: SiteConfig, partition: PartitionConfig, profile: PartitionProfile
) -> Finding | None:
    if not counts_grace_exits(site, partition):
        return None
    auto = choose_requeue(site, partition).requeue
    if not (auto if profile.requeue is None else profile.requeue):
        return None
    return Finding(
        WARNING,
        "grace-exit-limit",
        f"Slurm {site.version_text} counts each exit within the grace period, and holds the job "
        f"for ever at number {site.max_batch_requeue} (MaxBatchRequeue); only a sysadmin can "
        "release it.",
        "`make status` shows such a trial as waiting, with Slurm's words `launch failure limit "
        "exceeded`. Its checkpoints stay.",
        "scancel its task, then `make submit ARGS=--retry-failed` takes it on from its checkpoint. "
        "With `make supervise` running, `requeue: false` avoids it.",
        profile.name,
    )


_NEW_SIGNAL = "PreemptParameters=send_user_signal"


def _is_old(site: SiteConfig) -> bool:
    return site.version is not None and site.version[:2] <= (22, 5)


def _hours(minutes: int) -> str:
    """Write a time as Slurm and the profiles do."""
    days, rest = divmod(minutes, 24 * 60)
    clock = f"{rest // 60}:{rest % 60:02d}:00"
    return f"{days}-{rest // 60:02d}:{rest % 60:02d}:00" if days else clock
