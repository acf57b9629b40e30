"""Results of other tools become a leaderboard: files made by the tools themselves, and bad ones."""

import csv
import json
import os
import subprocess
import sys
import warnings

import optuna
import pandas as pd
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from orchestrator.adapters.trial_dir import scan_sweep
from orchestrator.cli.main import run
from orchestrator.contract.errors import UserError
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.states import TrialState
from orchestrator.usecases import workspace
from orchestrator.usecases.import_results import ImportOptions, import_results
from orchestrator.usecases.observe import observe
from tests.trial_writer import make_sweep

DONE, FAILED, PRUNED, UNKNOWN = (
    TrialState.DONE,
    TrialState.FAILED,
    TrialState.CANCELLED,
    TrialState.UNKNOWN,
)
# As the runs table of W&B downloads it: its own columns, then config and summary, not told apart.
WANDB_TABLE = """\
"Name","State","Notes","User","Created","Runtime","Sweep","lr","optimizer","seed","val/loss","acc"
"sun-3","finished","-","ann","2026-01-02T10:00:00.000Z","3600","a1","0.1","adam","1","0.5","0.9"
"sea-2","finished","-","ann","2026-01-02T10:00:00.000Z","1800","a1","0.1","adam","2","0.7","0.8"
"=cmd|' /C c'!A0","crashed","-","ann","2026-01-02T10:00:00.000Z","60","a1","0.2","sgd","1","",""
"late","running","-","ann","2026-01-02T10:00:00.000Z","60","a1","0.2","sgd","2","3.5","0.1"
"""
LOSS = (("loss", "minimize"),)


@pytest.fixture
def results(tmp_path):
    return str(tmp_path / "results")


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return str(path)


def take(results, source, **options):
    return import_results(results, source, ImportOptions(**options))


def states(done):
    """Where each run stands and why, by trial number."""
    seen = observe(done.sweep)
    return {
        trial.number: (seen.states[trial.name], seen.reasons.get(trial.name, ""))
        for trial in seen.trials
    }


def runs(done):
    return {trial.number: trial for trial in scan_sweep(done.sweep).trials}


def make_study(storage, name="mine"):
    def objective(trial):
        lr = trial.suggest_float("lr", 0.1, 0.9)
        trial.suggest_categorical("optimizer", ["adam", None])
        trial.report(lr * 2, 7)
        trial.set_user_attr("acc", 0.5)
        trial.set_user_attr("weights", [1, 2])
        if trial.number == 1:
            raise optuna.TrialPruned
        if trial.number == 2:
            raise ValueError("x")
        return lr

    study = optuna.create_study(
        storage=storage, study_name=name, sampler=optuna.samplers.RandomSampler(seed=0)
    )
    study.optimize(objective, n_trials=4, catch=(ValueError,))
    study.ask()  # one that still runs
    return study


def journal(path):
    return JournalStorage(JournalFileBackend(path))


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_import_of_an_optuna_study_has_its_values_states_and_curves(tmp_path, results, kind):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = tmp_path / "my study.log"
    storage = f"sqlite:///{path}"
    if kind == "journal":
        storage = journal(str(path))
    study = make_study(storage)
    before = path.read_bytes(), sorted(os.listdir(tmp_path))
    done = take(results, str(path))
    assert (path.read_bytes(), sorted(os.listdir(tmp_path))[:-1]) == (before[0], before[1])
    assert (done.sweep.name, done.kind, done.n_runs) == ("my-study", "Optuna study 'mine'", 5)
    assert states(done) == {
        0: (DONE, ""),
        1: (PRUNED, "pruned at step 7"),
        2: (FAILED, "failed at step 7"),
        3: (DONE, ""),
        4: (UNKNOWN, "running when it was imported"),
    }
    first = runs(done)[0]
    assert first.params == study.trials[0].params
    assert first.metrics == {"acc": 0.5, "value": study.trials[0].value}
    assert (first.last_step, len(first.attempts)) == (7, 1)
    with open(done.sweep.trial(first.name).metrics) as file:
        assert json.loads(file.read()) == {"step": 7, "value": study.trials[0].value * 2}
    with open(done.sweep.summary) as file:
        assert json.load(file)["metric"] == {"name": "value", "goal": "minimize"}


def test_import_of_one_of_several_studies_with_two_objectives(tmp_path, results):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = tmp_path / "s.db"
    make_study(f"sqlite:///{path}", "one")
    both = optuna.create_study(
        storage=f"sqlite:///{path}", study_name="two", directions=["maximize", "minimize"]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        both.set_metric_names(["f1", "cost"])
    both.optimize(lambda t: (t.suggest_float("x", 0, 1), 2.0), n_trials=2)
    with pytest.raises(UserError, match=r"2 studies are in it; name one .*: one, two"):
        take(results, str(path))
    with pytest.raises(UserError, match="no study 'three' in it; there are: one, two"):
        take(results, str(path), study="three")
    done = take(results, str(path), study="two")
    with open(done.sweep.summary) as file:
        summary = json.load(file)
    assert summary["metric"] == {"name": "f1", "goal": "maximize"}
    assert [entry["name"] for entry in summary["objectives"]] == ["f1", "cost"]
    assert runs(done)[1].metrics["cost"] == 2.0
    # The study that was named is remembered.
    assert take(results, str(path)).kind == "Optuna study 'two'"


def test_import_of_a_second_study_of_a_file_does_not_replace_the_first(tmp_path, results):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = str(tmp_path / "s.log")
    make_study(journal(path), "one")
    first = take(results, path)  # the only one so far
    make_study(journal(path), "two")
    with pytest.raises(UserError, match=r"/s was imported from the study 'one'; give this one a n"):
        take(results, path, study="two")
    assert take(results, path).kind == "Optuna study 'one'", "still the one that it was"
    assert take(results, path, study="two", name="s-two").sweep.name == "s-two"
    assert take(results, path, name="s-two").kind == "Optuna study 'two'"
    assert take(results, path, study="two", name="s").sweep.root == first.sweep.root, "as asked for"


def test_import_is_offered_nothing_that_cannot_be_done(tmp_path, results, capsys):
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    path = str(tmp_path / "s.log")
    make_study(journal(path))  # done, failed, pruned and running trials
    assert run(["collect", "--from", path, "--results", results]) == 1
    assert "only runs of the best on fresh seeds would tell" in capsys.readouterr().out
    words = ["--results", results]
    for line in [
        ["collect", "s"],
        ["costs", "s"],
        ["status", "s"],
        ["watch", "s", "--once"],
        ["failures", "s"],
        *(["explain", "s", "--trial", str(number)] for number in range(5)),
    ]:
        run([*line, *words])
        out = capsys.readouterr().out
        for command in ("confirm", "submit", "supervise", "release", "logs"):
            assert f"make {command}" not in out, line
        assert "trial.sbatch" not in out, line
    assert run(["report", "s", *words]) == 0
    page = (tmp_path / "results/s/report.html").read_text()
    assert "was imported: only what made it can run it again" in page
    for command in ("confirm", "reproduce", "submit"):
        assert f"make {command}" not in page
    capsys.readouterr()
    for line in (["confirm"], ["release"], ["supervise"], ["reproduce", "--trial", "0"]):
        assert run([line[0], "s", *line[1:], *words]) == 2
        err = capsys.readouterr().err
        assert "s holds imported results, of which nothing can be run here" in err
        assert err.count("\n") == 1


@pytest.mark.parametrize("losses", [(1.0,), (1.0, 1.1), (1.0, 1.1, 5.0, 5.1), (1.0, 2.0, 1.5, 1.6)])
def test_import_has_nothing_to_confirm_however_sure_it_is(tmp_path, results, capsys, losses):
    lines = [f"{n // 2},{n % 2},{loss}" for n, loss in enumerate(losses)]
    path = write(tmp_path / "x.csv", "\n".join(["lr,seed,loss", *lines]))
    words = ["--from", path, "--param", "lr", "--objective", "loss:minimize", "--results", results]
    assert run(["collect", *words]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "only runs of the best on fresh seeds would tell" in out
    assert "make confirm" not in out


def test_import_is_called_like_its_file_in_any_script(tmp_path, results):
    path = write(tmp_path / "wandb 表.csv", WANDB_TABLE)
    with pytest.raises(UserError, match=r"there are: lr, optimizer, val/loss, acc; seed is one al"):
        take(results, path)
    how = {"params": ("lr", "optimizer"), "objectives": (("acc", "maximize"),)}
    assert take(results, path, **how).sweep.name == "wandb-表"


def test_import_of_wandbs_runs_table_needs_to_be_told_the_parameters(tmp_path, results):
    path = write(tmp_path / "wandb_export_2026-01-02.csv", WANDB_TABLE)
    with pytest.raises(UserError, match=r"tell parameters from metrics; .*: lr, optimizer, "):
        take(results, path, objectives=(("val/loss", "minimize"),))
    with pytest.raises(UserError, match=r"which metric counts; .*--objective .*: val/loss, acc"):
        take(results, path, params=("lr", "optimizer"))
    with pytest.raises(UserError, match="no run has a metric 'loss'; did you mean val/loss"):
        take(results, path, params=("lr", "optimizer"), objectives=LOSS)
    with pytest.raises(UserError, match="--param: no run has 'optimiser'; did you mean optimizer"):
        take(results, path, params=("lr", "optimiser"), objectives=(("val/loss", "minimize"),))
    assert not os.path.exists(results)  # nothing was written for a mistake
    done = take(results, path, params=("lr", "optimizer"), objectives=(("val/loss", "minimize"),))
    assert (done.kind, done.notes) == ("W&B export", ("seed numbers repeats",))
    assert states(done) == {
        0: (DONE, ""),
        1: (DONE, ""),
        2: (FAILED, "crashed"),
        3: (UNKNOWN, "running when it was imported"),
    }
    first = runs(done)[0]
    assert first.params == {"lr": 0.1, "optimizer": "adam", "seed": 1}
    assert first.metrics == {"val/loss": 0.5, "acc": 0.9}
    assert first.attempts[0].wall_s == 3600
    with open(done.sweep.summary) as file:
        summary = json.load(file)
    assert (summary["seeded"], summary["parameters"]) == (True, ["lr", "optimizer", "seed"])


def test_import_of_api_runs_as_wandbs_documentation_exports_them(tmp_path, results):
    config = [{"lr": 0.1, "_wandb": {}}, {"lr": 0.2, "layers": [1, 2]}]
    summary = [
        {"loss": float("nan"), "_runtime": 12, "_step": 9, "_timestamp": 1.7e9},
        {"loss": 0.5, "_runtime": 34.5, "hist": {"_type": "histogram"}, "val": {"f1": 1}},
    ]
    frame = pd.DataFrame({"summary": summary, "config": config, "name": ["a", "b"]})
    path = tmp_path / "project.csv"
    frame.to_csv(path)
    rows = [
        {"name": n, "state": "finished", "config": c, "summary": s}
        for n, c, s in zip("ab", config, summary, strict=True)
    ]
    listed = write(tmp_path / "runs.json", rows)
    lines = write(tmp_path / "lines.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    for source in (str(path), listed, lines):
        done = take(results, source, objectives=LOSS)
        found = runs(done)
        assert found[0].params == {"lr": 0.1}
        assert found[1].params == {"lr": 0.2, "layers": [1, 2]}
        assert found[0].metrics == {"loss": "nan"}
        assert found[1].metrics == {"loss": 0.5, "val.f1": 1}
        assert [found[n].attempts[0].wall_s for n in (0, 1)] == [12, 34.5]


def test_import_of_python_in_a_cell_executes_nothing(tmp_path, results):
    mark = tmp_path / "mark"
    cell = f"{{'lr': __import__('os').system('touch {mark}'), 'n': (1, -2), 'x': nan}}"
    path = tmp_path / "project.csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([["config", "summary"], [cell, "{'loss': -inf}"], ["{", "{}"]])
    done = take(results, str(path), objectives=LOSS)
    assert not mark.exists()
    (only,) = runs(done).values()
    assert only.params["lr"].startswith("__import__")
    assert (only.params["n"], only.metrics) == ([1, -2], {"loss": "-inf"})
    assert len(done.problems) == 1
    assert done.problems[0].startswith("line 3: '{' cannot be read")


def test_import_of_a_folder_of_runs_in_every_layout(tmp_path, results):
    folder = tmp_path / "mine"
    write(folder / "a/params.json", {"lr": 0.1, "random_state": 1})
    write(folder / "a/metrics.json", {"loss": 0.5})
    write(folder / "b/config.json", {"lr": 0.1, "random_state": 2})
    write(folder / "b/metrics.jsonl", '{"step": 1, "loss": 3}\n{"step": 2, "loss": 0.25}\n')
    write(folder / "c/run-1.json", {"hyperparameters": {"lr": 0.3}, "results": {"loss": 7}})
    write(folder / "d.json", {"params": {"lr": 0.4}, "loss": 9, "status": "failed", "runtime": 5})
    done = take(results, str(folder), objectives=LOSS)
    assert done.problems == ()
    assert {run.params["lr"]: run.metrics.get("loss") for run in runs(done).values()} == {
        0.1: 0.25,
        0.3: 7,
        0.4: None,
    }
    found = runs(done)
    # The folder's own file comes first, as it is looked at before folders within.
    assert states(done)[0] == (FAILED, "failed")
    assert [found[n].params.get("seed") for n in range(4)] == [None, 1, 2, None]
    assert done.notes == ("random_state numbers repeats",)
    with open(done.sweep.trial(found[2].name).metrics) as file:
        assert len(file.readlines()) == 2


def test_import_of_malformed_files_names_each_once_and_takes_the_others(tmp_path, results):
    folder = tmp_path / "mine"
    write(folder / "good.json", {"params": {"lr": 1}, "metrics": {"loss": 1}})
    write(folder / "list.json", "[1, 2]")
    write(folder / "cut.json", '{"params": {"lr": 1}, "met')
    write(folder / "twice.json", '{"params": {}, "params": {}}')
    write(folder / "deep.json", "[" * 100_000)
    write(folder / "half/metrics.json", "nonsense")
    (folder / "binary.json").write_bytes(b"\x80\x04\x95\x00")
    os.symlink("/etc/passwd", folder / "link.json")
    os.mkfifo(folder / "pipe.json")
    done = take(results, str(folder), objectives=LOSS)
    assert done.n_runs == 1
    named = sorted(problem.partition(":")[0] for problem in done.problems)
    assert named == [
        "binary.json",
        "cut.json",
        "deep.json",
        "half/metrics.json",
        "link.json",
        "list.json",
        "pipe.json",
        "twice.json",
    ]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("x.csv", b"", "empty"),
        ("x.csv", b"\xff\xfe\x00", "neither a study"),
        ("x.csv", b"a,b\n1\xff,2\n", "line 2: not UTF-8"),
        ("x.csv", b"just text\n", "its first line has 1 columns"),
        ("x.csv", b"a,a\n1,2\n", "two columns are called 'a'"),
        ("x.csv", b"a,b\n1\n", "no run in it that can be used; line 2: 1 cells"),
        (
            "x.py",
            b"import a, b\ns = 1\ndef f(a, b):\n    return 1\nfor b in (1, 2, 3):\n    pass\n",
            "no table with commas: of its 5 rows 4 have another number of cells than the header, "
            "2; line 2: 1 cells",
        ),
        ("x.json", b"{", "no JSON"),
        ("x.json", b"[]", "no run in it"),
        ("x.db", b"SQLite format 3\0 and no more", "Optuna cannot read it"),
        ("x.log", b'{"op_code": 0, "worker_id": "a"}\n', "Optuna cannot read it"),
        (
            "x.log",
            b'{"op_code": 99, "worker_id": "a"}\n{"op_code',
            "Optuna cannot read it|no study",
        ),
    ],
)
def test_import_of_what_is_none_of_it_is_one_line(tmp_path, results, name, data, words):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UserError, match=words) as caught:
        take(results, str(path), params=("b",), objectives=LOSS)
    assert "\n" not in str(caught.value)
    assert not os.path.exists(results)


def test_import_of_what_is_not_there(tmp_path, results):
    with pytest.raises(UserError, match="there is no such file or folder"):
        take(results, str(tmp_path / "x.csv"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no \.json or \.jsonl file there"):
        take(results, str(tmp_path / "empty"))


def test_import_again_keeps_numbers_and_takes_what_is_new(tmp_path, results):
    header = "Name,State,Runtime,Created,config.lr,summary.loss\n"
    first, second = "a,finished,1,,0.1,1\n", "b,finished,1,,0.2,2\n"
    path = write(tmp_path / "x.csv", header + first + second)
    before = runs(take(results, path, objectives=LOSS))
    # W&B lists the newest first; one is gone, and the objective is remembered.
    write(tmp_path / "x.csv", header + "c,finished,1,,0.3,3\n" + second)
    again = runs(take(results, path))
    assert {n: run.params["lr"] for n, run in again.items()} == {1: 0.2, 2: 0.3}
    assert again[1].name == before[1].name
    other = write(tmp_path / "other/x.csv", header + first)
    with pytest.raises(UserError, match=r"was imported from .*; give this one a name"):
        take(results, other, objectives=LOSS)
    assert len(runs(take(results, other, name="x"))) == 1
    assert not [name for name in os.listdir(f"{results}/x") if name.startswith(".importing")]


def test_import_after_a_kill_halfway_goes_on(tmp_path, results):
    path = write(tmp_path / "x.jsonl", '{"params": {"a": 1}, "loss": 1}\n')
    done = take(results, path, objectives=LOSS)
    os.rename(done.sweep.trials, f"{done.sweep.root}/.importing-left")
    assert take(results, path).n_runs == 1
    assert sorted(os.listdir(done.sweep.trials)) == [runs(done)[0].name]
    assert not os.path.exists(f"{done.sweep.root}/.importing-left")


def test_import_never_touches_a_sweep_and_nothing_is_submitted_to_an_import(tmp_path, results):
    sweep = make_sweep(f"{results}/x")
    os.chmod(sweep.root, 0o700)
    path = write(tmp_path / "x.jsonl", '{"params": {"a": 1}, "loss": 1}\n')
    with pytest.raises(UserError, match="is a sweep that was submitted; choose another --name"):
        take(results, path, objectives=LOSS)
    done = take(results, path, objectives=LOSS, name="y")
    with pytest.raises(UserError, match=r"can be run here: .* or give a sweep of your own"):
        workspace.create_sweep(results, "y")
    assert isinstance(done.sweep, SweepPaths)
    for name in ("../z", "a/b", "", ".", "-x"):
        with pytest.raises(UserError, match="is not allowed as a name"):
            take(results, path, objectives=LOSS, name=name) if name else workspace.check_name(name)


def test_import_without_optuna_at_hand_loads_no_optuna():
    code = (
        "import sys, orchestrator.cli.collect, orchestrator.usecases.import_results;"
        "print('optuna' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "False"


def test_collect_of_an_import_as_a_person_types_it(tmp_path, results, capsys):
    path = write(tmp_path / "wandb.csv", WANDB_TABLE)

    def type_(*words):
        code = run([*words, "--results", results])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    line = ["--param", "lr", "--param", "optimizer", "--objective", "val/loss:minimize"]
    code, out, err = type_("collect", "--from", path, *line)
    assert code == 1, err  # a run crashed
    assert "W&B export: 4 runs imported\n  seed numbers repeats\n" in out
    # Without the source, too, and for other commands.
    rows = json.loads(type_("collect", "wandb", "--json")[1])["rows"]
    assert [row["state"] for row in rows] == ["done", "done", "failed", "unknown"]
    assert [row["gpu_hours"] for row in rows] == [None] * 4
    assert rows[0]["val/loss_mean"] == pytest.approx(0.6)
    costs = json.loads(type_("costs", "wandb", "--json")[1])
    assert costs["configurations"][0]["wall_h"] == 1.5
    assert "unknown" in type_("costs", "wandb")[1]
    for words, message in [
        (("supervise", "wandb"), "holds imported results"),
        (("collect", "wandb", "--from", path), "not both"),
        (("collect", "--name", "x"), "--name goes with --from"),
        (("collect", "--from", path, "--objective", "x"), "write metric and goal, such as"),
    ]:
        code, _, err = type_(*words)
        assert (code, message in err, err.count("\n")) == (2, True, 1), err


def test_import_names_times_of_no_use_once(tmp_path, results):
    header = "Name,State,Runtime,Created,Sweep,config.lr,summary.loss\n"
    rows = "a,finished,-5,,,0.1,1\nb,finished,x,soon,,0.2,2\nc,finished,nan,,,0.3,3\n"
    done = take(results, write(tmp_path / "x.csv", header + rows), objectives=LOSS)
    assert sorted(done.problems) == [
        "a: Runtime '-5' is no duration: left out (and the like in 1 more run)",
        "b: Created 'soon' is no time: left out",
    ]
    assert done.n_runs == 3
