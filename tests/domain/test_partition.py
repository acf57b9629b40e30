"""Profiles: reading them, the shape of a job, its price."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from orchestrator.contract.errors import UserError
from orchestrator.domain import partition_loader
from orchestrator.domain.partition import (
    Container,
    JobShape,
    OnDemand,
    PartitionProfile,
    on_demand_prices,
    parse_minutes,
    price_per_hour,
    shape_of,
)
from orchestrator.domain.partition_loader import inspect_profiles, load_profiles
from orchestrator.domain.trials import TrialResources

PROFILE = PartitionProfile(
    name="spot",
    slurm_partition="spot",
    template="spot.sbatch.j2",
    gpus_per_node=8,
    cpus_per_node=16,
    mem_gb_per_node=64,
    max_time_min=1440,
    price_per_gpu_hour=0.5,
    price_per_cpu_hour=0.1,
    defaults={"gpus": 1, "cpus": 2, "mem_gb": 4, "time_min": 60},
)


@pytest.mark.parametrize(
    ("grace_s", "before_end_s", "expected"), [(None, 60, 60), (30, 60, 30), (600, 60, 60)]
)
def test_save_time_is_the_shorter_of_grace_and_notice(
    grace_s: int | None, before_end_s: int, expected: int
) -> None:
    profile = replace(PROFILE, grace_s=grace_s, signal_before_end_s=before_end_s)
    assert profile.save_time_s == expected


def wants(**values: object) -> TrialResources:
    return TrialResources(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90", 90),
        ("1:30", 2),
        ("2:00", 2),
        ("1:00:00", 60),
        ("0:00:01", 1),
        ("1-0", 1440),
        ("1-2:30", 1590),
        ("2-00:00:00", 2880),
    ],
)
def test_parse_minutes_reads_slurms_forms(text: str, minutes: int) -> None:
    assert parse_minutes(text) == minutes


@pytest.mark.parametrize("text", ["", "1h", "-1", "1:2:3:4", "a-1", "1.5"])
def test_parse_minutes_refuses_others(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        parse_minutes(text)


def test_shape_of_nothing_asked_is_the_profiles_default() -> None:
    assert shape_of(wants(), PROFILE) == JobShape(1, 1, None, 2, 4096, 60)


def test_shape_of_trial_overrides_defaults() -> None:
    shape = shape_of(wants(gpus=0, cpus=4, mem_gb=1.5, time_min=5, nodes=2), PROFILE)
    assert shape == JobShape(2, 0, None, 4, 1536, 5)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            {"gpus": 9},
            "resources.gpus: 9 is too much for partition spot: a node has 8; "
            "ask for less, or name another partition",
        ),
        (
            {"mem_gb": 65.0},
            "resources.mem_gb: 65 is too much for partition spot: a node has 64; "
            "ask for less, or name another partition",
        ),
        (
            {"time_min": 1441},
            "resources.time: 24:01 h is too much for partition spot: the longest is 24:00 h; "
            "ask for less, or name another partition",
        ),
    ],
)
def test_shape_of_too_much_is_refused(wanted: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        shape_of(wants(**wanted), PROFILE)
    assert str(caught.value) == message


def test_price_per_hour_counts_all_nodes() -> None:
    assert price_per_hour(JobShape(2, 4, None, 10, None, None), PROFILE) == 2 * (4 * 0.5 + 10 * 0.1)


def test_load_profiles_reads_every_key_of_the_dataclass() -> None:
    names = {field.name for field in fields(PartitionProfile)} - {"name", "file", "lines"}
    assert {("max_time_min" if k == "max_time" else k) for k in partition_loader._READERS} == names


def test_on_demand_prices_are_stated_or_those_of_the_partition_named() -> None:
    text = """\
spot: {preemptible: true, price_per_gpu_hour: 1, currency: CNY, on_demand: steady}
other: {preemptible: true, currency: CNY, on_demand: {price_per_gpu_hour: 4}}
unknown: {preemptible: true, price_per_gpu_hour: 1}
steady: {price_per_gpu_hour: 6, price_per_cpu_hour: 0.5, currency: EUR}
free: {currency: CNY}
"""
    profiles = load_profiles(text, file="p.yaml")
    assert {name: on_demand_prices(profile) for name, profile in profiles.items()} == {
        "spot": OnDemand(6, 0.5, "EUR"),
        "other": OnDemand(4, 0, "CNY"),
        "unknown": None,
        "steady": OnDemand(6, 0.5, "EUR"),
        "free": None,
    }


def test_load_profiles_entry_may_be_empty() -> None:
    profiles = load_profiles("gpu:\n", file="p.yaml")
    assert profiles == {"gpu": PartitionProfile("gpu", "gpu", "gpu.sbatch.j2")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "p.yaml: empty; describe at least one partition"),
        ("a:\n  gpu_per_node: 1\n", "p.yaml:2: a.gpu_per_node: unknown key; "),
        (
            "a:\n  layout: stpe\n",
            "p.yaml:2: a.layout: 'stpe' is not allowed; did you mean step? use step or batch",
        ),
        ("a:\n  max_time: 1h\n", "p.yaml:2: a.max_time: '1h' is not a time; use minutes, M:S, "),
        (
            "a:\n  price_per_gpu_hour: -1\n",
            "p.yaml:2: a.price_per_gpu_hour: -1 is not allowed; use a number that is not negative",
        ),
        ("a:\n  sbatch: {--exclude: n1}\n", "p.yaml:2: a.sbatch.--exclude: not a long option"),
        ("'a b': {}\n", "p.yaml:1: a b: not allowed as a name; "),
        ("a:\n  container: {}\n", "p.yaml:2: a.container: names no image; add image:"),
        ("a:\n  container: {image: x, runtime: dockr}\n", "p.yaml:2: a.container.runtime: "),
        ("a:\n  container: {image: x, mounts: [data]}\n", "p.yaml:2: a.container.mounts: "),
        ("a:\n  modules: gcc\n", "p.yaml:2: a.modules: 'gcc' is not allowed; use a list"),
        ("a:\n  conda: [x]\n", "p.yaml:2: a.conda: "),
        ('a:\n  conda: "x\\ny"\n', "p.yaml:2: a.conda: 'x y' has control characters"),
        (
            "a:\n  max_time: 60\n  defaults: {gpus: 1, time: 2:00:00}\n",
            "p.yaml:3: a.defaults.time: 2:00:00 is more than max_time: 60; correct one of them",
        ),
        (
            "a: {preemptible: true, on_demand: c}\nb: {price_per_gpu_hour: 2}\n",
            "p.yaml:1: a.on_demand: 'c' is no partition that is not preemptible; use b",
        ),
        (
            "a: {on_demand: b}\nb: {currency: CNY}\n",
            "p.yaml:1: a.on_demand: partition b has no price; give it one, or state prices here",
        ),
        ("a: {on_demand: {price_per_gpu_hour: -1}}\n", "p.yaml:1: a.on_demand.price_per_gpu_hour"),
        ("a: {on_demand: {currency: CNY}}\n", "p.yaml:1: a.on_demand: states no price; use "),
        (
            "a:\n  layout: step\n  container: {image: x, runtime: pyxis}\n",
            "p.yaml:2: a.layout: step is not allowed with pyxis",
        ),
    ],
)
def test_load_profiles_mistake_is_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_profiles(text, file="p.yaml")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_load_profiles_container_may_be_its_image_alone() -> None:
    text = "a: {container: x.sif}\nb: {container: {image: y, runtime: pyxis, mounts: [/d]}}\n"
    profiles = load_profiles(text, file="p.yaml")
    assert profiles["a"].container == Container("x.sif", "apptainer")
    assert profiles["b"].container == Container("y", "pyxis", ("/d",))
    assert (profiles["a"].layout, profiles["b"].layout) == ("step", "batch")


def test_inspect_profiles_keeps_the_well_and_names_all_mistakes() -> None:
    text = "a:\n  gpus_per_node: x\n  nodes: 0\nb: {}\nc: 7\n"
    profiles, mistakes = inspect_profiles(text, file="p.yaml")
    assert list(profiles) == ["b"]
    assert [(mistake.line, mistake.key) for mistake in mistakes] == [
        (2, "a.gpus_per_node"),
        (3, "a.nodes"),
        (5, "c"),
    ]
    assert profiles["b"].locate("gpus_per_node") == ("p.yaml", 4)


@pytest.mark.parametrize(("word", "requeue"), [("auto", None), ("true", True), ("false", False)])
def test_load_profiles_requeue_is_a_switch(word: str, requeue: bool | None) -> None:
    assert load_profiles(f"a: {{requeue: {word}}}\n", file="p.yaml")["a"].requeue is requeue


def test_load_profiles_requeue_refuses_other_words() -> None:
    with pytest.raises(UserError, match="'never' is not allowed; use auto, true or false"):
        load_profiles("a: {requeue: never}\n", file="p.yaml")
