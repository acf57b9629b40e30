"""What a trial says about itself: bounded curves, times that add up, event files."""

import math

import pytest
from spacing import is_due, space_out

pytestmark = pytest.mark.train


@pytest.mark.parametrize(
    ("every", "max_steps", "max_reports", "spacing"),
    [
        (100, 2000, 2000, 100),
        (1, 5_000_000, 2000, 2500),
        (7, 40, 5, 7),
        (7, 40, 4, 14),
        (7, 40, 1, 35),
        (1000, 40, 1, 1000),
        (0, 40, 1, 0),
    ],
)
def test_reports_are_spaced_out_to_fit(every, max_steps, max_reports, spacing):
    assert space_out(every, max_steps, max_reports) == spacing
    n_reports = sum(is_due(step, spacing) for step in range(1, min(max_steps, 10**5) + 1))
    assert n_reports <= max_reports


def test_metrics_file_is_bounded(train_here):
    trial = train_here("few", logging_steps=1, eval_steps=10, max_reports=3)
    curve = trial.metrics()
    assert [line["step"] for line in curve if "train_loss" in line] == [14, 28, 40]
    assert [line["step"] for line in curve if "eval_loss" in line] == [20, 40, 40]


def test_mean_loss_of_reports_that_are_left_out_is_in_the_next(train_here):
    every = train_here("every", logging_steps=1, max_steps=20)
    some = train_here("some", logging_steps=1, max_steps=20, max_reports=4)
    losses = [line["train_loss"] for line in every.metrics() if "train_loss" in line]
    seen = [line["train_loss"] for line in some.metrics() if "train_loss" in line]
    means = [sum(losses[i : i + 5]) / 5 for i in range(0, 20, 5)]
    assert len(seen) == 4
    assert seen == pytest.approx(means, rel=1e-5)
    assert some.weights() == every.weights()


def test_times_add_up_and_all_is_measured(train_here):
    last = train_here("a").last()
    phases = ("data", "compute", "checkpoint", "evaluation")
    times = [last[f"time_{phase}_s"] for phase in phases]
    assert all(seconds > 0 for seconds in times)
    assert math.fsum(times) == pytest.approx(last["run_time_s"], rel=1e-12)
    assert last["startup_total_s"] == last["startup_time_s"] > 0
    assert last["peak_host_memory_gb"] == last["peak_memory_gb"] > 0  # without a GPU
    assert last["achieved_tflops"] > 0
    assert last["current_achieved_tflops"] > 0
    assert last["current_tokens_per_second"] > 0
    for name in ("mfu", "current_mfu", "peak_gpu_memory_gb", "gpu_utilization_percent"):
        assert name not in last


def read_events(trial):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trial.root / "tensorboard"))
    events.Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


def reported(trial):
    """The metrics file in the form of ``read_events``."""
    tags = {}
    for line in trial.metrics():
        for name, value in line.items():
            if name != "step":
                tags.setdefault(name, []).append((line["step"], pytest.approx(value, rel=1e-6)))
    return tags


def test_event_file_holds_what_is_reported(train_here):
    trial = train_here("board", tensorboard=True)
    assert read_events(trial) == reported(trial)
    assert len(list((trial.root / "tensorboard").iterdir())) == 1


def test_no_event_file_unless_asked_for(train_here):
    trial = train_here("none", max_steps=2)
    assert not (trial.root / "tensorboard").exists()


def test_resumed_trial_shows_no_step_twice(make_trial):
    trial = make_trial("cut", tensorboard=True)
    process = trial.start(slow_after=35)
    trial.wait_for_step(process, 35)  # five steps after the checkpoint of step 30
    process.kill()  # without notice
    process.wait(timeout=300)
    trial.run()
    assert read_events(trial) == reported(trial)
    assert len(list((trial.root / "tensorboard").iterdir())) == 2
    last, startups = trial.last(), ("startup_time_s", "startup_total_s")
    assert last[startups[1]] > last[startups[0]], "both attempts had to start"
    times = [v for k, v in last.items() if k.startswith("time_")]
    assert math.fsum(times) == pytest.approx(last["run_time_s"], rel=1e-12)


def test_report_for_people_is_short_and_tells_nothing_twice():
    from reporting import describe_report

    loss = {"eval_loss": 6.824195361091452, "tokens_per_second": 9812.4}
    assert describe_report(2, 9, loss, {}) == "step 2/9: eval_loss 6.824, tokens_per_second 9812"
    large = {"steps": 12345, "speed": 123456.7, "rate": 3e-05, "gone": math.nan}
    assert describe_report(1, 1, large, {}) == (
        "step 1/1: steps 12345, speed 123457, rate 3e-05, gone nan"
    )
    told = {"eval_loss": 6.824195361091452}
    assert describe_report(2, 9, loss, told) == "step 2/9: tokens_per_second 9812"


def test_at_a_terminal_reports_are_words_that_fit_it(train_here, monkeypatch, capsys):
    import reporting

    monkeypatch.setattr(reporting, "is_watched", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    trial = train_here("hand", max_steps=2, eval_steps=0)
    lines = capsys.readouterr().out.splitlines()
    assert trial.metrics() == []
    assert max(map(len, lines)) <= 80
    assert [line[:8] for line in lines if line.startswith("step")] == ["step 2/2"] * 3
    assert "\n".join(lines).count("eval_loss") == 1
    assert "{" not in "".join(lines)
