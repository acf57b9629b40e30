"""``resources:``: literals, expressions, and what each may give."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.contract.errors import SpecError
from orchestrator.domain.resources import TrialResources
from orchestrator.domain.spec_loader import load_spec
from orchestrator.domain.trials import expand_trials

HEAD = """\
program: t
metric: {name: x, goal: minimize}
parameters: {n: [8], opt: [a], half: [0.5], off: [null]}
"""


def resources(text: str, *overrides: str) -> TrialResources:
    spec = load_spec(f"{HEAD}resources: {text}", file="s.yaml", overrides=overrides)
    return expand_trials(spec)[0].resources


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", {}),
        (
            "{gpus: 2, cpus: 4, mem_gb: 1.5, nodes: 2}",
            {"gpus": 2, "cpus": 4, "mem_gb": 1.5, "nodes": 2},
        ),
        ("{gpus: null, cpus: 4.0}", {"cpus": 4}),
        ("{gpus: n // 4, mem_gb: n * half}", {"gpus": 2, "mem_gb": 4.0}),
        ("{gpus: '{{ n // 4 }}'}", {"gpus": 2}),
        ("{gpus: 2 if opt == 'b' else 1}", {"gpus": 1}),
        ("{gpus: off}", {}),
        ("{time: 90}", {"time_min": 90}),
        ("{time: 1.5}", {"time_min": 2}),
        ("{time: '90'}", {"time_min": 90}),
        ("{time: 01:30:00}", {"time_min": 90}),
        ("{time: 1-00:00:00}", {"time_min": 1440}),
        ("{time: 2-12}", {"time_min": 3600}),
        ("{time: n * 10}", {"time_min": 80}),
        ("{time: \"'1-0' if n > 4 else '10'\"}", {"time_min": 1440}),
        ("{gpu_type: a100}", {"gpu_type": "a100"}),
        ("{gpu_type: \"{{ 'h100' if n > 4 else 'a100' }}\"}", {"gpu_type": "h100"}),
        (
            "{sbatch: {qos: n, exclusive: true, contiguous: false, nice: 010x, comment: ''}}",
            {"sbatch": (("qos", "n"), ("exclusive", ""), ("nice", "010x"), ("comment", ""))},
        ),
        ("{sbatch: {nice: '{{ n * 10 }}', reboot: '{{ n > 9 }}'}}", {"sbatch": (("nice", "80"),)}),
    ],
)
def test_resources_literal_or_expression_gives_its_value(
    text: str, expected: dict[str, Any]
) -> None:
    assert resources(text) == TrialResources(**expected)


def test_resources_override_is_an_expression_too() -> None:
    assert resources("{gpus: 1}", "resources.gpus=min(n, 4)", "resources.time=1:30:00") == (
        TrialResources(gpus=4, time_min=90)
    )


TIMES = "use minutes, or text such as minutes, M:S, H:M:S, D-H, D-H:M or D-H:M:S"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{gpu: 1}",
            "gpu: unknown key; did you mean gpus? "
            "use gpus, gpu_type, cpus, mem_gb, time, nodes or sbatch",
        ),
        ("{gpus: -1}", "gpus: -1 is not allowed; use a whole number from 0 to 1024"),
        ("{gpus: 1.5}", "gpus: 1.5 is not allowed; use a whole number from 0 to 1024"),
        ("{gpus: true}", "gpus: true is not allowed; use a whole number from 0 to 1024"),
        ("{gpus: [1]}", "gpus: [1] is not allowed; use a whole number from 0 to 1024"),
        ("{gpus: half}", "gpus: `half`: 0.5 is not allowed; use a whole number from 0 to 1024"),
        ("{cpus: 0}", "cpus: 0 is not allowed; use a whole number from 1 to 65536"),
        ("{mem_gb: 64G}", "mem_gb: '64G' is not allowed; write the number of GB alone: 64"),
        ("{mem_gb: 0}", "mem_gb: 0 is not allowed; use GB, a number > 0"),
        ("{time: 0}", f"time: 0 is not allowed; {TIMES}"),
        ("{time: '1:2:3:4'}", f"time: '1:2:3:4' is not allowed; {TIMES}"),
        ("{time: opt}", f"time: `opt`: 'a' is not allowed; {TIMES}"),
        (
            "{time: nn}",
            "time: `nn` has the unknown name nn; did you mean n? known are n, opt, half, off",
        ),
        ("{gpu_type: a b}", "gpu_type: 'a b' is not allowed; use a name, such as a100"),
        (
            "{sbatch: {--qos: x}}",
            "sbatch.--qos: is no long option of sbatch; write its name without dashes before it",
        ),
        (
            "{sbatch: {partition: x}}",
            "sbatch.partition: is stated already; to change it use partition",
        ),
        (
            '{sbatch: {comment: "a\\n#SBATCH --qos=high"}}',
            "sbatch.comment: 'a #SBATCH --qos=high' has control characters; remove them",
        ),
        (
            "{sbatch: {comment: [1]}}",
            "sbatch.comment: [1] is not allowed; use text, a number, true or false",
        ),
    ],
)
def test_resources_mistake_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        resources(text)
    assert str(caught.value) == f"s.yaml:4: resources.{message}"
