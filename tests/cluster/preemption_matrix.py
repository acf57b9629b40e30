"""Preempts real trials under every kind of site, and counts what that cost.

Does: for each configuration restarts the test cluster, submits two trials of a program that counts,
takes their nodes away, goes on with `submit` as a person would, and reads from the program's own
ledger which steps were done, repeated or left out. Writes RESULTS.md. Does not: look at anything
but files and squeue for its verdict. Called by `make preemption-matrix` (all rows, about
20 minutes, as root, on a machine of its own) and tests/cluster/test_preemption_matrix.py.

    python -m tests.cluster.preemption_matrix [--rows 3,17] [--out FILE]
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.cluster.cluster import USER, Cluster, ClusterOptions
from tests.cluster.installation import reachable_installation
from tests.cluster.user import User, journal, spec

RESULTS = Path(__file__).parent / "RESULTS.md"
GRACE_S = 10
CHECKPOINT_EVERY = 5
N_TRIALS = 2
# Slurm looks about every 30 s whether a grace is over, and holds a requeued task back for 121 s
# unless `submit` lifts that.
TIMEOUT_S = 150.0

STEPS_SH = """\
#!/bin/bash
# Counts to $STEPS, a step in 0.2 s, with a checkpoint every $EVERY steps and one on a signal. Each
# execution notes its steps in a ledger of its own: what was repeated is seen in their union.
state=$TRIAL_CHECKPOINT_DIR/step
step=$(cat "$state" 2>/dev/null || echo 0)
mkdir -p "$TRIAL_DIR/ledger"
ledger=$TRIAL_DIR/ledger/$TRIAL_ATTEMPT.${SLURM_JOB_ID:-0}.${SLURM_RESTART_COUNT:-0}.$BASHPID
stop=0
trap 'stop=1; echo "$EPOCHREALTIME signal" >> "$ledger"' TERM USR2
echo "$EPOCHREALTIME start $step" >> "$ledger"
# A signal goes to every process: without `trap ""` another one would end the mv in mid-save.
save() { (trap "" TERM USR2; echo "$step" > "$state.$$.tmp" && mv "$state.$$.tmp" "$state"); }
while [ "$step" -lt "$STEPS" ]; do
  sleep 0.2 & wait $!
  step=$((step + 1))
  echo "$EPOCHREALTIME step $step" >> "$ledger"
  echo "{\\"step\\": $step, \\"loss\\": $((1000 - step))}" >> "$TRIAL_METRICS"
  if [ $((step % EVERY)) = 0 ]; then save; fi
  if [ "$stop" = 1 ]; then trap "" TERM USR2; save; exit 75; fi
done
"""


@dataclass(frozen=True)
class Row:
    """One configuration of a site, and how we submit there."""

    preempt_mode: Literal["REQUEUE", "CANCEL"]
    """PreemptMode of the partition."""
    grace_s: int = 0
    """GraceTime; GANG ignores it."""
    user_signal: bool = False
    """Whether the site sends the user signal; GANG ignores it."""
    gang: bool = False
    """Whether GANG is part of the cluster's PreemptMode."""
    job_requeue: int = 1
    """JobRequeue: what a job gets that does not say."""
    accounting: bool = True
    """Whether sacct answers."""
    layout: Literal["step", "batch"] = "step"
    """How our attempt is started."""
    requeue: bool = True
    """Whether we ask for --requeue; otherwise preempted trials come back as new jobs."""

    @property
    def options(self) -> ClusterOptions:
        """The test cluster's options for this row."""
        return ClusterOptions(
            preempt_mode=self.preempt_mode,
            grace_s=self.grace_s,
            user_signal=self.user_signal,
            gang=self.gang,
            job_requeue=self.job_requeue,
            accounting=self.accounting,
        )

    @property
    def is_told_late(self) -> bool:
        """Whether the program hears of the preemption only when the grace is over."""
        return self.layout == "batch" and not self.user_signal and self.grace_s > 0

    @property
    def name(self) -> str:
        """Short name, for test ids and logs."""
        return "-".join(
            (
                self.preempt_mode.lower() + ("+gang" if self.gang else ""),
                f"grace{self.grace_s}",
                "signal" if self.user_signal else "nosignal",
                f"jobrequeue{self.job_requeue}",
                "acct" if self.accounting else "noacct",
                self.layout,
                "requeue" if self.requeue else "resubmit",
            )
        )


@dataclass
class Outcome:
    """What a row cost, over its trials."""

    row: Row
    """The configuration."""
    n_steps: int = 0
    """Steps that were to be done."""
    n_missing: int = 0
    """Steps that nobody did: must be 0."""
    repeated: list[str] = field(default_factory=list)
    """``trial step`` for each time that a step was done again."""
    worst_lost: int = 0
    """Most steps that one trial repeated."""
    back_s: float | None = None
    """Seconds from the preemption to the first step of the second execution; the slower trial."""
    states: dict[str, int] = field(default_factory=dict)
    """Trials by final state."""
    ways: list[str] = field(default_factory=list)
    """``requeue`` or ``resubmit``, as each trial came back."""
    n_attempts: int = 0
    """Attempts of all trials."""
    n_commits: int = 0
    """Attempts whose record says that they committed."""
    most_alive: int = 0
    """Most tasks of the sweep that Slurm had at a time, waiting, running or ending."""
    gone: list[str] = field(default_factory=list)
    """What Slurm said of the tasks of trials that were submitted again."""
    remark: str = ""
    """What the records say of the first attempt, and what went wrong."""

    @property
    def is_as_promised(self) -> bool:
        """Nothing left out, at most a checkpoint's interval repeated, committed once each.

        And never submitted again while Slurm may still run it.
        """
        limit = 0 if self.row.grace_s and not self.row.gang else CHECKPOINT_EVERY
        return (
            self.most_alive <= N_TRIALS
            and self.states == {"done": N_TRIALS}
            and self.n_commits == N_TRIALS
            and self.n_missing == 0
            and self.worst_lost <= limit
        )


def _rows() -> list[Row]:
    """Every configuration that differs in what Slurm or we do; see RESULTS.md for what does not."""
    grace = GRACE_S
    return [
        # Slurm requeues
        Row("REQUEUE"),
        Row("REQUEUE", user_signal=True),
        Row("REQUEUE", layout="batch"),
        Row("REQUEUE", user_signal=True, layout="batch"),
        Row("REQUEUE", grace),
        Row("REQUEUE", grace, user_signal=True),
        Row("REQUEUE", grace, layout="batch"),
        Row("REQUEUE", grace, user_signal=True, layout="batch"),
        Row("REQUEUE", gang=True),
        Row("REQUEUE", gang=True, layout="batch"),
        Row("REQUEUE", grace, job_requeue=0),
        # Slurm may not requeue
        Row("REQUEUE", job_requeue=0, requeue=False),
        Row("REQUEUE", grace, user_signal=True, job_requeue=0, requeue=False),
        # Slurm cancels
        Row("CANCEL"),
        Row("CANCEL", grace),
        Row("CANCEL", requeue=False),
        Row("CANCEL", user_signal=True, layout="batch", requeue=False),
        Row("CANCEL", grace, requeue=False),
        Row("CANCEL", grace, user_signal=True, layout="batch", requeue=False),
        Row("CANCEL", gang=True, requeue=False),
        # and nobody keeps accounts
        Row("REQUEUE", grace, accounting=False),
        Row("REQUEUE", gang=True, job_requeue=0, accounting=False, requeue=False),
        Row("CANCEL", accounting=False, requeue=False),
        Row("CANCEL", layout="batch", accounting=False, requeue=False),
        Row("CANCEL", grace, user_signal=True, accounting=False, requeue=False),
        Row("CANCEL", grace, layout="batch", accounting=False, requeue=False),
        Row("CANCEL", gang=True, accounting=False),
    ]


ROWS = _rows()


def run_row(user: User, row: Row) -> Outcome:
    """Run one configuration on the cluster, which has its options, in the user's folder.

    Raises:
        TimeoutError: The trials do not start, or never come back.
    """
    # Told late, a program must still have something to do when the grace is over.
    steps = 400 if row.is_told_late else 40
    user.write("steps.sh", STEPS_SH)
    user.write(
        "sweep.yaml",
        spec(
            f"  a: {list(range(N_TRIALS))}",
            env={"STEPS": str(steps), "EVERY": str(CHECKPOINT_EVERY)},
            layout=row.layout,
            requeue=row.requeue,
        ).replace("count.sh", "steps.sh"),
    )
    outcome = Outcome(row, n_steps=steps * N_TRIALS)
    user.submit()
    user.cluster.wait_until(
        lambda: (
            len(user.trials()) == N_TRIALS
            and all(len(read_steps(trial)) > CHECKPOINT_EVERY + 1 for trial in user.trials())
        ),
        60,
        user.explain,
    )
    preempted_at = time.time()
    blocker = user.cluster.run_as_user(
        ["sbatch", "--parsable", "-p", "ondemand", "-N4", "--exclusive", "-t2"]
        + ["--wrap", "exec sleep 100"],
        cwd=user.folder,
        check=True,
    ).stdout.strip()
    user.cluster.wait_until(
        lambda: blocker in {job.job_id for job in user.cluster.squeue() if job.state == "RUNNING"},
        TIMEOUT_S,
        user.explain,
    )
    user.cluster.run_as_user(["scancel", blocker], cwd=user.folder)

    def is_settled() -> bool:
        """Submits, as a person or a loop does, until nothing is left to wait for."""
        report = user.submit()
        outcome.states = report["states_before"]
        tokens = {entry["token"] for entry in journal(user) if entry["kind"] == "intent"}
        tasks = [job for job in user.cluster.squeue(all_states=True) if job.name in tokens]
        alive = [job for job in tasks if job.state in ("PENDING", "RUNNING", "COMPLETING")]
        outcome.most_alive = max(outcome.most_alive, len(alive))
        if report["submitted"]:
            outcome.gone += [job.state for job in tasks if job not in alive]
        return not set(outcome.states) & {"pending", "running", "requeued", "interrupted", "lost"}

    user.cluster.wait_until(is_settled, TIMEOUT_S + steps / 2, user.explain, interval_s=1.0)
    _read_trials(user, outcome, preempted_at, steps)
    return outcome


def _read_trials(user: User, outcome: Outcome, preempted_at: float, steps: int) -> None:
    """Fill an outcome from the ledgers and the attempts' records."""
    remarks = []
    for trial in user.trials():
        done = Counter(read_steps(trial))
        outcome.n_missing += len(set(range(1, steps + 1)) - set(done))
        again = [step for step, times in done.items() for _ in range(times - 1)]
        outcome.repeated += [f"{trial.name[:5]} {step}" for step in again]
        outcome.worst_lost = max(outcome.worst_lost, len(again))
        records = read_records(trial)
        outcome.n_attempts += len(records)
        outcome.n_commits += sum(record.get("outcome") == "committed" for record in records)
        for before, after in itertools.pairwise(records):
            same = before.get("token") == after.get("token")
            outcome.ways.append("requeue" if same else "resubmit")
        starts = sorted(time_s for time_s, word, _ in read_ledger(trial) if word == "start")
        if len(starts) > 1:
            outcome.back_s = max(outcome.back_s or 0.0, starts[1] - preempted_at)
        first = records[0] if records else {}
        words = f"{first.get('cause') or 'no end'}"
        if first.get("requeue"):
            words += f"; requeue {first['requeue']}"
        remarks.append(words)
    if outcome.row.requeue and outcome.gone:
        remarks.append(f"Slurm on the task then: {', '.join(dict.fromkeys(outcome.gone))}")
    outcome.remark = " / ".join(dict.fromkeys(remarks))


def read_records(trial: Path) -> list[dict[str, Any]]:
    """The records of a trial's attempts, in order."""
    paths = sorted((trial / "attempts").glob("[0-9]*.json"), key=lambda path: int(path.stem))
    return [json.loads(path.read_text()) for path in paths]


def read_ledger(trial: Path) -> list[tuple[float, str, int]]:
    """All executions' lines: time, word, number."""
    lines = []
    for path in sorted((trial / "ledger").glob("*")):
        for line in path.read_text().splitlines():
            time_s, word, *number = line.split()
            lines.append((float(time_s), word, int(number[0]) if number else 0))
    return lines


def read_steps(trial: Path) -> list[int]:
    """Every step that any execution did, repeats included."""
    return [number for _, word, number in read_ledger(trial) if word == "step"]


# --- the report ----------------------------------------------------------------------------------

_HEAD = """\
# Preemption, configuration by configuration

Written by `make preemption-matrix` on Slurm {version}. Each row restarts the test cluster with that
configuration, submits {n} trials of a program that counts, takes their nodes away, and goes on with
`submit` until nothing is left to do. The program saves every {every} steps of 0.2 s, and on a
signal. *Lost* are the steps that a trial did twice, of its ledger; *back* is the time from the
other job's submission to the slower trial's next start, with Slurm's own grace and KillWait
({kill_wait} s) in it.

Promised: all trials done, each committed once; with a grace no step lost, without one at most a
checkpoint's interval.

| # | PreemptMode | grace | user signal | JobRequeue | accounting | layout | asked for | steps \
| lost | back | state | came back by | attempts | as promised | first attempt's record |
|--:|---|--:|---|--:|---|---|---|--:|--:|--:|---|---|--:|---|---|
"""

_FOLDED = """
Left out, since nothing differs there:

- **GANG** ignores GraceTime and the user signal: one value of both.
- **grace 0** ends the job at once, user signal or not: the pairs that differ by the signal alone
  stand for REQUEUE, once in each layout.
- **accounting** is only asked about a task that left the queue. Where Slurm requeues, none does:
  one row without accounting stands for all.
- **JobRequeue=0** is only a job's default, which our `--requeue` and `--no-requeue` override; the
  rows with it are those where a site would forbid requeuing, and one that asks for it nevertheless.
- **CANCEL** rows that ask for `--requeue` are what a site gets that left the profile as it is.
"""


def render(outcomes: list[Outcome], version: str) -> str:
    """Write the report as Markdown."""
    head = _HEAD.format(
        version=version, n=N_TRIALS, every=CHECKPOINT_EVERY, kill_wait=ClusterOptions().kill_wait_s
    )
    lines = []
    for outcome in outcomes:
        row = outcome.row
        mode = row.preempt_mode + (",GANG" if row.gang else "")
        cells = [
            ROWS.index(row) + 1,
            mode,
            "-" if row.gang else f"{row.grace_s} s",
            "-" if row.gang else "on" if row.user_signal else "off",
            row.job_requeue,
            "on" if row.accounting else "off",
            row.layout,
            "requeue" if row.requeue else "resubmit",
            outcome.n_steps,
            outcome.worst_lost,
            "-" if outcome.back_s is None else f"{outcome.back_s:.0f} s",
            ", ".join(f"{n} {state}" for state, n in outcome.states.items()),
            ", ".join(dict.fromkeys(outcome.ways)) or "-",
            outcome.n_attempts,
            "yes" if outcome.is_as_promised else "**NO**",
            outcome.remark.replace("|", "\\|"),
        ]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |\n")
    duplicates = [
        f"- row {ROWS.index(outcome.row) + 1}: {', '.join(outcome.repeated)}\n"
        for outcome in outcomes
        if outcome.repeated
    ]
    text = head + "".join(lines) + _FOLDED
    if duplicates:
        text += "\nSteps done twice (trial, step):\n\n" + "".join(duplicates)
    return text


def main(argv: list[str] | None = None) -> int:
    """Run the rows and write the report; 1 if one is not as promised."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", help="numbers, such as 3,17; default all")
    parser.add_argument("--out", type=Path, default=RESULTS, help="default %(default)s")
    args = parser.parse_args(argv)
    numbers = [int(text) for text in args.rows.split(",")] if args.rows else range(1, len(ROWS) + 1)
    cluster = Cluster()
    outcomes: list[Outcome] = []
    cluster.up(ROWS[0].options)
    version = cluster.run_as_user(["sbatch", "--version"], check=True).stdout.split()[-1]
    try:
        with reachable_installation(cluster) as installation:
            for number in numbers:
                row = ROWS[number - 1]
                if cluster.options != row.options:
                    cluster.restart(row.options)
                folder = Path(tempfile.mkdtemp(dir=cluster.root / "users"))
                folder.chmod(0o755)
                shutil.chown(folder, USER, USER)
                began = time.monotonic()
                try:
                    outcome = run_row(User(cluster, folder, installation), row)
                except (TimeoutError, AssertionError) as error:
                    outcome = Outcome(row, remark=f"gave up: {str(error).splitlines()[0][:300]}")
                    print(error, flush=True)
                outcomes.append(outcome)
                verdict = "as promised" if outcome.is_as_promised else f"NOT as promised: {folder}"
                took_s = time.monotonic() - began
                print(
                    f"row {number} {row.name}: lost {outcome.worst_lost}, {outcome.states}, "
                    f"{outcome.ways}, {took_s:.0f} s: {verdict}: {outcome.remark}",
                    flush=True,
                )
                cluster.cancel_all()
                if outcome.is_as_promised:
                    shutil.rmtree(folder, ignore_errors=True)
    finally:
        if outcomes:
            args.out.write_text(render(outcomes, version))
        cluster.down()
    return 0 if all(outcome.is_as_promised for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
