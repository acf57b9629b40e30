"""Number formats, attention, compiling: what is refused, and what a CPU can show of them."""

import main
import precision
import pytest
import torch
from arguments import Arguments, find_mistakes
from machine import Machine

pytestmark = pytest.mark.train

CPU = Machine(1, False)
VOLTA, AMPERE, HOPPER = (
    Machine(1, True, version, is_here=True) for version in ((7, 0), (8, 0), (9, 0))
)


@pytest.mark.parametrize(
    ("arguments", "machine", "expected"),
    [
        ({"precision": "tf32"}, CPU, "--precision=tf32: needs a GPU"),
        ({"precision": "tf32"}, VOLTA, "capability 8.0 (Ampere) or newer, this one has 7.0"),
        ({"precision": "bf16"}, VOLTA, "capability 8.0 (Ampere)"),
        ({"precision": "fp16"}, CPU, "--precision=fp16: needs a GPU"),
        ({"precision": "fp8"}, CPU, "--precision=fp8: needs a GPU"),
        ({"precision": "fp8"}, AMPERE, "capability 8.9 (Ada or Hopper) or newer"),
        ({"precision": "fp8", "deepspeed": "train/deepspeed/zero2.json"}, HOPPER, "use bf16"),
        ({"attention": "flash_attention_2"}, CPU, "needs a GPU; use sdpa"),
        ({"attention": "flash_attention_2"}, HOPPER, "the package flash-attn is missing"),
        ({"attention": "flash_attention_2", "precision": "fp32"}, Machine(), "16-bit numbers"),
        ({"attention": "flex"}, CPU, "no backward pass on a CPU"),
        ({"attention": "flex", "attention_dropout": 0.1}, HOPPER, "flex has no dropout"),
    ],
)
def test_what_cannot_work_is_refused_with_its_reason(arguments, machine, expected):
    mistakes = list(find_mistakes(Arguments(**arguments), machine))
    assert len(mistakes) == 1
    assert expected in mistakes[0]


@pytest.mark.parametrize(
    ("name", "machine"),
    [("bf16", CPU), ("tf32", AMPERE), ("fp16", VOLTA), ("fp8", HOPPER), ("fp8", Machine())],
)
def test_what_can_work_or_is_unknown_is_not_refused(name, machine):
    assert list(find_mistakes(Arguments(precision=name), machine)) == []


def test_bf16_on_cpu_learns_like_fp32(train_here):
    full = train_here("fp32", max_steps=8)
    half = train_here("bf16", max_steps=8, precision="bf16")
    assert half.weights() != full.weights()
    assert half.last()["eval_loss"] == pytest.approx(full.last()["eval_loss"], rel=0.02)


def test_attention_by_name_is_the_same_training(train_here):
    losses = {
        name: train_here(name, max_steps=2, attention=name).last()["eval_loss"]
        for name in ("auto", "sdpa", "eager")
    }
    assert losses["sdpa"] == losses["auto"]
    assert losses["eager"] == pytest.approx(losses["auto"], rel=1e-5)


def test_gradient_checkpointing_changes_nothing(train_here):
    whole = train_here("whole", max_steps=3)
    again = train_here("again", max_steps=3, gradient_checkpointing="true")
    assert again.last()["eval_loss"] == pytest.approx(whole.last()["eval_loss"], rel=1e-6)


@pytest.fixture
def fp16_on_cpu(monkeypatch):
    """Let accelerate scale losses on a CPU, where torch can though accelerate has no use for it."""
    import trainer as trainers

    def allow(initial_scale):
        prepare = trainers.TrialTrainer.create_accelerator_and_postprocess

        def create(self):
            prepare(self)
            self.accelerator.native_amp = True
            self.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=initial_scale)

        monkeypatch.setattr(trainers.TrialTrainer, "create_accelerator_and_postprocess", create)
        monkeypatch.setattr(main, "refuse_mistakes", lambda arguments, machine: None)

    return allow


def test_fp16_counts_skipped_steps_and_goes_on(train_here, fp16_on_cpu):
    fp16_on_cpu(2.0**20)
    half = train_here("fp16", max_steps=12, precision="fp16", logging_steps=1)
    assert 0 < half.last()["skipped_steps"] < 12
    curve = half.metrics()
    assert len([line for line in curve if "train_loss" in line]) == 12
    full = train_here("fp32", max_steps=12)
    assert "skipped_steps" not in full.last()
    assert half.last()["eval_loss"] == pytest.approx(full.last()["eval_loss"], rel=0.2)


def test_fp16_with_gradients_that_never_fit_ends(train_here, fp16_on_cpu, monkeypatch, capsys):
    fp16_on_cpu(4.0)
    monkeypatch.setattr("guard.MAX_SKIPPED_IN_A_ROW", 2)

    def spoil(gradient):
        return gradient * float("inf")

    prepare = precision.prepare_model

    def prepare_and_spoil(model, arguments):
        model.get_input_embeddings().weight.register_hook(spoil)
        return prepare(model, arguments)

    monkeypatch.setattr("trainer.prepare_model", prepare_and_spoil)
    with pytest.raises(SystemExit) as caught:
        train_here("nan", precision="fp16")
    assert caught.value.code == 65
    assert "gradient is not finite in 3 steps in a row" in capsys.readouterr().err


def test_fp16_with_a_loss_that_is_not_finite_ends_at_once(
    train_here, fp16_on_cpu, monkeypatch, capsys
):
    import transformers

    fp16_on_cpu(2.0**10)
    compute = transformers.Trainer.compute_loss

    def spoil(self, *args, **kwargs):
        loss = compute(self, *args, **kwargs)
        return loss * float("inf") if self.state.global_step == 2 else loss

    monkeypatch.setattr(transformers.Trainer, "compute_loss", spoil)
    with pytest.raises(SystemExit) as caught:
        train_here("inf", precision="fp16")
    assert caught.value.code == 65
    assert "loss is not finite at step 3" in capsys.readouterr().err


def test_fp8_layers_round_and_learn_when_emulated():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    ids = torch.arange(32).reshape(2, 16)
    exact = model(input_ids=ids, labels=ids).loss.item()
    names = set(model.state_dict())
    assert precision.convert_to_fp8(model, emulate=True) == 7  # all but the output layer
    assert set(model.state_dict()) == names
    loss = model(input_ids=ids, labels=ids).loss
    assert loss.item() != exact
    assert loss.item() == pytest.approx(exact, rel=1e-2)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.slow
def test_compiled_is_the_same_training(train_here):
    arguments = {"model": "tiny-llama", "max_steps": 3, "packing": "true"}
    whole = train_here("whole", **arguments)
    compiled = train_here("compiled", compile="true", **arguments)
    assert compiled.last()["eval_loss"] == pytest.approx(whole.last()["eval_loss"], rel=1e-4)
