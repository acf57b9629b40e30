"""``orchestrator plan`` of several partitions, and of a canary."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.planning import PROFILES, SPEC, make_folder, read, type_


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path)


def test_plan_of_several_partitions_and_a_canary(folder: Path) -> None:
    profiles = folder / "templates/partitions.yaml"
    cheap = (
        profiles.read_text()
        .replace("spot:", "cheap:")
        .replace("gpus_per_node: 8", "gpus_per_node: 4")
    )
    profiles.write_text(profiles.read_text() + cheap)
    words_ = ("partition=[cheap, spot]", "canary=1", "max_gpus=40")
    shapes = ("resources.gpus=8 if batch_size == 64 else 4", "resources.mem_gb=32")
    report = read(folder, "sweep.yaml", *words_, *shapes)
    assert report["partition"] == "cheap, spot"
    assert {name: site["n_to_submit"] for name, site in report["partitions"].items()} == {
        "cheap": 108,
        "spot": 54,
    }
    assert [(a["partition"], a["n_trials"], a["is_held"]) for a in report["arrays"]] == [
        ("cheap", 1, False),
        ("cheap", 107, True),
        ("spot", 54, True),
    ]
    _, out, err = type_(folder, "plan", "sweep.yaml", *words_, *shapes)
    assert not err
    words = " ".join(out.split())
    assert "162 trials on partitions cheap, spot by their profile" in words
    assert "goes first; the rest is held until that has passed" in words
    assert "max_gpus: 40" in words
    assert words.count("at a time shape 1 on cheap: 10 (") == 1, out
    assert "on cheap 1 trial with 4 GPUs" in words, out
    assert words.count(" at a time shape") == 1


def test_plan_names_the_partitions_that_trials_may_move_to_and_what_that_costs(
    folder: Path,
) -> None:
    profiles = folder / "templates/partitions.yaml"
    dear = PROFILES.replace("spot:", "ondemand:").replace("2.0833", "6")
    profiles.write_text(PROFILES.replace("2.0833", "0.9") + dear)
    several = ("sweep.yaml", "partition={order: [spot, ondemand], after_preemptions: 1}")
    report = read(folder, *several)
    assert (report["partition"], report["may_move_to"]) == ("spot, ondemand", ["ondemand"])
    assert list(report["partitions"]) == ["spot"], "that they go to first"
    assert report["cost"]["value"] == pytest.approx(5184 * 0.9)
    assert report["cost_if_moved"]["to"] == ["ondemand"]
    assert report["cost_if_moved"]["cost"]["value"] == pytest.approx(5184 * 6)
    _, out, err = type_(folder, "plan", *several)
    assert not err
    words = " ".join(out.split())
    assert "162 trials on partitions spot, ondemand by their profile" in words
    assert "cost 5184 GPU-hours x 0.9 CNY = 4665.60 CNY at most on spot up to 5184" in words
    assert "up to 5184 GPU-hours x 6 CNY = 31104.00 CNY if all move to ondemand" in words
    never = ("sweep.yaml", "partition={order: [spot, ondemand], after_preemptions: 0}")
    report = read(folder, *never)
    assert (report["partition"], report["may_move_to"]) == ("spot", [])
    assert report["cost_if_moved"] is None


def test_partition_that_trials_skip_is_said_by_plan_and_submit_with_its_limit(folder: Path) -> None:
    profiles = folder / "templates/partitions.yaml"
    brief = PROFILES.replace("spot:", "brief:") + "  max_time: 2:00:00\n"
    profiles.write_text(brief + PROFILES)
    spec = SPEC.replace("gpus: 8, cpus: 8, mem_gb: 64", "gpus: 0, cpus: 1, mem_gb: 1")
    spec = spec.partition("  batch_size")[0]
    (folder / "sweep.yaml").write_text(spec)
    said = (
        "3 of 3 trials skip brief: resources.time: 4:00 h is too much for partition brief: "
        "the longest is 2:00 h"
    )
    several = ("sweep.yaml", "partition=[brief, spot]")
    assert read(folder, *several)["skipped"] == [said]
    _, out, err = type_(folder, "plan", *several)
    assert not err
    assert f"does not fit {said}" in " ".join(out.split())
    run_it = ("submit", *several, "--cluster", "local")
    code, out, err = type_(folder, *run_it, path=os.environ["PATH"])
    assert code == 0, out + err
    assert said in " ".join((out + err).split())


def test_canary_that_leaves_nothing_to_hold_is_a_warning_of_plan_and_submit(folder: Path) -> None:
    spec = SPEC.replace("gpus: 8, cpus: 8, mem_gb: 64", "gpus: 0, cpus: 1, mem_gb: 1")
    spec = spec.partition("  batch_size")[0].replace("[1e-5, 3e-5, 5e-5]", "[1e-5]")
    (folder / "sweep.yaml").write_text(spec)
    said = "canary: 9 of 1 trial: nothing is left to hold"
    _, out, err = type_(folder, "plan", "sweep.yaml", "canary=9")
    assert said in " ".join(err.split())
    assert "goes first; nothing is left to hold" in " ".join(out.split())
    run_it = ("submit", "sweep.yaml", "canary=9", "--cluster", "local")
    code, out, err = type_(folder, *run_it, path=os.environ["PATH"])
    assert code == 0, out + err
    assert said in " ".join((out + err).split())
