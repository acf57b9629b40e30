"""The trial of the storm: counts, saves every tenth step, and writes down what it really did.

Each execution has a ledger of its own, ``<trial>.<attempt>.<pid>``, so that no copy can hide: the
ledgers, and not the orchestrator's records, are what the storm is judged by.
"""

import os
import time

from orchestrator.runtime import session

SAVE_EVERY = 10

session.install_signal_handlers()
n_steps, step_s = int(os.environ["STEPS"]), float(os.environ["STEP_S"])
state = f"{session.checkpoint_dir()}/step"
name = os.path.basename(os.environ["TRIAL_DIR"])
ledger = open(  # noqa: SIM115  (until the end)
    f"{os.environ['LEDGER']}/{name}.{session.attempt()}.{os.getpid()}", "w", buffering=1
)


def save(step):
    """Save aside, then rename: complete or invisible."""
    with open(f"{state}.tmp", "w") as file:
        file.write(str(step))
    os.rename(f"{state}.tmp", state)


step = 0
if os.path.exists(state):
    with open(state) as file:
        step = int(file.read())
session.rewind(step)
ledger.write(f"start {time.time()} {step}\n")
while step < n_steps:
    time.sleep(step_s)
    step += 1
    ledger.write(f"step {time.time()} {step}\n")
    session.report(step, loss=1.0 / step)
    if session.should_stop() or step % SAVE_EVERY == 0:
        save(step)
    if session.should_stop():
        ledger.write(f"left {time.time()} {step}\n")
        session.exit_for_requeue()
ledger.write(f"end {time.time()} {step}\n")
