"""What ``sbatch --test-only`` says; texts seen on 22.05.8 unless said otherwise."""

from __future__ import annotations

import pytest

from orchestrator.domain.sbatch_answer import ScriptAnswer, parse_test_only


def test_accepted_with_a_start() -> None:
    text = (
        "sbatch: Job 3 to start at 2026-11-21T15:07:33 using 1 processors on nodes n1 "
        "in partition spot\n"
    )
    answer = parse_test_only(0, text)
    assert (answer.accepted, answer.start, answer.nodes) == (True, "2026-11-21T15:07:33", "n1")


def test_accepted_by_a_release_that_names_no_partition() -> None:
    # As older releases print it, slurm_allocation_msg before 20.02.
    answer = parse_test_only(0, "sbatch: Job 4 to start at 2026-01-01T00:00:00 using 8 processors")
    assert (answer.accepted, answer.start, answer.nodes) == (True, "2026-01-01T00:00:00", "")


def test_accepted_without_a_word() -> None:
    assert parse_test_only(0, "") == ScriptAnswer(True, "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "allocation failure: Requested node configuration is not available\n",
            "Requested node configuration is not available",
        ),
        (
            "sbatch: error: invalid partition specified: nope\n"
            "allocation failure: Invalid partition name specified\n",
            "invalid partition specified: nope; Invalid partition name specified",
        ),
        ("allocation failure: Invalid job array specification", "Invalid job array specification"),
    ],
)
def test_refused(text: str, words: str) -> None:
    assert parse_test_only(1, text) == ScriptAnswer(False, words)


def test_refused_since_too_much_is_queued() -> None:
    text = (
        "sbatch: error: AssocMaxSubmitJobLimit\n"
        "allocation failure: Job violates accounting/QOS policy (job submit limit, user's size "
        "and/or time limits)\n"
    )
    answer = parse_test_only(1, text)
    assert (answer.accepted, answer.is_full) == (False, True)


@pytest.mark.parametrize(
    "text",
    [
        "allocation failure: Unable to contact slurm controller (connect failure)",
        "allocation failure: Socket timed out on send/recv operation",
        "",
    ],
)
def test_no_answer_is_no_refusal(text: str) -> None:
    answer = parse_test_only(1, text)
    assert (answer.accepted, answer.is_full) == (None, False)
    assert answer.words
