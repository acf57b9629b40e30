"""Limits of accounts and QOS, and whose word counts first."""

from __future__ import annotations

from orchestrator.domain.partition import JobShape
from orchestrator.domain.plan_accounts import (
    Bound,
    Limits,
    Qos,
    Source,
    bound_queued,
    bound_running,
    find_excess,
    find_sources,
    parse_associations,
    parse_qos,
    parse_tres,
)

# Outputs of a real cluster, sacctmgr 22.05.8 with -n -P, in the columns that we ask for.
MINE = """\
test|team|sweeper||||7||1-00:00:00|gres/gpu=4||||
test|sweeps|sweeper|||||100|||||||
"""
ABOVE = """\
test|lab|||root|||||||50||gres/gpu=16
test|root||||||||||||
test|sweeps|||root||||||||||
test|team|||lab||7||||||||
"""
QOS = """\
normal|||||||||||||
long|DenyOnLimit,OverPartQOS|3||gres/gpu=8,node=2||||2-00:00:00|||||
part||5|200|||||12:00:00|mem=512G||||
"""
SHAPE = JobShape(nodes=2, gpus=2, gpu_type="A100", cpus=4, mem_mb=4096, time_min=120)


def sources(
    account: str | None = None, qos: str | None = None, partition_qos: str | None = None
) -> list[Source]:
    return find_sources(
        parse_associations(MINE + ABOVE),
        parse_qos(QOS),
        user="sweeper",
        default_account="sweeps",
        account=account,
        job_qos=qos,
        partition="spot",
        partition_qos=partition_qos,
    )


def test_parse_associations() -> None:
    team, sweeps = parse_associations(MINE)
    assert (team.account, team.user, team.parent) == ("team", "sweeper", "")
    assert team.limits == Limits(jobs=7, wall_min=1440, per_job={"gres/gpu": 4})
    assert sweeps.limits == Limits(submit=100)
    lab = parse_associations(ABOVE)[0]
    assert (lab.user, lab.parent, lab.limits) == (
        "",
        "root",
        Limits(all_jobs=50, all_tres={"gres/gpu": 16}),
    )
    assert parse_associations("odd line\n\n") == []


def test_parse_qos() -> None:
    found = parse_qos(QOS)
    assert found["normal"] == Qos("normal", (), Limits())
    assert found["long"] == Qos(
        "long",
        ("DenyOnLimit", "OverPartQOS"),
        Limits(jobs=3, wall_min=2880, per_user={"gres/gpu": 8, "node": 2}),
    )
    assert found["part"].limits == Limits(
        jobs=5, submit=200, wall_min=720, per_job={"mem": 512 * 1024}
    )


def test_parse_tres_of_every_form() -> None:
    assert parse_tres("cpu=4,mem=100G,gres/gpu:a100=8,billing=7,odd,x=N") == {
        "cpu": 4,
        "mem": 102_400,
        "gres/gpu:a100": 8,
        "billing": 7,
    }
    assert parse_tres("") == {}
    assert parse_tres("mem=4096") == {"mem": 4096}, "Slurm's megabytes"


def test_find_sources_in_slurms_order() -> None:
    words = [source.words for source in sources("team", partition_qos="part")]
    assert words == [
        "QOS part",
        "QOS normal",
        "account team (user sweeper)",
        "account team",
        "account lab",
        "account root",
    ]
    over = [source.words for source in sources("team", "long", "part")][:2]
    assert over == ["QOS long", "QOS part"], "OverPartQOS"
    assert [s.words for s in sources()][1] == "account sweeps (user sweeper)", "the default one"
    assert [s.words for s in sources("nobodys")] == ["QOS normal"]


def test_bound_running_takes_the_first_that_sets_a_limit() -> None:
    assert bound_running(sources("team", "long", "part"), SHAPE) == [
        Bound(3, "QOS long allows a user 3 running jobs"),
        Bound(50, "account lab allows all of its users together 50 running jobs"),
        Bound(1, "QOS long allows a user 2 nodes at once"),
        Bound(2, "QOS long allows a user 8 GPUs at once"),
        Bound(4, "account lab allows all of its users together 16 GPUs at once"),
    ]
    assert bound_running(sources(), SHAPE) == []


def test_bound_running_of_a_typed_gpu_limit() -> None:
    typed = [Source("QOS x", Limits(per_user={"gres/gpu:a100": 12}))]
    assert bound_running(typed, SHAPE) == [Bound(3, "QOS x allows a user 12 a100 at once")]


def test_bound_queued() -> None:
    assert bound_queued(sources()) == Bound(
        100, "account sweeps (user sweeper) allows a user 100 queued and running jobs"
    )
    assert bound_queued(sources("team")) is None


def test_find_excess_says_what_is_allowed() -> None:
    long = JobShape(nodes=3, gpus=2, gpu_type=None, cpus=4, mem_mb=None, time_min=1500)
    assert find_excess(sources("team"), long) == [
        "account team (user sweeper) allows a job 24:00 h, a trial asks for 25:00 h",
        "account team (user sweeper) allows a job 4 GPUs, a trial asks for 6 GPUs",
    ]
    assert find_excess(sources("team"), SHAPE) == []
    big = JobShape(nodes=1, gpus=0, gpu_type=None, cpus=1, mem_mb=600 * 1024, time_min=None)
    assert find_excess(sources(partition_qos="part"), big) == [
        "QOS part allows a job 512 GB, a trial asks for 600 GB"
    ]
    each = [Source("QOS x", Limits(per_node={"cpu": 2}))]
    assert find_excess(each, SHAPE) == [
        "QOS x allows a job on each node 2 CPUs, a trial asks for 4 CPUs"
    ]
