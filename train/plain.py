"""The trial protocol in seventy lines, without any framework: fits y = 2x - 1 by gradient descent.

Try it: ``python train/plain.py --learning_rate=0.1``; by hand it prints its metrics. Copy from it:
install the handlers first, resume, report, checkpoint aside and rename, leave with code 75.
"""

import json
import os
import random
import sys
import time

try:
    from orchestrator.runtime import session
except ModuleNotFoundError:  # not installed: the project's root holds the package
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    from orchestrator.runtime import session

CHECKPOINT = os.path.join(session.checkpoint_dir() or ".", "plain.json")


def save(state):
    """Write the checkpoint so that a kill at any instant leaves the old one or the new one."""
    with open(CHECKPOINT + ".tmp", "w") as file:
        json.dump(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(CHECKPOINT + ".tmp", CHECKPOINT)


def main():
    """Train, and go on where an earlier attempt stopped."""
    session.install_signal_handlers()
    options = {"learning_rate": "0.1", "steps": "50", "step_s": "0"}
    options.update(argument.removeprefix("--").split("=") for argument in sys.argv[1:])
    learning_rate, steps = float(options["learning_rate"]), int(float(options["steps"]))

    state = {"step": 0, "slope": 0.0, "offset": 0.0}
    if os.path.exists(CHECKPOINT):
        with open(CHECKPOINT) as file:
            state = json.load(file)
    session.rewind(state["step"])  # forget what was reported after the checkpoint

    while state["step"] < steps:
        # Random numbers that depend on seed and step only: nothing else to restore.
        rng = random.Random(f"{session.seed()}-{state['step']}")
        points = [(x, 2 * x - 1) for x in (rng.uniform(-1, 1) for _ in range(16))]
        errors = [(x, state["slope"] * x + state["offset"] - y) for x, y in points]
        state["slope"] -= learning_rate * sum(2 * e * x for x, e in errors) / len(errors)
        state["offset"] -= learning_rate * sum(2 * e for _, e in errors) / len(errors)
        state["step"] += 1
        session.report(state["step"], loss=sum(e * e for _, e in errors) / len(errors))
        time.sleep(float(options["step_s"]))
        is_stopping = session.should_stop()  # asked once: what leaves has saved
        if is_stopping or session.checkpoint_due():
            began = time.monotonic()
            save(state)
            session.checkpoint_saved(time.monotonic() - began)
        if is_stopping:
            session.exit_for_requeue()
    session.report(slope=state["slope"], offset=state["offset"], steps=state["step"])


if __name__ == "__main__":
    main()
