"""Preempted anywhere, every optimizer with every schedule ends bit by bit as if it had not been."""

import io
import itertools
import shutil
import types

import pytest
import torch
from optimizers import build_optimizer
from optimizing import WeightDecayCallback, follow_lr_schedule, make_lr_schedule
from options.optimizer import (
    LR_SCHEDULES,
    OPTIMIZERS,
    WEIGHT_DECAY_SCHEDULES,
    OptimizerOptions,
)
from parameter_groups import holds_matrices

N_STEPS, WARMUP_STEPS = 9, 2


class Training:
    """A model with all kinds of parts, trained on noise that depends on the step alone."""

    def __init__(self, options):
        torch.manual_seed(0)
        self.model = torch.nn.ModuleDict(
            {
                "embed_tokens": torch.nn.Embedding(5, 4),
                "layers": torch.nn.ModuleList([torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)]),
                "norm": torch.nn.LayerNorm(4),
                "lm_head": torch.nn.Linear(4, 5, bias=False),
            }
        )
        self.optimizer = build_optimizer(options, self.model)
        decaying = [holds_matrices(group) for group in self.optimizer.param_groups]
        self.callback = WeightDecayCallback(options, decaying)
        schedule = make_lr_schedule(options, WARMUP_STEPS, N_STEPS)
        self.lr_schedule = follow_lr_schedule(self.optimizer, schedule)
        self.seen = []

    def train(self, steps):
        for step in steps:
            state = types.SimpleNamespace(global_step=step, max_steps=N_STEPS)
            self.callback.on_step_begin(None, state, None, optimizer=self.optimizer)
            generator = torch.Generator().manual_seed(step)
            for parameter in self.model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            groups = self.optimizer.param_groups
            self.seen.append([(group["lr"], group["weight_decay"]) for group in groups])
            self.optimizer.step()
            self.lr_schedule.step()
        return self

    def saved(self):
        file = io.BytesIO()
        states = [part.state_dict() for part in (self.model, self.optimizer, self.lr_schedule)]
        torch.save(states, file)
        file.seek(0)
        return file

    def load(self, file):
        states = torch.load(file, weights_only=True)
        parts = (self.model, self.optimizer, self.lr_schedule)
        for part, state in zip(parts, states, strict=True):
            part.load_state_dict(state)
        return self


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("lr_schedule", LR_SCHEDULES)
@pytest.mark.parametrize("weight_decay_schedule", WEIGHT_DECAY_SCHEDULES)
def test_resumed_training_is_the_uninterrupted_one(optimizer, lr_schedule, weight_decay_schedule):
    options = OptimizerOptions(
        optimizer=optimizer,
        lr_schedule=lr_schedule,
        weight_decay_schedule=weight_decay_schedule,
        final_weight_decay=0.1,
        min_lr_ratio=0.1,
        decay_ratio=0.5,
        learning_rate=0.01,
        embedding_lr_ratio=0.5,
        head_lr_ratio=2.0,
        layer_lr_decay=0.9,
    )
    whole = Training(options).train(range(N_STEPS))
    assert len({tuple(seen) for seen in whole.seen}) > 2  # something is scheduled
    for stop in (1, 4, 8):
        first = Training(options).train(range(stop))
        second = Training(options).load(first.saved()).train(range(stop, N_STEPS))
        assert first.seen + second.seen == whole.seen
        for mine, theirs in zip(second.model.parameters(), whole.model.parameters(), strict=True):
            assert torch.equal(mine, theirs)


SCHEDULES = (
    {"lr_schedule": "cosine_with_restarts", "weight_decay_schedule": "linear"},
    {"lr_schedule": "wsd", "decay_ratio": 0.5, "weight_decay_schedule": "cosine"},
    {"lr_schedule": "exponential", "min_lr_ratio": 0.1, "weight_decay_schedule": "linear"},
    {"lr_schedule": "polynomial", "weight_decay_schedule": "cosine"},
)


@pytest.mark.train
@pytest.mark.parametrize(
    ("optimizer", "schedules"), list(zip(OPTIMIZERS, itertools.cycle(SCHEDULES), strict=False))
)
def test_resumed_trial_is_the_uninterrupted_one(train_here, optimizer, schedules):
    import main
    from arguments import parse_arguments

    whole = train_here(
        "trial",
        optimizer=optimizer,
        **schedules,
        final_weight_decay=0.1,
        layer_lr_decay=0.9,
        warmup_ratio=0.25,
        warmup_steps=-1,
        max_steps=8,
        save_steps=5,
        logging_steps=1,
    )
    assert whole.steps_saved() == [5, 8]
    weights, curve = whole.weights(), whole.curve()
    assert len({line["current_learning_rate"] for line in curve if "grad_norm" in line}) > 4
    shutil.rmtree(whole.checkpoints / "checkpoint-8")
    threads = torch.get_num_threads()
    try:
        main._train(main._complete(parse_arguments(whole.command())))
    finally:
        torch.set_num_threads(threads)
    assert whole.steps_saved() == [5, 8]
    assert whole.curve() == curve
    assert whole.weights() == weights
