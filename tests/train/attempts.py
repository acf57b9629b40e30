"""Runs the attempts of a trial in this process, preempted at a chosen step."""

import main
import pytest
import torch
from arguments import parse_arguments
from trainer import TrialTrainer

from orchestrator.runtime import session


def run_attempt(trial, preempt_at=None):
    """Run the next attempt; it is told to stop at the end of step ``preempt_at``.

    Returns:
        The exit code.
    """
    trial.attempt += 1
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        for key, value in {**trial.environ, "TRIAL_ATTEMPT": str(trial.attempt)}.items():
            patch.setenv(key, value)
        if preempt_at is not None:
            _preempt(patch, preempt_at)
        try:
            main._train(main._complete(parse_arguments(trial.command())))
        except SystemExit as left:
            return left.code or 0
        finally:
            torch.set_num_threads(threads)
    return 0


def _preempt(patch, at):
    agree = TrialTrainer.agree

    def agree_and_note(self, step):
        if step >= at:
            patch.setattr(session, "should_stop", lambda: True)
        return agree(self, step)

    patch.setattr(TrialTrainer, "agree", agree_and_note)


def run_preempted(trial, *steps):
    """Run a trial to its end, preempted at these steps."""
    for step in steps:
        assert run_attempt(trial, preempt_at=step) == 75
        assert trial.steps_saved()[-1] == step
    assert run_attempt(trial) == 0
    return trial
