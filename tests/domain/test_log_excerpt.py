"""The lines of a log that tell why an attempt failed."""

from __future__ import annotations

from orchestrator.domain.log_excerpt import find_excerpt

TRACEBACK = [
    "Traceback (most recent call last):",
    '  File "a.py", line 1, in <module>',
    "    f()",
    "ValueError: bad",
]
CHAINED = [
    "Traceback (most recent call last):",
    '  File "a.py", line 9, in g',
    "KeyError: 'lr'",
    "",
    "During handling of the above exception, another exception occurred:",
    "",
    *TRACEBACK,
]


def test_traceback_is_whole_and_the_last_words_follow() -> None:
    lines = ["epoch 1", *TRACEBACK, "", "cleaning up", "bye"]
    assert find_excerpt(lines, 60) == (*TRACEBACK, "cleaning up", "bye")


def test_chained_tracebacks_stay_together() -> None:
    assert find_excerpt(["epoch 1", *CHAINED], 60) == tuple(CHAINED)


def test_last_traceback_counts() -> None:
    survived = [line.replace("bad", "survived") for line in TRACEBACK]
    assert find_excerpt([*survived, "going on", *TRACEBACK], 60) == tuple(TRACEBACK)


def test_message_of_several_lines_is_kept() -> None:
    lines = [*TRACEBACK, "second line of the message", "", "unrelated"]
    assert find_excerpt(lines, 60)[:5] == (*TRACEBACK, "second line of the message")


def test_without_a_traceback_the_last_lines_are_shown() -> None:
    assert find_excerpt(["a", "b", "c", "", " "], 2) == ("b", "c")
    assert find_excerpt([], 5) == ()
    assert find_excerpt(["a"], 0) == ()


def test_of_several_ranks_the_one_that_failed_by_itself_is_shown() -> None:
    first = [f"[rank1]: {line}" for line in TRACEBACK]
    lost = [
        f"[rank0]: {line.replace('ValueError: bad', 'DistBackendError: peer gone')}"
        for line in TRACEBACK
    ]
    wrapper = [
        line.replace("ValueError: bad", "ChildFailedError: rank 1 failed") for line in TRACEBACK
    ]
    mixed = [line for pair in zip(lost, first, strict=True) for line in pair]
    assert find_excerpt([*mixed, *wrapper], 60)[:4] == tuple(TRACEBACK)


def test_wrapper_is_shown_where_there_is_nothing_else() -> None:
    wrapper = [line.replace("ValueError: bad", "SystemExit: 3") for line in TRACEBACK]
    assert find_excerpt(wrapper, 60) == tuple(wrapper)


def test_long_traceback_keeps_its_ends() -> None:
    frames = [f"  frame {n}" for n in range(100)]
    long = [TRACEBACK[0], *frames, "ValueError: bad"]
    found = find_excerpt(long, 20)
    assert len(found) == 20
    assert (found[0], found[8], found[-1]) == (TRACEBACK[0], "... 83 lines ...", "ValueError: bad")


def test_traceback_that_is_cut_off_shows_what_is_there() -> None:
    assert find_excerpt(TRACEBACK[:2], 60) == tuple(TRACEBACK[:2])


def test_our_own_lines_are_left_out_unless_there_are_no_others() -> None:
    own = "[orchestrator] 2026-01-01T10:00:00Z 00001-aaaa attempt 1: failed (error): exit code 1"
    assert find_excerpt([*TRACEBACK, own], 60) == tuple(TRACEBACK)
    assert find_excerpt([own], 60) == (own,)
