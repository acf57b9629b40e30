from orchestrator.contract.records import COMMITTED, FAILED, PREEMPTED
from orchestrator.contract.states import TrialState
from orchestrator.domain.figures import timeline
from orchestrator.domain.figures.timeline import Bar, build_timeline, count_running, pack_lanes
from tests.domain.figures.boards import attempt, trial


def bar(start_s, end_s, end=COMMITTED, name="t", number=1):
    return Bar(start_s, end_s, end, name, number, False)


def test_pack_lanes_reuses_the_lowest_free_row():
    bars = [bar(0, 10), bar(1, 5), bar(5, 8), bar(6, 7), bar(10, 12)]
    assert pack_lanes(bars) == [0, 1, 1, 2, 0]


def test_count_running_merges_what_begins_as_another_ends():
    assert count_running([bar(0, 10), bar(5, 10), bar(10, 12)]) == ([0, 5, 10, 12], [1, 2, 1, 0])


def test_count_running_of_very_many_keeps_the_peak(monkeypatch):
    monkeypatch.setattr(timeline, "_MAX_STEPS", 10)
    bars = [bar(i, i + 1.5) for i in range(100)] + [bar(50.2, 50.3), bar(50.2, 50.4)]
    times, counts = count_running(bars)
    assert len(times) <= 11
    assert (max(counts), counts[-1], times[-1]) == (4, 0, 100.5)


def test_build_timeline_attempts_gaps_and_ends():
    first = trial(1, 1.0, [attempt(1, 0, 100, PREEMPTED), attempt(2, 700, 100)])
    dead = attempt(1, 50, outcome=None, heartbeat_at=90.0, claimed_at=50.0)
    lost, running = trial(2, None, [dead]), trial(3, None, [attempt(1, 60, outcome=None)])
    failed = trial(4, None, [attempt(1, 10, 20, FAILED)])
    states = {running.name: TrialState.RUNNING, lost.name: TrialState.LOST}
    figure = build_timeline([first, lost, running, failed], states, 1000.0)
    data = figure.data
    ends = [data["ends"][code] for code in data["end"]]
    assert ends == ["preempted", "failed", "killed", "running", "committed"]
    assert (data["start"], data["length"]) == ([0, 10, 50, 60, 700], [100, 20, 40, 940, 100])
    assert data["guessed"] == [2]
    assert [data["trials"][i] for i in data["interrupted"]] == ["00001-aaaa"]
    assert "1 went on after a gap of 10 min" in figure.table


def test_build_timeline_of_very_many_keeps_what_went_wrong(monkeypatch):
    monkeypatch.setattr(timeline, "MAX_ATTEMPTS", 3)
    trials = [trial(i, 1.0, [attempt(1, i, 10 + i)]) for i in range(5)]
    trials.append(trial(9, None, [attempt(1, 3, 1, FAILED)]))
    figure = build_timeline(trials, {}, 100.0)
    names = [figure.data["trials"][i] for i in figure.data["trial"]]
    assert names == ["00003-aaaa", "00009-aaaa", "00004-aaaa"] or sorted(names) == [
        "00003-aaaa", "00004-aaaa", "00009-aaaa",
    ]  # fmt: skip
    assert "3 of 6 attempts" in figure.caption
    assert figure.table.startswith("6 attempts: 5 committed, 1 failed")


def test_build_timeline_without_times_says_why():
    assert build_timeline([trial(1)], {}, 0.0).data == {"reason": "No attempt has started yet."}
    silent = attempt()._replace(started_at=None, wall_s=None, ended_at=None)
    assert "None of 1 attempts" in build_timeline([trial(1, None, [silent])], {}, 0).data["reason"]
