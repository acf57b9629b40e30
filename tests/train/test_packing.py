"""Packing and accumulation: the same gradients however an effective batch is laid out."""

import numpy as np
import packing
import pytest
import torch
from arguments import ArgumentMistake, Arguments, refuse_mistakes
from machine import Machine
from tokenizer import IGNORED


def examples(*lengths):
    return [
        {
            "input_ids": np.arange(100 * i, 100 * i + n, dtype=np.int32),
            "labels": np.arange(100 * i, 100 * i + n, dtype=np.int32),
        }
        for i, n in enumerate(lengths, start=1)
    ]


@pytest.mark.parametrize(
    ("lengths", "row_length", "rows"),
    [
        ([5, 3, 4, 4], 8, [[0, 1], [2, 3]]),
        ([4, 4, 4], 8, [[0, 1], [2]]),
        ([9, 1], 8, [[0], [1]]),  # too long for a row: alone, not cut
        ([3, 2, 9], None, [[0, 1, 2]]),
        ([8], 8, [[0]]),
    ],
)
def test_pack_rows_fits_first_the_longest(lengths, row_length, rows):
    assert packing.pack_rows(lengths, row_length) == rows


def test_collate_packed_restarts_positions_and_hides_first_labels():
    batch = packing.collate_packed(examples(3, 2), pad_id=0, row_length=6)
    assert batch["input_ids"].tolist() == [[100, 101, 102, 200, 201, 0, 0, 0]]
    no = IGNORED
    assert batch["labels"].tolist() == [[no, 101, 102, no, 201, no, no, no]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 1, 2]]
    assert packing.count_tokens(batch) == 5
    assert batch.keys() == {"input_ids", "labels", "position_ids"}


def test_collate_packed_without_row_length_does_not_pad():
    batch = packing.collate_packed(examples(3, 2), pad_id=0, row_length=None)
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1]]


def test_packing_of_single_sequences_is_refused():
    with pytest.raises(ArgumentMistake, match="packing=true: a micro-batch of 1"):
        refuse_mistakes(Arguments(packing=True, micro_batch_size=1), Machine())


@pytest.fixture
def first_gradients(train_here, monkeypatch):
    """Train one step; returns its gradients by name, and the answer tokens of its micro-batches."""
    import trainer as trainers
    from callbacks import TrialCallback

    def run(name, **arguments):
        gradients, counts = {}, []
        step = trainers.TrialTrainer.training_step

        def note_counts(self, model, inputs, *args, **kwargs):
            counts.append(int((inputs["labels"] != IGNORED).sum()))
            return step(self, model, inputs, *args, **kwargs)

        def note_gradients(self, args, state, control, model=None, **kwargs):
            gradients.update((n, p.grad.clone()) for n, p in model.named_parameters())

        with monkeypatch.context() as patch:
            patch.setattr(trainers.TrialTrainer, "training_step", note_counts)
            patch.setattr(TrialCallback, "on_pre_optimizer_step", note_gradients)
            trial = train_here(name, max_steps=1, max_grad_norm=0, seq_len=64, **arguments)
        return gradients, counts, trial.last()

    return run


@pytest.mark.train
@pytest.mark.parametrize("model", ["tiny-deepseek", "tiny-llama"])
def test_accumulated_and_packed_gradients_are_those_of_one_batch(first_gradients, model):
    whole, (n_tokens,), one = first_gradients("whole", model=model)
    layouts = {
        "accumulated": {"gradient_accumulation_steps": 4},
        "packed": {"packing": "true", "gradient_accumulation_steps": 2},
    }
    for name, arguments in layouts.items():
        parts, counts, other = first_gradients(name, model=model, **arguments)
        assert sum(counts) == n_tokens
        assert len(set(counts)) > 1  # uneven: a mean of means would differ
        assert other["train_loss"] == pytest.approx(one["train_loss"], rel=1e-6)
        assert other["eval_loss"] == pytest.approx(one["eval_loss"], rel=1e-5)
        assert parts.keys() == whole.keys()
        for key, gradient in whole.items():
            torch.testing.assert_close(parts[key], gradient, atol=1e-6, rtol=0)
