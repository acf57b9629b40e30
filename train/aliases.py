"""Names that other programs give to our arguments: each is translated, or refused with the reason.

Those of ``transformers.TrainingArguments`` and of the example scripts of transformers, in versions
4.20 to 5.23, so that a command line written for them runs as it stands:

    train/main.py --model_name_or_path org/name --per_device_train_batch_size 8 --optim lamb --bf16

Our own names come first: a name stands here for nothing where an argument is called so. Standard
library only; it reads no file but that of ``--deepspeed``. Not covered: ``.json`` and ``.yaml``
files in place of arguments.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence

from deepspeed_config import model_ranks

_MAIN_ALIASES = {
    "activation_checkpointing": "gradient_checkpointing",
    "attn_implementation": "attention",
    "block_size": "seq_len",
    "dataset_name": "data",
    "dataset_path": "data",
    "lr_scheduler_type": "lr_schedule",
    "max_length": "seq_len",
    "max_seq_length": "seq_len",
    "max_seq_len": "seq_len",
    "model_max_length": "seq_len",
    "model_name": "model",
    "model_name_or_path": "model",
    "num_train_epochs": "epochs",
    "optim": "optimizer",
    "per_device_eval_batch_size": "eval_batch_size",
    "per_gpu_eval_batch_size": "eval_batch_size",
    "save_total_limit": "keep_checkpoints",
    "torch_compile": "compile",
    "train_file": "data",
    "validation_file": "eval_data",
}
_PER_DEVICE = ("per_device_train_batch_size", "per_gpu_train_batch_size")
_PRECISIONS = ("bf16", "fp16", "tf32")
_STRATEGIES = {
    "eval_strategy": "eval_steps",
    "evaluation_strategy": "eval_steps",
    "logging_strategy": "logging_steps",
    "save_strategy": "save_steps",
}
# What means nothing here: accepted, and the reason is said once.
_NEEDLESS = {
    "cache_dir": "nothing is downloaded",
    "data_seed": "the order of the data follows --seed",
    "dataloader_num_workers": "batches are made while the step before runs",
    "dataloader_pin_memory": "it is pinned where there is a GPU",
    "ddp_backend": "nccl on GPUs, gloo without",
    "ddp_find_unused_parameters": "all parameters are used",
    "ddp_timeout": "as torch has it",
    "disable_tqdm": "there are no progress bars",
    "do_eval": "it always evaluates",
    "do_train": "it always trains",
    "greater_is_better": "see --early_stopping_goal",
    "hub_strategy": "nothing is uploaded",
    "ignore_data_skip": "it goes on at the next example",
    "log_level": "there is one",
    "logging_dir": "curves go to the trial's directory",
    "logging_first_step": "see --logging_steps",
    "metric_for_best_model": "see --early_stopping_metric",
    "overwrite_cache": "the cache knows its data by their content",
    "overwrite_output_dir": "a training goes on from its own checkpoints and spoils no other's",
    "preprocessing_num_workers": "encoding takes what CPUs there are",
    "prediction_loss_only": "losses are what is evaluated",
    "remove_unused_columns": "batches have what the model takes",
    "report_to": "see the trial's metrics, and --tensorboard",
    "resume_from_checkpoint": "it resumes by itself, from the newest complete one",
    "run_name": "the trial has a name",
    "save_safetensors": "it always does",
    "skip_memory_metrics": "measuring it costs nothing",
    "use_cpu": "it uses the GPUs that it is given",
    "no_cuda": "it uses the GPUs that it is given",
    "use_fast_tokenizer": "it always does",
}
# What would train something else than the line says, unless it has this value.
_REFUSED = {
    "adafactor": ("false", "use --optimizer=adafactor"),
    "auto_find_batch_size": (
        "false",
        "a trial that runs out of CUDA memory runs again with half the micro-batch by itself",
    ),
    "dataset_config_name": (
        "",
        "save that part with save_to_disk, and name its directory",
    ),
    "do_predict": ("false", "it trains and evaluates only"),
    "fsdp": ("", "use --deepspeed with ZeRO 2 or 3"),
    "fsdp_config": ("", "use --deepspeed with ZeRO 2 or 3"),
    "group_by_length": ("false", "the order of the examples is random, the same for every split"),
    "hub_token": ("", "nothing is uploaded; take the secret off the command line"),
    "label_smoothing_factor": ("0", "the loss is the plain cross-entropy, so perplexities compare"),
    "load_best_model_at_end": ("false", "use --load_best=true"),
    "load_in_4bit": ("false", "use --finetuning=qlora"),
    "load_in_8bit": ("false", "use --finetuning=qlora, whose base has 4 bits"),
    "max_eval_samples": ("", "use --eval_data or --eval_fraction"),
    "max_train_samples": ("", "use --max_train_examples, which chooses them by content"),
    "model_revision": ("main", "name the directory of that revision with --model"),
    "neftune_noise_alpha": ("", "there is no such noise here"),
    "push_to_hub": ("false", "nothing is uploaded"),
    "sharded_ddp": ("", "use --deepspeed with ZeRO 2 or 3"),
    "trust_remote_code": ("false", "no code of a model's repository is run"),
    "use_auth_token": ("false", "nothing is downloaded"),
}
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")


class AliasMistake(Exception):
    """What cannot be translated, in one line."""


@dataclasses.dataclass(frozen=True)
class Translation:
    """A command line in our own names."""

    words: tuple[str, ...]
    """What ``main.py`` understands."""
    notes: tuple[str, ...]
    """What was not taken word by word, for people."""


def translate(argv: Sequence[str], fields: Mapping[str, str], world_size: int) -> Translation:
    """Translate a command line; our own names and what nobody knows pass unchanged.

    Args:
        argv: The words.
        fields: Our arguments, and the name of each one's type.
        world_size: Ranks, for what counts per device.

    Raises:
        AliasMistake: A name that is refused, or two that contradict one another.
    """
    return _Translator(fields, world_size).run(argv)


class _Translator:
    """Translates one command line."""

    def __init__(self, fields: Mapping[str, str], world_size: int):
        self.fields, self.world_size = fields, world_size
        self.words: list[str] = []
        self.notes: list[str] = []
        self.typed: dict[str, str] = {}  # our argument -> the name that was typed
        self.per_device: tuple[str, str] | None = None
        self.precisions: dict[str, bool] = {}
        self.needless: list[str] = []
        self.never: list[str] = []

    def run(self, argv: Sequence[str]) -> Translation:
        at = 0
        while at < len(argv):
            word = argv[at]
            at += 1
            name, equals, value = word.partition("=")
            name = self._known_name(name)
            if not name:
                self.words.append(word)
                continue
            given: str | None = value if equals else None
            if not equals and at < len(argv) and not argv[at].startswith("--"):
                given = argv[at]
                at += 1
            self._take(name, given)
        self._finish()
        return Translation(tuple(self.words), tuple(self.notes))

    def _known_name(self, option: str) -> str:
        """Return an option's name, empty for a word that is no option of anybody's."""
        if not option.startswith("--"):
            return ""
        name = option[2:].replace("-", "_")
        return name if name in self.fields or is_alias(name) else ""

    def _take(self, name: str, value: str | None) -> None:
        if name in self.fields:
            self._add(name, value, name)
        elif name in _PER_DEVICE:
            self.per_device = (name, value or "")
        elif name in _PRECISIONS:
            self.precisions[name] = self._truth(name, value)
        elif name in _STRATEGIES:
            self._take_strategy(name, value or "")
        elif name in _MAIN_ALIASES:
            self._take_alias(name, value)
        elif name in _REFUSED:
            harmless, reason = _REFUSED[name]
            is_number = harmless == "0" and _is_zero(value)
            if (value or "true").lower() not in (harmless, "none", "null", "") and not is_number:
                raise AliasMistake(f"--{name}={value or 'true'}: {reason}")
        elif name != "local_rank":  # a launcher adds it, and sets LOCAL_RANK too
            self.needless.append(f"--{name} ({_NEEDLESS[name]})")

    def _add(self, field: str, value: str | None, name: str) -> None:
        """Take an argument of ours, however it was typed."""
        if field in self.typed and self.typed[field] != name:
            raise AliasMistake(f"--{self.typed[field]} and --{name}: they are the same; give one")
        self.typed[field] = name
        if value is None:
            # A flag, as transformers has them; else argparse says that a value is missing.
            value = "true" if self.fields[field] == "bool" else None
        self.words.append(f"--{field}" if value is None else f"--{field}={value}")

    def _take_alias(self, name: str, value: str | None) -> None:
        field = _MAIN_ALIASES[name]
        if field not in self.fields:
            raise AliasMistake(f"--{name}: not in this program")
        if name == "save_total_limit" and value == "1":
            self.notes.append("--save_total_limit=1: two are kept, as a kill may spoil one")
            value = "2"
        self._add(field, value, name)

    def _take_strategy(self, name: str, value: str) -> None:
        field = _STRATEGIES[name]
        if value == "no" and field != "logging_steps":
            self.never.append(field)
        elif value not in ("steps", "no"):
            raise AliasMistake(f"--{name}={value}: use steps, and --{field}")

    def _truth(self, name: str, value: str | None) -> bool:
        text = (value or "true").lower()
        if text not in (*_TRUE, *_FALSE):
            raise AliasMistake(f"--{name}={value}: use true or false")
        return text in _TRUE

    def _finish(self) -> None:
        """Translate what depends on several words."""
        chosen = [name for name, is_on in self.precisions.items() if is_on]
        if len(chosen) > 1 and "fp16" in chosen and "bf16" in chosen:
            raise AliasMistake("--bf16 and --fp16: give one")
        if chosen or self.precisions:
            # tf32 is what is left of fp32 beside another one.
            halves = [name for name in chosen if name != "tf32"] or chosen
            self._add("precision", halves[0] if halves else "fp32", next(iter(self.precisions)))
        if self.per_device is not None:
            self._split(*self.per_device)
        self._settle_length()
        for field in self.never:
            self._drop(field)
            self.words.append(f"--{field}=0")
        if self.needless:
            self.notes.append(f"not needed here: {', '.join(self.needless)}")

    def _split(self, name: str, value: str) -> None:
        """Make the effective batch of what one device takes."""
        for field in ("batch_size", "micro_batch_size"):
            if field in self.typed:
                raise AliasMistake(
                    f"--{self.typed[field]} and --{name}: --batch_size is the effective batch over "
                    "all ranks and accumulation steps; give one of them"
                )
        accumulation = self._last("gradient_accumulation_steps") or "1"
        numbers = [_whole(text) for text in (value, accumulation)]
        if numbers[0] is None or numbers[0] < 1:
            raise AliasMistake(f"--{name}={value}: use a whole number of at least 1")
        if numbers[1] is None or numbers[1] < 1:
            return  # what is wrong with it is said by its own name
        # Ranks that share a copy of the model see the same sequences.
        ranks = max(1, self.world_size // model_ranks(self._last("deepspeed") or "none"))
        batch = numbers[0] * numbers[1] * ranks
        self.words.append(f"--batch_size={batch}")
        self.notes.append(
            f"--{name}={numbers[0]} x {numbers[1]} accumulated x {ranks} ranks: an "
            f"effective --batch_size={batch}"
        )

    def _settle_length(self) -> None:
        """Settle --max_steps and --num_train_epochs, of which the steps rule there, if above 0."""
        steps = _whole(self._last("max_steps") or "")
        is_theirs = self.typed.get("epochs") == "num_train_epochs"
        if steps is not None and steps <= 0 and (is_theirs or steps == -1):
            self._drop("max_steps")
            if not is_theirs:
                # As transformers has it where neither is given.
                self.words.append("--epochs=3")
                self.notes.append(f"--max_steps={steps}: three epochs, as without both")
        elif steps is not None and is_theirs:
            self._drop("epochs")
            self.notes.append("--max_steps rules over --num_train_epochs")

    def _last(self, field: str) -> str | None:
        values = [word.partition("=")[2] for word in self.words if word.startswith(f"--{field}=")]
        return values[-1] if values else None

    def _drop(self, field: str) -> None:
        self.words = [word for word in self.words if not word.startswith(f"--{field}=")]


def is_alias(name: str) -> bool:
    """Whether others have an argument of this name that we know of."""
    tables = (_MAIN_ALIASES, _STRATEGIES, _NEEDLESS, _REFUSED, _PER_DEVICE, _PRECISIONS)
    return name == "local_rank" or any(name in table for table in tables)


def nearest(name: str, fields: Mapping[str, str]) -> str:
    """Return the most similar name that is understood; empty if there is none."""
    names = [*fields, *_MAIN_ALIASES, *_PER_DEVICE, *_STRATEGIES, *_PRECISIONS]
    return next(iter(difflib.get_close_matches(name, names, n=1)), "")


def _whole(text: str) -> int | None:
    try:
        number = float(text)
        return int(number) if number.is_integer() else None
    except (ValueError, OverflowError):
        return None


def _is_zero(text: str | None) -> bool:
    try:
        return float(text or "") == 0
    except ValueError:
        return False
