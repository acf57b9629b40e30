"""Keeps out of a trial's log what libraries say of themselves, and no user can act on.

Narrow on purpose: each entry is the beginning of one message from one place, with the library's
version and why it means nothing here; everything else they say is still said. To be looked through
when a library is upgraded. Called by ``main.py`` on the compute node, before the slow imports, and
by no test that trains in its own process. Not covered: what DeepSpeed's own launcher prints.
"""

from __future__ import annotations

import logging
import sys
import warnings

# (beginning of the message, as a regular expression), all of them of category FutureWarning.
_WARNINGS = (
    # peft 0.21 asks transformers 5.23 by a name that is going away; not by a setting of ours.
    "`is_gradient_checkpointing` is deprecated",
)
# (logger, beginning of the unformatted message)
_LINES = (
    # bitsandbytes 0.50: a package of faster 4-bit products on CPUs that is downloaded when used,
    # which compute nodes cannot and ``adapters.train_in_four_bits`` does not want.
    ("bitsandbytes.backends.cpu.ops", "Failed to load CPU gemm_4bit_forward"),
    # torch 2.13 about torchao's own classes, on being imported.
    ("torch.utils._pytree", "%s is an Enum subclass"),
    # DeepSpeed 0.19 of every optimizer but its own few; ours are compared with one rank by tests.
    ("DeepSpeed", "**** You are using ZeRO with an untested optimizer"),
    # transformers 5.23 when adapters are merged into a 4-bit base: in fp32, as the README says.
    ("transformers.integrations.bitsandbytes", "The modules are dequantized in"),
)
# torchao 0.18 tries all of its compiled kernels, also those for other Pythons and other GPUs. It is
# imported by peft for qlora, which computes nothing with it; with fp8 it may matter, and is said.
_LINE_BUT_FOR_FP8 = ("torchao", "Failed to load ")


def hush(*, is_fp8: bool) -> None:
    """Filter warnings and log lines; before torch and the others are imported."""
    for beginning in _WARNINGS:
        warnings.filterwarnings("ignore", message=beginning, category=FutureWarning)
    for name, beginning in _LINES if is_fp8 else (*_LINES, _LINE_BUT_FOR_FP8):
        logging.getLogger(name).addFilter(_Without(beginning))


def hush_progress_bars() -> None:
    """Turn transformers' bars for reading weights off where nobody watches; it is imported."""
    if not sys.stderr.isatty():
        from transformers.utils import logging as bars  # lazy: with the trainer, after the data

        bars.disable_progress_bar()


class _Without(logging.Filter):
    """Drops lines by how their message begins, before its values are put in."""

    def __init__(self, beginning: str):
        super().__init__()
        self.beginning = beginning

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(self.beginning)
