"""What an attempt that is killed alone leaves running is ended before the next program starts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from orchestrator.runtime.orphans import end_orphans, find_orphans
from tests.runtime.test_attempt import finish, make_trial, start
from tests.waiting import await_pid, is_running, wait_until

COUNTER = """
echo $$ > "$TRIAL_DIR/ready.$TRIAL_ATTEMPT"
if [ "$TRIAL_ATTEMPT" = 2 ]; then echo '{"attempt": 2}' >> "$TRIAL_METRICS"; exit 0; fi
%s
while :; do echo '{"attempt": 1}' >> "$TRIAL_METRICS"; sleep 0.05; done
"""

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")


@pytest.mark.timeout(300)
def test_program_of_a_killed_attempt_ends_before_the_next_one_starts(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    first = start(trial, "bash", "-c", COUNTER % "(trap '' TERM; exec sleep 300) & trap '' HUP")
    program = await_pid(trial / "ready.1", first)
    wait_until(lambda: len(find_orphans(str(trial), 2)) >= 2)  # with what it has started
    first.kill()
    first.wait(120)
    assert is_running(program)
    code, output = finish(start(trial, "bash", "-c", COUNTER % ":"))
    assert code == 0, output
    assert "left its program running" in output
    wait_until(lambda: not is_running(program))
    assert find_orphans(str(trial), 2) == []
    lines = (trial / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["attempt"] for line in lines][-1] == 2
    assert sum('"attempt": 2' in line for line in lines) == 1


@pytest.mark.timeout(300)
def test_other_trials_and_later_attempts_are_no_orphans(tmp_path: Path) -> None:
    trial, other = make_trial(tmp_path), make_trial(tmp_path, "00008-abcdef0123")
    process = start(other, "bash", "-c", 'echo $$ > "$TRIAL_DIR/ready"; exec sleep 300')
    program = await_pid(other / "ready", process)
    assert find_orphans(str(trial), 99) == []
    assert find_orphans(str(other), 1) == []
    assert find_orphans(str(other), 2) == [program]
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "trials")
    assert find_orphans(str(link / other.name), 2) == [program]
    said: list[str] = []
    end_orphans(str(other), 2, 60.0, said.append, lambda: False)  # the trial is another's by now
    assert len(said) == 1
    assert finish(process)[0] != 0
    assert not is_running(program)


def test_no_orphans_where_nothing_tells(tmp_path: Path) -> None:
    said: list[str] = []
    end_orphans(str(tmp_path), 2, 60.0, said.append)
    assert said == []
