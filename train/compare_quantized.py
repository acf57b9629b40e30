"""Compares a checkpoint in several formats: ``python train/compare_quantized.py --checkpoint=DIR``.

For fp32, bf16, 8bit and 4bit: size, speed of evaluation and of generation, loss and perplexity over
the same held-out answers, and the difference to the first format; with
``--response_score_prompts=50`` also the response score. One table, and with ``--json`` one object.

Sizes are bytes of weights as they lie in memory, scales included; a file of them (safetensors) is
as large, but for its header. Speeds hold for this machine, this batch size and this moment; one
batch of each format is run before the clock starts. On a CPU quantised formats are mostly slower.

Runs wherever the checkpoint fits in fp32 (4 bytes a parameter). Exit codes: 0, 2 a mistake.
Not covered: several ranks, adapters that are not merged.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arguments import ArgumentMistake, Arguments, parse_arguments
from options.evaluation import QUANTIZED

try:
    import orchestrator.runtime  # noqa: F401
except ModuleNotFoundError:  # not installed: the project's root holds the package
    sys.path.append(str(Path(__file__).resolve().parent.parent))

if TYPE_CHECKING:
    from data import Data
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_MB = 1e6
# As ``quantized.FORMATS``, which needs torch.
_FORMATS = ("fp32", "bf16", *QUANTIZED)
# These of main.py's arguments mean the same here.
_SHARED = (
    "task",
    "data",
    "eval_data",
    "eval_fraction",
    "seq_len",
    "eval_batch_size",
    "response_score_prompts",
    "response_max_tokens",
)


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What to compare."""

    arguments: Arguments
    """Data and batch sizes; ``model`` is the checkpoint."""
    formats: tuple[str, ...]
    """In this order; the first is what the others are compared with."""
    device: str
    """Where."""
    generate_tokens: int
    """New tokens of each answer whose speed is measured."""
    json_file: str
    """Where the result goes, too; empty: nowhere; ``-``: it is printed instead of the table."""


def main(argv: Sequence[str]) -> int:
    """Run the comparison and return the exit code."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        found = compare(parse(argv))
    except ArgumentMistake as error:
        sys.stderr.write(f"train/compare_quantized.py: {error}\n")
        return 2
    return 0 if found else 2


def parse(argv: Sequence[str]) -> Wanted:
    """Read the command line.

    Raises:
        ArgumentMistake: It cannot be used.
        SystemExit: ``--help``.
    """
    parser = _Parser(prog="train/compare_quantized.py", allow_abbrev=False, description=_ABOUT)
    parser.add_argument("--checkpoint", required=True, metavar="DIR")
    parser.add_argument("--formats", default="fp32,bf16,8bit,4bit", metavar="A,B")
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda")
    parser.add_argument("--generate_tokens", type=int, default=32, metavar="N")
    parser.add_argument("--json", default="", metavar="FILE|-")
    defaults = Arguments()
    for name in _SHARED:
        parser.add_argument(f"--{name}", default=str(getattr(defaults, name)), metavar="X")
    given = parser.parse_args(list(argv))
    formats = tuple(dict.fromkeys(name for name in given.formats.split(",") if name))
    if not formats or not set(formats) <= set(_FORMATS):
        raise ArgumentMistake(f"--formats={given.formats}: allowed are {', '.join(_FORMATS)}")
    _refuse_unwritable(given.json)
    shared = [f"--{name}={getattr(given, name)}" for name in _SHARED]
    arguments = parse_arguments([f"--model={_model_directory(given.checkpoint)}", *shared])
    if given.generate_tokens < 1:
        raise ArgumentMistake(f"--generate_tokens={given.generate_tokens}: use at least 1")
    return Wanted(arguments, formats, given.device, given.generate_tokens, given.json)


def _refuse_unwritable(path: str) -> None:
    """Refuse a place for the result where no file can be written: before all is measured."""
    if not path or path == "-":
        return
    folder = os.path.dirname(os.path.abspath(path))
    target = path if os.path.lexists(path) else folder
    if os.path.isdir(path) or not os.path.isdir(folder) or not os.access(target, os.W_OK):
        raise ArgumentMistake(f"--json={path}: no file can be written there; name another")


_ABOUT = "Compare a checkpoint in several formats: size, speed, quality. See train/README.md."


class _Parser(argparse.ArgumentParser):
    """Reports a mistake in one line instead of usage and exit."""

    def error(self, message: str) -> Any:
        raise ArgumentMistake(message)


def _model_directory(path: str) -> str:
    """Find the model: a directory of one, or a trial's checkpoints, of which the newest is taken.

    Raises:
        ArgumentMistake: There is none.
    """
    from checkpoints import find_newest  # lazy: --help needs no disk

    if os.path.isfile(os.path.join(path, "config.json")):
        return path
    if os.path.isfile(os.path.join(path, "adapter_config.json")):
        raise ArgumentMistake(f"--checkpoint={path}: an adapter alone; merge it into its model")
    found = find_newest(Path(path)) if os.path.isdir(path) else None
    if found is None:
        raise ArgumentMistake(
            f"--checkpoint={path}: neither a model's directory nor one of complete checkpoints"
        )
    return _model_directory(str(found[0]))


def compare(wanted: Wanted) -> dict[str, Any]:
    """Measure all formats, print the table, write the JSON, and return it.

    Raises:
        ArgumentMistake: A format or device that cannot be used here.
    """
    # Slow imports: only once the arguments are checked.
    import torch
    from data import load_data
    from models import build_model
    from quantized import convert, explain_unusable
    from transformers.utils import logging

    logging.disable_progress_bar()
    has_gpu = torch.cuda.is_available()
    device = wanted.device if wanted.device != "auto" else "cuda" if has_gpu else "cpu"
    if device != "cpu" and not (device.startswith("cuda") and has_gpu):
        raise ArgumentMistake(f"--device={device}: not here; use cpu")
    for name in wanted.formats:
        if why := explain_unusable(name, device):
            raise ArgumentMistake(f"--formats={name}: {why}")
    data = load_data(wanted.arguments)
    original = build_model(wanted.arguments, data).eval().to(device)
    bench = _Bench(wanted, data, device)
    rows: list[dict[str, Any]] = []
    for name in wanted.formats:
        row = {"format": name, **bench.measure(convert(original, name))}
        rows.append(row | _differences(row, rows[0] if rows else row))
    found = {
        "checkpoint": wanted.arguments.model,
        "data": wanted.arguments.eval_data or wanted.arguments.data,
        "dialogues": len(data.eval),
        "eval_batch_size": wanted.arguments.eval_batch_size,
        "device": torch.cuda.get_device_name() if device != "cpu" else "cpu",
        "threads": torch.get_num_threads(),
        "versions": _versions(),
        "formats": rows,
    }
    if wanted.json_file and wanted.json_file != "-":
        Path(wanted.json_file).write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found) if wanted.json_file == "-" else format_table(found))
    return found


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("torch", "transformers", "bitsandbytes"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _differences(row: dict[str, Any], first: dict[str, Any]) -> dict[str, float]:
    found = {
        "size_ratio": row["size_mb"] / first["size_mb"],
        "eval_loss_difference": row["eval_loss"] - first["eval_loss"],
        "eval_speed_ratio": row["eval_tokens_per_second"] / first["eval_tokens_per_second"],
    }
    if speed := "generated_tokens_per_second" in row and row["generated_tokens_per_second"]:
        found["generation_speed_ratio"] = speed / first["generated_tokens_per_second"]
    return found


class _Bench:
    """Measures one model after the other on the same data."""

    def __init__(self, wanted: Wanted, data: Data, device: str):
        import scoring
        import tokenizer as tokenizers_
        from prompts import held_out_prompts

        self.wanted, self.data, self.device = wanted, data, device
        self.arguments = wanted.arguments
        self.tokenizer: PreTrainedTokenizerBase = tokenizers_.load_tokenizer(data.tokenizer_dir)
        self.questions: list[scoring.Question] = []
        if self.arguments.task == "sft":  # else there is nothing to answer
            n_prompts = max(8, self.arguments.response_score_prompts)
            self.questions = scoring.encode_prompts(
                held_out_prompts(self.arguments, n_prompts),
                self.tokenizer,
                max_new_tokens=self.arguments.response_max_tokens,
            )

    def measure(self, model: PreTrainedModel) -> dict[str, float]:
        """Return size, quality and speeds of a model."""
        from quantized import weight_bytes

        size = weight_bytes(model)  # before use: kernels may lay weights out anew
        self._evaluate(model, first_batch_only=True)
        metrics, seconds = self._evaluate(model)
        n_tokens = int(self.data.eval.lengths().sum())
        found = {"size_mb": size / _MB, **metrics, "eval_tokens_per_second": n_tokens / seconds}
        if self.questions:
            self._generate(model, 2)
            n_made, generate_s = self._generate(model, self.wanted.generate_tokens)
            found["generated_tokens_per_second"] = n_made / generate_s
        if self.arguments.response_score_prompts:
            found.update(self._score(model))
        return found

    def _evaluate(
        self, model: PreTrainedModel, *, first_batch_only: bool = False
    ) -> tuple[dict[str, float], float]:
        from batches import Examples
        from evaluation import evaluate

        examples = self.data.eval
        if first_batch_only:
            n = min(len(examples), self.arguments.eval_batch_size)
            examples = Examples(examples.ids, examples.labels, examples.starts[: n + 1])
        began = self._now()
        metrics = evaluate(
            self.data.task,
            model,
            examples,
            batch_size=self.arguments.eval_batch_size,
            pad_id=self.data.pad_id,
            device=self.device,
        )
        return metrics, self._now() - began

    def _generate(self, model: PreTrainedModel, n_tokens: int) -> tuple[int, float]:
        """Generate exactly ``n_tokens`` for each of up to a batch of prompts."""
        import scoring
        import torch

        batch = self.questions[: self.arguments.eval_batch_size]
        pad_id: Any = self.tokenizer.pad_token_id
        input_ids, attention_mask = scoring.pad_left(batch, pad_id)
        began = self._now()
        with torch.no_grad(), scoring.greedy(model, self.tokenizer, ()):
            made = model.generate(
                input_ids=input_ids.to(self.device),
                attention_mask=attention_mask.to(self.device),
                max_new_tokens=n_tokens,
                min_new_tokens=n_tokens,
            )
        seconds = self._now() - began
        return len(batch) * (made.shape[1] - input_ids.shape[1]), seconds

    def _score(self, model: PreTrainedModel) -> dict[str, float]:
        import scoring

        rows = scoring.score_responses(
            model,
            self.tokenizer,
            self.questions[: self.arguments.response_score_prompts],
            {},
            batch_size=self.arguments.eval_batch_size,
        )
        return scoring.summarize(rows)

    def _now(self) -> float:
        import torch

        if self.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter()


_LINES = (
    ("", "format", "{}"),
    ("size MB", "size_mb", "{:.4g}"),
    ("  ratio", "size_ratio", "{:.1%}"),
    ("loss", "eval_loss", "{:.5f}"),
    ("  difference", "eval_loss_difference", "{:+.5f}"),
    ("perplexity", "eval_perplexity", "{:.5g}"),
    ("accuracy", "eval_accuracy", "{:.2%}"),
    ("evaluated tokens/s", "eval_tokens_per_second", "{:.4g}"),
    ("  ratio", "eval_speed_ratio", "{:.2f}x"),
    ("generated tokens/s", "generated_tokens_per_second", "{:.4g}"),
    ("  ratio", "generation_speed_ratio", "{:.2f}x"),
    ("response score", "response_score", "{:.2f}"),
)


def format_table(found: dict[str, Any]) -> str:
    """Lay the result out as a table that fits a terminal: a column for each format."""
    rows = found["formats"]
    lines = [
        f"{found['checkpoint']} on {found['device']}",
        f"{found['dialogues']} held-out dialogues, batches of {found['eval_batch_size']}; "
        f"against {rows[0]['format']}",
    ]
    for title, name, spell in _LINES:
        if name in rows[0]:  # a classifier generates nothing, a score is taken if asked for
            cells = (spell.format(row[name]).rjust(11) for row in rows)
            lines.append(f"{title:18}{''.join(cells)}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
