"""All ranks agree where to go on. No training; what other ranks say is pretended."""

import types

import checkpoints
import pytest
import resuming
import torch

from tests.train.test_checkpoints import write

pytestmark = pytest.mark.train


@pytest.fixture(autouse=True)
def same_training(monkeypatch):
    monkeypatch.setattr(resuming, "find_differences", lambda saved, now: [])
    monkeypatch.setattr(resuming, "find_roundings", lambda saved, now: [])


@pytest.fixture
def ranks(monkeypatch):
    """Be rank 0 of two; the other says of each checkpoint in turn what the test wants."""

    def pretend(*others):
        replies = list(others)

        def gather(reasons, reason):
            reasons[:] = [reason, replies.pop(0)]

        monkeypatch.setattr(torch.distributed, "broadcast_object_list", lambda found: None)
        monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
        return types.SimpleNamespace(process_index=0, world_size=2)

    return pretend


def save(directory, step):
    checkpoint = write(directory, step)
    (checkpoint / "trainer_state.json").write_text("{}")
    return checkpoint


def test_newest_is_taken_if_all_can_read_it(tmp_path, ranks):
    save(tmp_path, 5)
    newest = save(tmp_path, 10)
    chosen = resuming.choose_checkpoint(tmp_path, {}, ranks(""))
    assert chosen == resuming.Chosen(newest, 10, ())


def test_what_one_rank_cannot_read_is_refused_by_all(tmp_path, ranks, capsys):
    before = save(tmp_path, 5)
    newest = save(tmp_path, 10)
    chosen = resuming.choose_checkpoint(tmp_path, {}, ranks("rank 1: OSError: gone", ""))
    assert chosen == resuming.Chosen(before, 5, (10,))
    said = capsys.readouterr().err
    assert f"REFUSED checkpoint {newest}: rank 1: OSError: gone" in said
    assert f"resuming from {before}" in said


def test_none_that_all_can_read_is_no_new_start(tmp_path, ranks):
    save(tmp_path, 5)
    with pytest.raises(checkpoints.NoneUsable, match="none of 1 checkpoint"):
        resuming.choose_checkpoint(tmp_path, {}, ranks("rank 1: OSError: gone"))


def test_no_checkpoint_is_a_start(tmp_path, ranks):
    (tmp_path / ".tmp-checkpoint-5").mkdir()
    assert resuming.choose_checkpoint(tmp_path, {}, ranks()) == resuming.Chosen(None, 0, ())


def test_rank_checks_what_it_reads_and_no_others_random_states(tmp_path):
    staging = checkpoints.make_staging(tmp_path, 5) / "checkpoint-5"
    staging.mkdir()
    for name in ("rng_state_0.pth", "rng_state_1.pth", "progress_0.pt", "zero_pp_rank_0.pt"):
        (staging / name).write_text(name)
    path = checkpoints.publish(staging, tmp_path, 5, {})
    (path / "rng_state_0.pth").write_text("changed")
    checkpoints.verify(path, rank=1)
    with pytest.raises(checkpoints.CheckpointDamaged, match="rng_state_0"):
        checkpoints.verify(path, rank=0)
    (path / "zero_pp_rank_0.pt").unlink()
    with pytest.raises(checkpoints.CheckpointDamaged, match=r"zero_pp_rank_0\.pt is missing"):
        checkpoints.verify(path, rank=1)  # DeepSpeed reads all parts of the optimizer


def test_shares_of_a_flush_cover_all_files(tmp_path, monkeypatch):
    path = save(tmp_path, 5)
    flushed = []
    monkeypatch.setattr(checkpoints, "_flush", flushed.append)
    for index in range(3):
        checkpoints.flush_share(path, index, 3)
    assert sorted(flushed) == sorted(p for p in path.rglob("*") if p.is_file())


def test_leftovers_go_before_a_save(tmp_path):
    (tmp_path / ".tmp-checkpoint-3" / "torso").mkdir(parents=True)
    checkpoints.make_staging(tmp_path, 5)
    assert [path.name for path in tmp_path.iterdir()] == [".tmp-checkpoint-5"]
