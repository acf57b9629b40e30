"""What the two tasks that predict tokens share: loss over all labelled tokens, perplexity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arguments import ArgumentMistake
from evaluation import perplexity, sum_loss
from tasks import Task

if TYPE_CHECKING:
    import torch


class LanguageModelTask(Task):
    """Tokens predict tokens; see ``sft`` and ``causal_lm``."""

    architecture = "ForCausalLM"
    metrics = ("eval_loss", "eval_perplexity")
    can_pack = True

    def measure(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Sum the loss in nats, and the number of labelled tokens."""
        return sum_loss(logits, labels)

    def summarize(self, sums: torch.Tensor) -> dict[str, float]:
        """Return the mean loss over all labelled tokens, and its exponential.

        Raises:
            ArgumentMistake: There is no such token.
        """
        if not sums[1]:
            raise ArgumentMistake(
                "the evaluation data has no token to predict; give other --eval_data, or a larger "
                "--seq_len"
            )
        loss = float(sums[0] / sums[1])
        return {"eval_loss": loss, "eval_perplexity": perplexity(loss)}
