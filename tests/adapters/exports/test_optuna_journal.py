import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from orchestrator.adapters.exports import optuna_journal
from tests.adapters.exports.sweeps import (
    DONE,
    EVIL,
    STATES,
    make_confirmed_source,
    make_source,
)


def load(path, name=None):
    return optuna.load_study(study_name=name, storage=JournalStorage(JournalFileBackend(path)))


def test_journal_is_read_back_the_same_and_twice_is_once(tmp_path):
    source = make_source(str(tmp_path / "demo"))
    for _ in range(2):
        (path,) = optuna_journal.write(source, str(tmp_path / "out")).paths
    study = load(path)
    assert study.study_name == "demo"
    assert study.direction is optuna.study.StudyDirection.MINIMIZE
    assert [t.user_attrs["trial"] for t in study.trials] == list(STATES)
    assert [t.state for t in study.trials] == [
        TrialState.COMPLETE,
        TrialState.COMPLETE,
        TrialState.FAIL,
        TrialState.RUNNING,
        TrialState.WAITING,
    ]
    best = study.best_trial
    assert (best.user_attrs["trial"], best.value) == (DONE, 0.25)
    assert best.params == {"lr": 0.1, "text": EVIL, "only": None}
    assert study.trials[1].params == {"lr": 0.2, "text": "plain"}
    assert best.intermediate_values == {0: 2.0, 1: 1.0}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["optuna.journal"]


def test_fresh_seeds_are_a_study_of_their_own_and_not_the_best_trial(tmp_path):
    source, names = make_confirmed_source(str(tmp_path / "demo"))
    written = optuna_journal.write(source, str(tmp_path / "out"))
    assert written.notes[0] == "runs on fresh seeds are a study of their own: demo (fresh seeds)"
    (path,) = written.paths
    study = load(path, "demo")
    assert [t.user_attrs["trial"] for t in study.trials] == names[:4]
    assert (study.best_trial.user_attrs["trial"], study.best_value) == (names[0], 0.5)
    assert study.best_trial.user_attrs["loss_mean"] == 0.55
    assert study.user_attrs == {"standing": source.board.standing.words}
    fresh = load(path, "demo (fresh seeds)")
    assert [(t.user_attrs["trial"], t.value) for t in fresh.trials] == [
        (names[4], 0.25),
        (names[5], 0.75),
    ]
