import math
import warnings
from pathlib import Path

from tensorboard.backend.event_processing import plugin_event_multiplexer
from tensorboard.plugins.hparams import api_pb2, metadata

from orchestrator.adapters.exports import hparams
from orchestrator.adapters.exports.source import ExportSource
from orchestrator.adapters.trial_dir import scan_trials
from tests.adapters.exports.sweeps import (
    BROKEN,
    DONE,
    EVIL_METRIC,
    RUNS,
    WORSE,
    make_confirmed_source,
    make_source,
)
from tests.boards import make_board
from tests.trial_writer import add_trial, make_sweep


def read(path):
    """Read a folder as TensorBoard's own server does."""
    runs = plugin_event_multiplexer.EventMultiplexer()
    runs.AddRunsFromDirectory(path)
    runs.Reload()
    return runs


def content(runs, run, tag):
    return runs.SummaryMetadata(run, tag).plugin_data.content


def test_hparams_are_read_back_by_tensorboard(tmp_path):
    source = make_source(str(tmp_path / "demo"))
    (path,) = hparams.write(source, str(tmp_path / "out")).paths
    runs = read(path)
    assert set(runs.Runs()) == {".", DONE, WORSE, BROKEN, RUNS}
    experiment = metadata.parse_experiment_plugin_data(content(runs, ".", metadata.EXPERIMENT_TAG))
    assert [info.name for info in experiment.hparam_infos] == ["lr", "text", "only", "n", "flag"]
    assert next(info.name.tag for info in experiment.metric_infos) == "loss"
    start = metadata.parse_session_start_info_plugin_data(
        content(runs, DONE, metadata.SESSION_START_INFO_TAG)
    )
    assert start.hparams["lr"].number_value == 0.1
    assert start.hparams["flag"].bool_value is True
    assert start.hparams["text"].string_value.startswith("=cmd|' /C calc'!A0 <script>")
    assert start.start_time_secs == 1767261600.0
    ends = {
        run: metadata.parse_session_end_info_plugin_data(
            content(runs, run, metadata.SESSION_END_INFO_TAG)
        ).status
        for run in (DONE, BROKEN, RUNS)
    }
    assert ends == {
        DONE: api_pb2.STATUS_SUCCESS,
        BROKEN: api_pb2.STATUS_FAILURE,
        RUNS: api_pb2.STATUS_RUNNING,
    }
    scalars = [(e.step, float(e.tensor_proto.float_val[0])) for e in runs.Tensors(DONE, "loss")]
    assert scalars == [(0, 2.0), (1, 0.25)]  # the committed value is the last
    (only,) = runs.Tensors(DONE, EVIL_METRIC.replace("\n\u202e", "\n"))
    assert only.tensor_proto.float_val[0] == 1.5


def test_hparams_twice_give_the_same_bytes(tmp_path):
    source = make_source(str(tmp_path / "demo"))
    found = []
    for _ in range(2):
        (path,) = hparams.write(source, str(tmp_path / "out")).paths
        files = sorted(p for p in Path(path).rglob("*") if p.is_file())
        found.append({str(p.relative_to(path)): p.read_bytes() for p in files})
    assert found[0] == found[1]


def test_parameters_are_described_so_that_the_tab_can_filter_and_leads_with_those_that_vary(
    tmp_path,
):
    sweep = make_sweep(str(tmp_path / "demo"), parameters=("lr", "mixed", "wide", "word"))
    fixed = {"alone": "same", "flag": True}
    add_trial(sweep, DONE, {"lr": 0.5, "mixed": 1, "wide": 2, "word": "x"} | fixed, {"loss": 1})
    add_trial(
        sweep, WORSE, {"lr": 2, "mixed": "a", "wide": float("inf"), "word": "y"} | fixed,
        {"loss": 2},
    )  # fmt: skip
    trials = scan_trials(sweep)
    source = ExportSource(sweep, make_board(trials), trials)
    (path,) = hparams.write(source, str(tmp_path / "out")).paths
    runs = read(path)
    experiment = metadata.parse_experiment_plugin_data(content(runs, ".", metadata.EXPERIMENT_TAG))
    infos = {info.name: info for info in experiment.hparam_infos}
    assert {name: info.differs for name, info in infos.items()} == {
        "lr": True, "mixed": True, "wide": True, "word": True, "alone": False, "flag": False,
    }  # fmt: skip
    assert infos["lr"].type == api_pb2.DATA_TYPE_FLOAT64
    assert (infos["lr"].domain_interval.min_value, infos["lr"].domain_interval.max_value) == (
        0.5,
        2,
    )
    assert infos["flag"].type == api_pb2.DATA_TYPE_BOOL
    assert list(infos["flag"].domain_discrete) == [True]
    assert list(infos["word"].domain_discrete) == ["x", "y"]
    # Of several kinds, all are text; a number that is not finite is text in the trial's file.
    assert list(infos["mixed"].domain_discrete) == ["1", "a"]
    for run, mixed, wide in ((DONE, "1", "2"), (WORSE, "a", "inf")):
        start = metadata.parse_session_start_info_plugin_data(
            content(runs, run, metadata.SESSION_START_INFO_TAG)
        )
        assert start.hparams["mixed"].string_value == mixed
        assert start.hparams["wide"].string_value == wide


def test_runs_on_fresh_seeds_are_in_a_folder_of_their_own(tmp_path):
    source, names = make_confirmed_source(str(tmp_path / "demo"))
    (path,) = hparams.write(source, str(tmp_path / "out")).paths
    expected = {".", *names[:4], *(f"confirm/{name}" for name in names[4:])}
    assert set(read(path).Runs()) == expected


def test_metric_beyond_32_bits_is_infinite_there_and_no_warning_says_so(tmp_path):
    sweep = make_sweep(str(tmp_path / "demo"))
    add_trial(sweep, DONE, {"lr": 0.1}, {"loss": 1e308})
    trials = scan_trials(sweep)
    source = ExportSource(sweep, make_board(trials), trials)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (path,) = hparams.write(source, str(tmp_path / "out")).paths
    (event,) = read(path).Tensors(DONE, "loss")
    assert event.tensor_proto.float_val[0] == math.inf
