import pytest

from orchestrator.contract.errors import UserError
from orchestrator.contract.states import TrialState
from orchestrator.domain.leaderboard import rank_trials
from orchestrator.domain.row_filter import filter_rows
from orchestrator.domain.sweep_summary import SweepSummary
from orchestrator.domain.trial_files import TrialFiles

SUMMARY = SweepSummary("d", "loss", "minimize", ("lr", "optim.name"))


def trial(number, params=None, **metrics):
    return TrialFiles(
        f"{number:05d}-aaaa", number, "aaaa", params or {"lr": number, "optim": {"name": "sgd"}},
        {"metrics": metrics} if metrics else None, bool(metrics), (), metrics,
    )  # fmt: skip


def board_of(trials, seeded=False, states=None):
    summary = SweepSummary("d", "loss", "minimize", ("lr", "seed"), True) if seeded else SUMMARY
    return rank_trials(trials, states or {}, {}, summary, 0.0)


def kept(trials, condition, **options):
    found = filter_rows(board_of(trials, **options), condition)
    return sorted(int(name[:5]) for name in found.kept), found.n_unmet, found.n_unknown


THREE = [
    trial(1, loss=1.0, **{"eval/acc": 0.5}),
    trial(2, {"lr": 2, "optim": {"name": "adamw"}}, loss=2.0, **{"eval/acc": 0.9}),
    trial(3),
]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("loss < 1.5", ([1], 1, 1)),
        ('col("eval/acc") > 0.6', ([2], 1, 1)),
        ('optim.name == "adamw"', ([2], 2, 0)),
        ('lr >= 2 and col("optim.name") == "sgd"', ([3], 2, 0)),
        ('state == "done" and gpu_hours < 5', ([1, 2], 1, 0)),
        ("loss is none", ([3], 2, 0)),
        ("rank <= 2", ([1, 2], 0, 1)),
        ("true", ([1, 2, 3], 0, 0)),
        ("params['eval/acc'] < 1", ([1, 2], 0, 1)),
    ],
)
def test_filter_rows_keeps_what_meets_the_condition_and_counts_the_rest(condition, expected):
    assert kept(THREE, condition) == expected


def test_filter_rows_says_what_was_left_out():
    board = board_of(THREE)
    assert filter_rows(board, "loss < 1.5").words == (
        "where loss < 1.5: 1 trial does not meet it, 1 trial has no value there "
        "(leaderboard.csv has them all)"
    )
    assert filter_rows(board, "lr > 0").words == "where lr > 0: all meet it"


def test_filter_rows_malformed_cells_have_no_value_and_do_not_hide_the_others():
    trials = [trial(1, loss=1, acc=0.5), trial(2, loss=1, acc="high"), trial(3, loss=1, acc=[1])]
    trials += [trial(4, loss=1, acc="nan"), trial(5, loss=1, acc=True), trial(6, loss=1, acc=0.1)]
    assert kept(trials, "acc > 0.3") == ([1, 5], 1, 3)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("los < 1", r"--where: `los < 1` has the unknown name los; did you mean loss\?"),
        ('col("eval/ac") < 1', r"--where: no column 'eval/ac'; did you mean eval/acc\?"),
        ("col(loss) < 1", "--where: col takes one quoted name"),
        ("loss", "--where: `loss` gives 1.0 with loss = 1.0; write a condition"),
        ("optim.name < 1", "--where: `optim.name < 1` fails"),
        ("loss <", "--where: `loss <` is no expression"),
        ("loss = 1", "--where: `loss = 1` is no expression; use == to compare"),
        ("__import__('os')", "--where: .* calls __import__, which is no function here"),
        ("loss.__class__ == 1", "--where: .* has the unknown name loss.__class__"),
        ("", "--where: `` is no expression"),
    ],
)
def test_filter_rows_mistake_is_one_line(condition, message):
    with pytest.raises(UserError, match=message) as caught:
        filter_rows(board_of(THREE), condition)
    assert "\n" not in str(caught.value)


def test_filter_rows_of_repeats_keeps_or_drops_whole_configurations():
    trials = [
        trial(1, {"lr": 1, "seed": 0}, loss=1.0),
        trial(2, {"lr": 1, "seed": 1}, loss=3.0),  # one of its repeats does not meet it
        trial(3, {"lr": 2, "seed": 0}, loss=1.5),
        trial(4, {"lr": 2, "seed": 1}),  # not done: it still belongs to its configuration
        trial(5, {"lr": 3, "seed": 0}),
    ]
    states = dict.fromkeys((trials[3].name, trials[4].name), TrialState.RUNNING)
    assert kept(trials, "loss < 2", seeded=True, states=states) == ([3, 4], 1, 1)
    assert kept(trials, "loss_mean <= 2", seeded=True, states=states) == ([1, 2, 3, 4], 0, 1)


def test_filter_rows_of_an_empty_leaderboard_keeps_nothing():
    assert kept([], "loss < 1") == ([], 0, 0)


def test_filter_rows_runs_on_fresh_seeds_stay_and_are_not_counted():
    trials = [trial(1, loss=1.0), trial(2, loss=9.0), trial(3, loss=9.0)._replace(id="fresh")]
    board = rank_trials(trials, {}, {}, SUMMARY, 0.0, fresh={"fresh"})
    found = filter_rows(board, "loss < 2")
    assert (sorted(found.kept), found.n_unmet) == (["00001-aaaa", "00003-aaaa"], 1)


SEEDED = [
    trial(3 * lr + seed, {"lr": lr, "seed": seed}, **({"loss": lr + seed} if lr < 2 else {}))
    for lr in range(3)
    for seed in range(3)
]


def test_filter_rows_of_repeats_lists_no_unranked_trial_that_does_not_meet_it():
    assert kept(SEEDED, "seed == 0", seeded=True) == ([6], 2, 0)
    assert kept(SEEDED, "seed == 1", seeded=True) == ([7], 2, 0)


def test_filter_rows_says_why_nothing_meets_a_condition():
    board = board_of(SEEDED, seeded=True)
    label = 'trial == "00000-aaaa"'
    assert filter_rows(board, label).words.endswith(
        "; nothing meets it: 1 repeat does, but not each ranked repeat of a configuration"
    )
    near = 'optim.name == "adam"'
    assert filter_rows(board_of(THREE), near).words.endswith(
        "; nothing meets it: did you mean adamw? optim.name is sgd, adamw"
    )
    assert filter_rows(board_of(SEEDED), "loss > 9").words.endswith(
        "; nothing meets it: loss is 0, 1, 2, 3"
    )
    assert "nothing" not in filter_rows(board, "seed == 0").words


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("loss != loss", ([], 2, 1)),
        ("loss != 1", ([2], 1, 1)),
        ("loss == none", ([3], 2, 0)),
        ("loss is none or loss == 1", ([1, 3], 1, 0)),
        ('col("eval/acc") == 0.5', ([1], 1, 1)),
        ("not loss == 1", ([2], 1, 1)),
    ],
)
def test_filter_rows_of_a_missing_value_nothing_is_equal_or_unequal(condition, expected):
    assert kept(THREE, condition) == expected
