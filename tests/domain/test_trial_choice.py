from __future__ import annotations

import pytest

from orchestrator.contract.errors import UserError
from orchestrator.domain.trial_choice import choose_trial

NAMES = ["00000-aabbccddee", "00001-1234512345", "00012-aabb000000"]


@pytest.mark.parametrize(
    ("word", "number"),
    [
        ("0", 0),
        ("12", 2),
        ("00001", 1),
        ("00001-1234512345", 1),
        ("results/x/trials/00012-aabb000000/", 2),
        ("aabb0", 2),
        ("1234512", 1),
    ],
)
def test_choose_trial_takes_numbers_names_and_hashes(word: str, number: int) -> None:
    assert choose_trial(NAMES, word) == NAMES[number]


def test_choose_trial_refuses_what_means_none_or_several() -> None:
    with pytest.raises(UserError, match="can mean 00000-aabbccddee, 00012-aabb000000"):
        choose_trial(NAMES, "aabb")
    with pytest.raises(UserError, match=r"no trial '9'; give a number \(0 to 12\)"):
        choose_trial(NAMES, "9")
    with pytest.raises(UserError, match="none yet"):
        choose_trial([], "0")
