"""What is measured once, with the trained weights: the response score, quantised copies.

Called by ``reporting.ReportingTrainer.report_end`` on every rank. The training is over and saved:
an attempt that is stopped here leaves, and the next one, which finds no step left to do, goes on
with what is missing. None of it counts as training time.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import torch
from options.evaluation import quantized_formats

if TYPE_CHECKING:
    from trainer import TrialTrainer


def evaluate_finally(trainer: TrialTrainer) -> dict[str, float]:
    """Return the metrics of what was asked for; every rank must call it.

    Raises:
        EvaluationStopped: A preemption; the next attempt makes up for it.
    """
    found: dict[str, float] = {}
    if trainer.arguments.response_score_prompts:
        found.update(_score(trainer))
    if formats := quantized_formats(trainer.arguments):
        found.update(_quantize(trainer, formats))
    return found


def _score(trainer: TrialTrainer) -> dict[str, float]:
    # Lazy: most trials score no responses.
    import responses
    import scoring
    import tokenizer as tokenizers_
    from prompts import held_out_prompts

    arguments, args = trainer.arguments, trainer.args
    is_first = trainer.is_world_process_zero()
    path = responses.place(arguments.output_dir)
    model: Any = trainer.model
    author = {"step": trainer.weights_step, "weights": scoring.fingerprint(model)}
    prompts, done = None, None
    if is_first:
        # Rank 0 alone: another may see an older state of the file system.
        prompts = held_out_prompts(arguments, arguments.response_score_prompts)
        done = responses.read_done(path, author)
    author, prompts, done = _from_first([author, prompts, done], args.world_size)
    tokenizer = tokenizers_.load_tokenizer(trainer.data.tokenizer_dir)
    questions = scoring.encode_prompts(
        prompts,
        tokenizer,
        context=getattr(model.config, "max_position_embeddings", None),
        max_new_tokens=arguments.response_max_tokens,
    )
    wanted = {question.prompt.id for question in questions}
    done = {id_: row for id_, row in done.items() if id_ in wanted}
    if is_first:
        _say_what_is_missing(arguments.response_score_prompts, len(prompts), len(questions))
        if len(done) < len(wanted):
            responses.start_part(path, done.values())
    rows = scoring.score_responses(
        model,
        tokenizer,
        questions,
        author,
        batch_size=args.per_device_eval_batch_size,
        ranks=scoring.Ranks(args.process_index, args.world_size, trainer.zero_stage() == 3),
        done=done,
        on_rows=lambda fresh: responses.append_part(path, fresh) if is_first else None,
        should_stop=lambda: trainer.agree(trainer.state.global_step),
    )
    if is_first:
        responses.finish(path, rows)
    return scoring.summarize(rows)


def _quantize(trainer: TrialTrainer, formats: list[str]) -> dict[str, float]:
    """Evaluate copies in fewer bits, on each rank its share; stopped, it is done again."""
    # Lazy, as above.
    from evaluation import evaluate
    from quantized import convert, merged, weight_bytes

    args = trainer.args
    found: dict[str, float] = {}
    for name in formats:
        with merged(trainer.model) as model:
            found["model_size_mb"] = weight_bytes(model) / 1e6
            copy = convert(model, name)
        found[f"model_size_mb_{name}"] = weight_bytes(copy) / 1e6
        metrics = evaluate(
            trainer.data.task,
            copy,
            trainer.data.eval,
            batch_size=args.per_device_eval_batch_size,
            pad_id=trainer.data.pad_id,
            device=args.device,
            rank=args.process_index,
            world_size=args.world_size,
            should_stop=lambda: trainer.agree(trainer.state.global_step),
        )
        found.update({f"{metric}_{name}": value for metric, value in metrics.items()})
        del copy
    return found


def _from_first(values: list[Any], world_size: int) -> list[Any]:
    if world_size > 1:
        torch.distributed.broadcast_object_list(values)
    return values


def _say_what_is_missing(n_asked: int, n_there: int, n_used: int) -> None:
    if n_there < n_asked:
        sys.stderr.write(f"response score: {n_there} held-out prompts, not {n_asked}\n")
    if n_used < n_there:
        sys.stderr.write(
            f"response score: {n_there - n_used} of {n_there} prompts do not fit the model with "
            "their answers and are left out\n"
        )
