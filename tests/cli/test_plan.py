"""``orchestrator plan`` as a person types it: without Slurm, and with commands that answer."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.adapters.fake_slurm import FakeSlurm
from tests.cli.planning import PROFILES, ROOT, SPEC, make_folder, read, type_
from tests.domain import sites

NODES = (ROOT / "tests/domain/data/nodes-22.05.8.txt").read_text()
ACCEPT = (
    'cat > /dev/null; case "$1" in --test-only) echo "sbatch: Job 3 to start at '
    '2026-11-21T15:07:33 using 8 processors on nodes n1 in partition spot" >&2 ;; '
    "--version) ;; *) exit 99 ;; esac"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path)


@pytest.fixture
def slurm(tmp_path: Path) -> FakeSlurm:
    fake = FakeSlurm(tmp_path / "bin", sites.CONFIG, sites.PARTITIONS)
    (fake.folder / "nodes").write_text(NODES)
    fake.answer(
        "scontrol",
        'case "$*" in *config*) cat HERE/config ;; *partition*) cat HERE/partitions ;; '
        "*node*) cat HERE/nodes ;; esac",
    )
    fake.answer("sbatch", ACCEPT)
    fake.answer("sacctmgr", "exit 0")
    return fake


def tree(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(p), p.stat().st_mtime_ns) for p in folder.rglob("*"))


def test_founding_grid_by_the_profile_takes_68_hours_not_8(folder: Path) -> None:
    before = tree(folder)
    code, out, err = type_(folder, "plan", "sweep.yaml")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80, out
    words = " ".join(out.split())
    for expected in (
        "sweep: 162 trials on partition spot by its profile (no Slurm here)",
        "162 new; to submit: 162",
        "array 1 [0-161] 162 trials, each with 8 GPUs, 8 CPUs, 64 GB, 4:00 h",
        "smallest step batch 16 x accumulation 1 x 8 GPUs = 128 effective (00000-",
        "largest step batch 64 x accumulation 1 x 8 GPUs = 512 effective (00161-",
        "a trial takes 4 h at most, by its time limit; none is measured yet",
        "162 trials x 4 h x 1 instance = 648 instance-hours",
        "5184 GPU-hours x 2.0833 CNY = 10799.83 CNY at most",
        "at a time 10: partition spot has 10 nodes of 8 GPUs, 16 CPUs, 64 GB",
        "162 trials, 10 at a time = 17 waves x 4 h = 68 h at most",
        "canary: 1 in the spec tries one trial before the other 161",
        "batch_size is taken to be per device",
        "make submit SWEEP=sweep.yaml",
    ):
        assert expected in words, f"{expected}\n{out}"
    assert tree(folder) == before, "nothing is written"


def test_plan_as_json_has_it_all(folder: Path) -> None:
    report = read(folder, "sweep.yaml", "max_concurrent=5")
    assert report["instance_hours"]["value"] == pytest.approx(648)
    assert report["gpu_hours"]["value"] == pytest.approx(5184)
    assert report["cost"]["value"] == pytest.approx(10_799.83, abs=0.01)
    assert (report["currency"], report["is_upper_bound"]) == ("CNY", True)
    assert (report["wall"]["waves"], report["arrays"][0]["array"]) == (33, "0-161%5")
    (shape,) = report["shapes"]
    assert [limit["at_a_time"] for limit in shape["limits"]] == [5, 10]
    assert (shape["time_from"], shape["n_measured"]) == ("stated", 0)
    trials = report["trials"]
    assert len(trials) == 162
    assert trials[-1]["batch"]["effective"] == 512
    assert {key for key in report if report[key] is None} == {
        "paused",
        "spent",
        "canary",
        "cost_if_moved",
        "unreachable",
    }


def test_plan_says_what_is_not_known(folder: Path) -> None:
    (folder / "templates/partitions.yaml").write_text("spot: {template: base.sbatch.j2}\n")
    report = read(folder, "sweep.yaml", "resources={gpus: 1}")
    assert [report[key] for key in ("gpu_hours", "cost", "wall")] == [None, None, None]
    words = " ".join(type_(folder, "plan", "sweep.yaml", "resources={gpus: 1}")[1].split())
    assert "a trial takes not known; state resources: {time: ...}" in words
    assert "at a time not known; state nodes:" in words


def test_plan_of_several_shapes_shows_the_smallest_and_the_largest(folder: Path) -> None:
    words_ = ("resources.gpus=8 if batch_size == 64 else 4", "resources.mem_gb=32")
    _, out, err = type_(folder, "plan", "sweep.yaml", *words_)
    assert not err
    words = " ".join(out.split())
    assert "array 2 [0-53] 54 trials, each with 8 GPUs" in words
    assert "smallest 00000-" in words
    assert "108 trials x 4 h / 2 on an instance = 216 instance-hours" in words
    assert "216 + 216 = 432 instance-hours" in words
    node = "partition spot has 10 nodes of 8 GPUs, 16 CPUs, 64 GB"
    assert f"at a time shape 1: 20 ({node}) shape 2: 10 ({node}) wall time" in words
    assert "one shape after the other: 6 waves x 4 h + 6 waves x 4 h = 48 h at most" in words
    # What is to be typed stays on one line.
    assert max(len(line) for line in out.splitlines() if "make submit" not in line) <= 80, out


def test_plan_prints_scripts(folder: Path) -> None:
    code, script, _ = type_(folder, "plan", "sweep.yaml", "--script", "161")
    assert code == 0
    assert script.startswith("#!/bin/bash\n")
    assert "--learning_rate=5e-05" in script
    code, array, _ = type_(folder, "plan", "sweep.yaml", "--array", "1")
    assert code == 0
    assert "#SBATCH --array=0-161\n" in array
    assert "#SBATCH --job-name=sweep-0000000000\n" in array


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--script", "162"], "no trial '162' among those to submit (00000-"),
        (["--array", "2"], "no array 2; use 1 to 1"),
        (["--array", "1", "--script", "1"], "--script and --array: give one of them"),
        (["--array", "x"], "invalid int value"),
        (["--cluster", "slurm"], "there is no sbatch on this machine"),
        (["partition=spto"], "did you mean spot?"),
        (["resources.gpus=9"], "9 is too much for partition spot: a node has 8"),
        (["resources.nodes=11"], "11 is too much for partition spot: it has 10"),
        (["prgram=x"], "did you mean program?"),
    ],
)
def test_plan_mistake_is_one_line_and_exit_2(folder: Path, words: list[str], message: str) -> None:
    code, out, err = type_(folder, "plan", "sweep.yaml", *words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


# --- with a Slurm ---------------------------------------------------------------------------------


def test_plan_asks_slurm_and_submits_nothing(folder: Path, slurm: FakeSlurm) -> None:
    before = tree(folder)
    report = read(folder, "sweep.yaml", path=slurm.path)
    assert tree(folder) == before
    # Of the four nodes one is drained; of the other 24 GPUs three are in use.
    site = report["partitions"]["spot"]
    assert {key: site[key] for key in ("nodes", "nodes_up", "gpus", "gpus_free")} == {
        "nodes": 4,
        "nodes_up": 3,
        "gpus": 24,
        "gpus_free": 21,
    }
    assert (report["shapes"][0]["at_a_time"], report["wall"]["waves"]) == (3, 54)
    assert report["arrays"][0]["slurm"] == {
        "accepted": True,
        "words": "Job 3 to start at 2026-11-21T15:07:33 using 8 processors on nodes n1 in "
        "partition spot",
        "start": "2026-11-21T15:07:33",
        "nodes": "n1",
    }
    assert "1 of 4 nodes of partition spot are down or drained" in report["warnings"]
    assert not any(words.startswith("limits: ") for words in report["warnings"])
    calls = [call for call in slurm.calls() if call.startswith("sbatch")]
    assert calls == ["sbatch --version", "sbatch --test-only"]
    assert {call.split()[0] for call in slurm.calls()} == {"sbatch", "scontrol"}


def test_plan_of_two_partitions_labels_their_limits_once(folder: Path, slurm: FakeSlurm) -> None:
    profiles = folder / "templates/partitions.yaml"
    profiles.write_text(PROFILES + PROFILES.replace("spot:", "ondemand:"))
    chosen = "partition: \"'spot' if batch_size < 64 else 'ondemand'\"\n"
    (folder / "sweep.yaml").write_text(SPEC + chosen)
    code, out, err = type_(folder, "plan", "sweep.yaml", path=slurm.path)
    assert code == 0, out + err
    titles = [line[2:18].strip() for line in out.splitlines() if line.startswith("  ")]
    for title in ("limits", "at a time"):
        assert titles.count(title) == 1, out
    words = " ".join(out.split())
    assert "limits partition spot allows" in words
    assert "free now partition ondemand allows" in words
    assert "shape 2 on ondemand: " in words


def test_plan_with_limits_of_accounts(folder: Path, slurm: FakeSlurm) -> None:
    enforced = sites.config(AccountingStorageEnforce="associations,limits,qos,safe")
    (slurm.folder / "config").write_text(enforced)
    name = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    slurm.answer(
        "sacctmgr",
        'case "$*" in\n'
        f'*user={name}*) echo "c|team|{name}||||2|100|8:00:00|||||" ;;\n'
        '*assoc*) echo "c|team|||root|||||||||gres/gpu=8" ;;\n'
        "*qos*) echo 'normal|||||||||||||' ;;\n*) echo team ;;\nesac",
    )
    report = read(folder, "sweep.yaml", path=slurm.path)
    limits = report["shapes"][0]["limits"]
    assert [limit["at_a_time"] for limit in limits] == [1, 2, 3]
    assert limits[0]["why"] == "account team allows all of its users together 8 GPUs at once"
    assert any("allows a user 100 queued" in warning for warning in report["warnings"])
    slurm.answer("sacctmgr", "echo 'sacctmgr: error: Connection refused' >&2; exit 1")
    report = read(folder, "sweep.yaml", path=slurm.path)
    assert any("are not known: sacctmgr" in warning for warning in report["warnings"])


def test_plan_that_slurm_would_refuse_exits_2_and_says_what_is_allowed(
    folder: Path, slurm: FakeSlurm
) -> None:
    debug = sites.PARTITIONS.replace(
        "MaxNodes=UNLIMITED MaxTime=UNLIMITED", "MaxNodes=1 MaxTime=30"
    )
    (slurm.folder / "partitions").write_text(debug)
    slurm.answer("sbatch", 'case "$1" in --version) ;; *) echo "allocation failure: Requested node '
                 'configuration is not available" >&2; exit 1 ;; esac')  # fmt: skip
    report = read(folder, "sweep.yaml", path=slurm.path, code=2)
    assert report["problems"] == [
        "partition spot allows 1 node, 0:30 h; a trial asks for 4:00 h",
        "Slurm would refuse it: Requested node configuration is not available; "
        "partition spot allows 1 node, 0:30 h",
    ]
    _, out, err = type_(folder, "plan", "sweep.yaml", path=slurm.path)
    assert "problem: partition spot allows 1 node" in err
    assert "68 h" not in out
    (slurm.folder / "partitions").write_text(sites.PARTITIONS.replace("=spot", "=spots"))
    report = read(folder, "sweep.yaml", path=slurm.path, code=2)
    assert "the cluster has no partition spot; it has: cpu, ondemand, spots" in report["problems"]


def test_plan_stands_while_the_controller_is_away(folder: Path, slurm: FakeSlurm) -> None:
    slurm.answer("scontrol", "echo 'Unable to contact slurm controller' >&2; exit 1")
    report = read(folder, "sweep.yaml", path=slurm.path)
    assert "Unable to contact slurm controller" in report["unreachable"]
    assert report["wall"]["waves"] == 17, "by the profile"
    assert any("limits are not known" in warning for warning in report["warnings"])
    assert not any(call == "sbatch --test-only" for call in slurm.calls())
    # How many share an instance follows from the profile, though it does not say how many it has.
    profiles = folder / "templates/partitions.yaml"
    quarter = ("sweep.yaml", "resources={gpus: 2, mem_gb: 16, time: 60}")
    for text in (PROFILES, PROFILES.replace("  nodes: 10\n", "")):
        profiles.write_text(text)
        hours = read(folder, *quarter, path=slurm.path)["instance_hours"]
        assert hours["arithmetic"] == ["162 trials x 1 h / 4 on an instance = 40.5 instance-hours"]


def test_plan_of_trials_that_may_not_all_be_queued_is_no_mistake(
    folder: Path, slurm: FakeSlurm
) -> None:
    slurm.answer("sbatch", 'case "$1" in --version) ;; *) echo "sbatch: error: '
                 'AssocMaxSubmitJobLimit" >&2; exit 1 ;; esac')  # fmt: skip
    report = read(folder, "sweep.yaml", path=slurm.path)
    assert any("would not take all at once" in warning for warning in report["warnings"])


# --- a sweep that has run in part -----------------------------------------------------------------


def test_plan_of_what_is_left_uses_measured_trials(folder: Path) -> None:
    spec = SPEC.replace("gpus: 8, cpus: 8, mem_gb: 64", "gpus: 0, cpus: 1, mem_gb: 1")
    (folder / "sweep.yaml").write_text(spec)
    part = ("learning_rate=1e-5", "batch_size=16", "weight_decay=0.01", "warmup_steps=100")
    system = os.environ["PATH"]
    code, out, err = type_(folder, "submit", "sweep.yaml", *part, "--cluster", "local", path=system)
    assert code == 0, out + err
    report = read(folder, "sweep.yaml", "--cluster", "local", "max_concurrent=2")
    assert (report["states"], report["n_to_submit"]) == ({"new": 160, "done": 2}, 160)
    (shape,) = report["shapes"]
    assert (shape["time_from"], shape["n_measured"]) == ("measured", 2)
    assert report["is_upper_bound"] is False
    assert report["spent"]["hours"] > 0
    words = " ".join(
        type_(folder, "plan", "sweep.yaml", "--cluster", "local", "max_concurrent=2")[1].split()
    )
    assert "the mean of 2 trials measured (p90 " in words
    assert "used so far" in words
    assert "at a time " in words
    assert "if all were as slow as the slowest tenth: " in words
    # A trial that is done is not among those to submit.
    code, _, err = type_(folder, "plan", "sweep.yaml", "--script", "0")
    assert (code, "no trial '0' among those to submit" in err) == (2, True)
    done = read(folder, "sweep.yaml", *part)
    assert (done["n_to_submit"], done["n_left"], done["shapes"]) == (0, 0, [])
