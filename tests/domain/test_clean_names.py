import re

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.clean_names import clean_names, describe_renames

ALLOWED = "A-Za-z0-9_/"


def test_clean_names_keeps_what_is_allowed_and_tells_the_others_apart():
    cleaned = clean_names(["a-b", "a_b", "a.b", "1", "é", ""], ALLOWED, 20, letter_first=True)
    assert cleaned == {
        "a-b": "a_b_2",
        "a_b": "a_b",
        "a.b": "a_b_3",
        "1": "_1",
        "é": "_",
        "": "__2",
    }
    assert describe_renames("metrics", cleaned) == [
        "metrics renamed: 'a-b' is 'a_b_2', 'a.b' is 'a_b_3', '1' is '_1' and 2 more"
    ]
    assert describe_renames("metrics", {"a": "a"}) == []


def test_clean_names_that_something_else_has_get_a_prefix_and_stay_apart():
    cleaned = clean_names(
        ["rank", "x_rank", "ra-nk", "ra_nk"], ALLOWED, 20, reserved={"rank", "ra_nk"}, prefix="x_"
    )
    assert cleaned == {
        "rank": "x_rank_2",
        "x_rank": "x_rank",
        "ra-nk": "x_ra_nk",
        "ra_nk": "x_ra_nk_2",
    }


def test_clean_names_that_are_reserved_are_given_to_none():
    """Neither to one with the prefix, nor to one that is counted."""
    cleaned = clean_names(["a", "b c"], ALLOWED, 20, reserved={"a", "x_a", "b_c_2"}, prefix="x_")
    assert cleaned == {"a": "x_a_2", "b c": "b_c"}
    cleaned = clean_names(["b_c", "b c"], ALLOWED, 20, reserved={"b_c_2"})
    assert cleaned == {"b_c": "b_c", "b c": "b_c_3"}


def test_clean_names_that_are_paths_do_not_lead_out():
    names = ["/etc", "a//b", "../x", "a/b", "./a", "a/"]
    cleaned = clean_names(names, r"\w./", 50, is_path=True)
    assert cleaned == {
        "/etc": "_etc",
        "a//b": "a__b",
        "../x": "___x",
        "a/b": "a/b",
        "./a": "__a",
        "a/": "a_",
    }


@given(st.lists(st.text(max_size=12)), st.booleans(), st.booleans())
def test_clean_names_of_anything_are_allowed_and_differ(names, letter_first, is_path):
    cleaned = clean_names(names, ALLOWED, 8, letter_first=letter_first, is_path=is_path)
    assert set(cleaned) == set(names)
    assert len(set(cleaned.values())) == len(cleaned)
    assert all(re.fullmatch(f"[{ALLOWED}]{{1,8}}", new) for new in cleaned.values())
