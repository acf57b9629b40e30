"""The canary on a machine without Slurm: it runs first, and the rest only after it passed."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.test_local_sweep import SPEC, type_

# The first trial's attempt $ENDLESS counts until it is told to stop, however late that is.
COUNT = """\
#!/bin/bash
state="$TRIAL_CHECKPOINT_DIR/step"
step=$(cat "$state" 2>/dev/null || echo 0)
trap 'echo $step > "$state"; exit 75' TERM
last=$((step + 1))
while [ "$step" -lt "$last" ] || [ "$TRIAL_NUMBER-$TRIAL_ATTEMPT" = "0-$ENDLESS" ]; do
  step=$((step + 1))
  echo "{\\"loss\\": $((100 - step)), \\"step\\": $step}" >> "$TRIAL_METRICS"
  sleep 0.2 & wait $!
done
"""


def make(folder: Path, program: str) -> None:
    (folder / "sweep.yaml").write_text(SPEC + "canary: 1\n")
    (folder / "count.sh").write_text(program)


def trials(folder: Path) -> list[Path]:
    return sorted((folder / "results/sweep/trials").iterdir())


def test_local_canary_that_fails_keeps_the_rest_and_release_runs_all(tmp_path: Path) -> None:
    make(tmp_path, "#!/bin/bash\necho 'no data' >&2; exit 3\n")
    code, out, err = type_(tmp_path, "submit", "sweep.yaml", "--json")
    assert code == 1, err
    report = json.loads(out)
    first, *rest = trials(tmp_path)
    assert f"canary {first.name} failed: exit code 3: no data" in report["paused"]
    assert not any((trial / "attempts").exists() for trial in rest)
    _, out, _ = type_(tmp_path, "status")
    assert f"canary {first.name} failed" in out
    assert "make release" in out

    (tmp_path / "count.sh").write_text(COUNT)
    code, out, err = type_(tmp_path, "release", "--json", ENDLESS="2")
    assert code == 0, err
    assert all((trial / "result.json").exists() for trial in trials(tmp_path))
    verdict = tmp_path / f"results/sweep/gate/canary/{first.name}.json"
    assert json.loads(verdict.read_text())["passed"]


def test_local_canary_passes_and_the_rest_follows(tmp_path: Path) -> None:
    make(tmp_path, COUNT)
    code, _, err = type_(tmp_path, "submit", "sweep.yaml", "--json", ENDLESS="1")
    assert code == 0, err
    done = [json.loads((trial / "result.json").read_text()) for trial in trials(tmp_path)]
    assert [len(result["attempts"]) for result in done] == [2, 1, 1]
    began = [result["attempts"][0]["started_at"] for result in done]
    verdicts = tmp_path / "results/sweep/gate/canary"
    passed = json.loads((verdicts / f"{done[0]['trial']}.json").read_text())
    assert began[0] < passed["at"] <= min(began[1:])
    code, out, _ = type_(tmp_path, "submit", "sweep.yaml", "--json")
    assert (code, json.loads(out)["canary"]) == (0, None)


def test_one_release_is_enough_for_several_canaries_that_failed(tmp_path: Path) -> None:
    both = f"touch {tmp_path}/on-$TRIAL_NUMBER; until [ -e {tmp_path}/on-0 -a -e {tmp_path}/on-1 ]"
    make(tmp_path, f"#!/bin/bash\n{both}; do sleep 0.1; done\necho $TRIAL_NUMBER; exit 3\n")
    with open(tmp_path / "sweep.yaml", "a") as file:
        file.write("max_concurrent: 2\n")
    code, out, err = type_(tmp_path, "submit", "sweep.yaml", "canary=2", "--json")
    assert (code, json.loads(out)["submitted"]) == (1, 2), err
    (tmp_path / "count.sh").write_text(COUNT)
    code, out, err = type_(tmp_path, "release", "--json", ENDLESS="2")
    assert (code, json.loads(out)["submitted"]) == (0, 3), err
    assert all((trial / "result.json").exists() for trial in trials(tmp_path))
