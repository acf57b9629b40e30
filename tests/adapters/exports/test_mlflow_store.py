from pathlib import Path

import pytest

from orchestrator.adapters.exports import mlflow_store
from tests.adapters.exports.sweeps import (
    BROKEN,
    DONE,
    RUNS,
    WORSE,
    make_confirmed_source,
    make_source,
)

pytest.importorskip("mlflow")


def read(path):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{path}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "demo"]
    runs = client.search_runs([experiment.experiment_id], max_results=100)
    return client, {run.info.run_name: run for run in runs}


def test_mlflow_reads_each_trial_as_one_run_and_twice_is_once(tmp_path):
    source = make_source(str(tmp_path / "demo"))
    written = [mlflow_store.write(source, str(tmp_path / "out")) for _ in range(2)][-1]
    client, runs = read(written.paths[0])
    assert set(runs) == {DONE, WORSE, BROKEN, RUNS}
    done = runs[DONE]
    assert done.info.run_id == mlflow_store.run_id(source.sweep.root, DONE)
    assert done.info.run_id in done.info.artifact_uri
    assert [runs[name].info.status for name in (DONE, BROKEN, RUNS)] == [
        "FINISHED",
        "FAILED",
        "RUNNING",
    ]
    assert (done.data.params["lr"], done.data.params["only"]) == ("0.1", "null")
    assert done.data.metrics["loss"] == 0.25
    history = client.get_metric_history(done.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(0, 2.0), (1, 0.25)]
    # As numbers, by which MLflow can sort.
    assert done.data.metrics["sweep/attempts"] == 2
    assert done.data.metrics["sweep/rank"] == 1
    assert done.data.metrics["sweep/wall_hours"] == 2
    assert done.data.tags["orchestrator.node"] == "node1"
    assert done.info.start_time == 1767261600000
    assert "note" not in str(sorted(done.data.tags))
    assert "metrics renamed: 'a<b>|c\\\\d' is 'a_b__c_d__'" in written.notes
    assert done.data.metrics["a_b__c_d__"] == 1.5
    assert not (tmp_path / "mlruns").exists()
    assert [p.name for p in Path(tmp_path, "out").iterdir()] == ["mlflow"]


def test_mlflow_tells_runs_on_fresh_seeds_and_has_their_mean_as_a_number(tmp_path):
    source, names = make_confirmed_source(str(tmp_path / "demo"))
    client, runs = read(mlflow_store.write(source, str(tmp_path / "out")).paths[0])
    purposes = [runs[name].data.tags["orchestrator.purpose"] for name in names]
    assert purposes == ["search"] * 4 + ["confirm"] * 2
    first, fresh = runs[names[0]].data.metrics, runs[names[4]].data.metrics
    assert (first["sweep/rank"], first["sweep/loss_mean"]) == (1, 0.55)
    assert (first["sweep/confirmed_mean"], first["loss"]) == (0.5, 0.5)
    assert "sweep/rank" not in fresh
    experiment = client.get_experiment(mlflow_store.FIRST_EXPERIMENT)
    assert experiment.tags["orchestrator.standing"] == source.board.standing.words
    assert experiment.tags["mlflow.experiment.primaryMetric.name"] == "loss"


def test_mlflow_keeps_a_metric_apart_that_is_called_like_one_of_the_sweeps_own(tmp_path):
    source = make_source(str(tmp_path / "demo"), metric="sweep/rank")
    written = mlflow_store.write(source, str(tmp_path / "out"))
    client, runs = read(written.paths[0])
    done = runs[DONE]
    assert (done.data.metrics["sweep/rank"], done.data.metrics["metric/sweep/rank"]) == (1, 0.25)
    history = client.get_metric_history(done.info.run_id, "metric/sweep/rank")
    assert [(point.step, point.value) for point in history] == [(0, 2.0), (1, 0.25)]
    assert "'sweep/rank' is 'metric/sweep/rank'" in "".join(written.notes)
    experiment = client.get_experiment(mlflow_store.FIRST_EXPERIMENT)
    assert experiment.tags["mlflow.experiment.primaryMetric.name"] == "metric/sweep/rank"
