"""Takes the test cluster up and down: `python -m tests.cluster up|down|status|restart`.

Does: starts, restarts and stops it, says what is there and how an ordinary user reaches it. Does
not: submit anything. Called by: people, as root, on a Debian machine that may be used for tests.
Exit status: 0 done (status: it is up), 1 failed (status: it is down), 2 wrong arguments, 3 this
machine cannot have Slurm.
"""

import argparse
import sys
from pathlib import Path

from tests.cluster.cluster import (
    USER,
    Cluster,
    ClusterError,
    ClusterOptions,
    ClusterUnavailable,
)

_UNAVAILABLE = 3


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    args = _parser().parse_args(argv)
    cluster = Cluster(args.root)
    try:
        if args.command == "status":
            return _show_status(cluster)
        if args.command == "down":
            cluster.down()
            print(f"down; logs and database are kept in {cluster.root}")
            return 0
        if args.command == "purge":
            cluster.purge()
            return 0
        options = _options(args)
        if args.command == "restart" and cluster.is_up():
            cluster.restart(options)
        else:
            cluster.up(options)
        return _show_status(cluster)
    except ClusterUnavailable as error:
        print(f"no test cluster here: {error}", file=sys.stderr)
        return _UNAVAILABLE
    except (ClusterError, TimeoutError, PermissionError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    default = ClusterOptions()
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster", description="A real Slurm on this machine, for tests."
    )
    parser.add_argument("--root", type=Path, help="its folder ($ORCHESTRATOR_CLUSTER_DIR)")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("up", "start it, or do nothing if it is up with these options"),
        ("restart", "start it anew with these options; its jobs and their history are gone"),
    ):
        command = commands.add_parser(
            name, help=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        command.add_argument("--grace", type=int, default=default.grace_s, help="GraceTime, s")
        command.add_argument(
            "--preempt-mode", choices=("REQUEUE", "CANCEL"), default=default.preempt_mode
        )
        command.add_argument("--user-signal", action="store_true", help="signal at preemption")
        command.add_argument("--gang", action="store_true", help="add GANG to PreemptMode")
        command.add_argument("--no-accounting", action="store_true", help="sacct fails")
        command.add_argument("--job-requeue", type=int, choices=(0, 1), default=default.job_requeue)
        command.add_argument("--max-array-size", type=int, default=default.max_array_size)
        command.add_argument("--max-job-count", type=int, default=default.max_job_count)
        command.add_argument("--kill-wait", type=int, default=default.kill_wait_s)
        command.add_argument("--slurmd-timeout", type=int, default=default.slurmd_timeout_s)
        command.add_argument("--nodes", type=int, default=default.n_nodes)
        command.add_argument("--gpus", type=int, default=default.gpus_per_node, help="per node")
        command.add_argument("--cpus", type=int, default=default.cpus_per_node, help="per node")
        command.add_argument(
            "--extra", action="append", default=[], metavar="KEY=VALUE", help="line of slurm.conf"
        )
    commands.add_parser("status", help="say what is there and how to use it")
    commands.add_parser("down", help="stop it and its jobs; keep logs and database")
    commands.add_parser("purge", help="stop it and remove its folder")
    return parser


def _options(args: argparse.Namespace) -> ClusterOptions:
    return ClusterOptions(
        accounting=not args.no_accounting,
        preempt_mode=args.preempt_mode,
        grace_s=args.grace,
        user_signal=args.user_signal,
        gang=args.gang,
        job_requeue=args.job_requeue,
        max_array_size=args.max_array_size,
        kill_wait_s=args.kill_wait,
        slurmd_timeout_s=args.slurmd_timeout,
        max_job_count=args.max_job_count,
        n_nodes=args.nodes,
        gpus_per_node=args.gpus,
        cpus_per_node=args.cpus,
        extra=tuple(args.extra),
    )


def _show_status(cluster: Cluster) -> int:
    """Prints what is there and how to use it, on 80 columns."""
    if not cluster.is_up():
        dead = [name for name in cluster.daemons() if not cluster.is_alive(name)]
        print(f"down: {cluster.root}" + (f"; dead: {', '.join(dead)}" if dead else ""))
        return 1
    options = cluster.options
    jobs = cluster.squeue()
    running = sum(job.state == "RUNNING" for job in jobs)
    grace = "none, GANG ignores it" if options.gang else f"{options.grace_s} s"
    signal = "yes" if options.user_signal else "no: SIGTERM, to steps only"
    first, last = f"n1 .. n{options.n_nodes}", f"{options.gpus_per_node} GPUs (pretended)"
    print(
        f"""up: {cluster.root}

nodes        {first}, each {options.cpus_per_node} CPUs, {last}
spot         default; preempted by ondemand: {options.preempt_mode}, grace {grace}
             job's own --signal at preemption: {signal}
ondemand     preempts spot, is never preempted
cpu          neither
accounting   {"yes: sacct works" if options.accounting else "no: sacct fails"}
jobs         {running} running of {len(jobs)}
logs         {cluster.root}/log

As the ordinary user, in the repository's folder:
  runuser -u {USER} -- env \\
    SLURM_CONF={cluster.slurm_conf} \\
    make submit SWEEP=sweeps/bash.yaml RESULTS=/home/{USER}/results

Or, already in that user's shell (runuser -u {USER} -- bash):
  export SLURM_CONF={cluster.slurm_conf}
  sinfo; squeue; sbatch -p spot --gpus=1 --wrap 'env | grep CUDA'

make cluster-down      stops it"""
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
