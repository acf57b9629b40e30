"""What a trial finds on its node."""

import os

import pytest
from arguments import ArgumentMistake, Arguments, refuse_mistakes
from machine import Machine
from surroundings import find_mistakes

CPU, GPU = (Machine(1, has_gpu, is_here=True) for has_gpu in (False, True))


def said(environ, machine=CPU, devices=("/dev/null",), **changes):
    return list(find_mistakes(Arguments(**changes), machine, environ, devices))


@pytest.mark.parametrize("name", ["SLURM_STEP_GPUS", "SLURM_JOB_GPUS"])
def test_gpu_that_torch_does_not_find_is_named(name):
    (line,) = said({name: "0,1"})
    assert line.startswith("Slurm gave this job GPU 0,1, and torch finds none")


def test_what_is_no_gpu_or_was_not_given_is_none():
    given = {"SLURM_JOB_GPUS": "0"}
    assert said({}) == said(given, GPU) == said(given, devices=("/nowhere*",)) == []


def test_output_dir_in_place_of_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    (line,) = said({}, output_dir=str(tmp_path / "file/a/b"))
    assert (
        line == f"--output_dir={tmp_path}/file/a/b: {tmp_path}/file is no directory; name another"
    )


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_output_dir_that_is_read_only_is_named(tmp_path):
    tmp_path.chmod(0o500)
    (line,) = said({}, output_dir=str(tmp_path / "new"))
    assert f"{tmp_path} is not writable" in line


def test_output_dir_that_can_be_made_is_fine(tmp_path):
    assert said({}, output_dir=str(tmp_path / "a/b")) == said({}, output_dir="") == []
    assert not (tmp_path / "a").exists()


def test_they_are_refused_once_the_machine_is_known(tmp_path):
    (tmp_path / "file").write_text("")
    arguments = Arguments(output_dir=str(tmp_path / "file"))
    refuse_mistakes(arguments, Machine(1, True))
    with pytest.raises(ArgumentMistake, match="is no directory"):
        refuse_mistakes(arguments, CPU)
