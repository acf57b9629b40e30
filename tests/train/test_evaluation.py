"""The perplexity is that of all answer tokens, not a mean over batches."""

import math
import types

import evaluation
import pytest
import torch
from arguments import ArgumentMistake
from batches import Examples


class Always(torch.nn.Module):
    """Predicts token 1 with probability 0.7, token 2 with 0.2, others share the rest."""

    def forward(self, input_ids, attention_mask):
        scores = torch.full((*input_ids.shape, 4), 0.05).log()
        scores[..., 1], scores[..., 2] = math.log(0.7), math.log(0.2)
        return types.SimpleNamespace(logits=scores)


# Answers: one token; five tokens; two tokens. The first token can never be predicted.
EXAMPLES = Examples.from_pairs(
    [
        ([3, 1], [-100, 1]),
        ([3, 3, 2, 2, 2, 2, 1], [-100, -100, 2, 2, 2, 2, 1]),
        ([3, 1, 3, 1], [-100, 1, -100, 1]),
    ]
)
BY_HAND = -(4 * math.log(0.7) + 4 * math.log(0.2)) / 8


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_loss_by_hand(batch_size):
    loss = evaluation.evaluate_answers(Always(), EXAMPLES, batch_size=batch_size, pad_id=0)
    assert loss == pytest.approx(BY_HAND, abs=1e-7)
    mean_of_examples = -(math.log(0.7) * (1 + 0.2 + 1) + math.log(0.2) * 0.8) / 3
    assert abs(loss - mean_of_examples) > 0.1


def test_no_token_to_evaluate_is_refused():
    nothing = Examples.from_pairs([([3, 1], [3, -100])])
    with pytest.raises(ArgumentMistake, match="the evaluation data has no token to predict"):
        evaluation.evaluate_answers(Always(), nothing, batch_size=1, pad_id=0)


def test_no_random_number_is_drawn():
    before = torch.get_rng_state()
    evaluation.evaluate_answers(Always(), EXAMPLES, batch_size=1, pad_id=0)
    assert torch.equal(before, torch.get_rng_state())


def test_stop_is_asked_before_each_batch():
    answers = iter([False, True])
    with pytest.raises(evaluation.EvaluationStopped):
        evaluation.evaluate_answers(
            Always(), EXAMPLES, batch_size=1, pad_id=0, should_stop=lambda: next(answers)
        )


def test_perplexity_at_the_edges():
    assert evaluation.perplexity(0.0) == 1.0
    assert evaluation.perplexity(1e4) == math.inf
    assert math.isnan(evaluation.perplexity(math.nan))
