from orchestrator.domain.trial_problems import name_problems


def test_name_problems_alike_ones_are_named_once_with_the_first_trial():
    trials = [(f"{n:05d}-aaaa", [f"metrics.jsonl: line {n}: not JSON"]) for n in range(10_000)]
    trials[7][1].append("params.json: empty")
    assert name_problems(trials) == [
        "00000-aaaa/metrics.jsonl: line 0: not JSON (and the like in 9,999 more trials)",
        "00007-aaaa/params.json: empty",
    ]


def test_name_problems_of_each_attempt_are_one():
    texts = [f"attempts/{n}.json: cannot use wall_s" for n in (1, 2, 3)]
    assert name_problems([("1-a", texts), ("2-b", texts[:1])]) == [
        "1-a/attempts/1.json: cannot use wall_s (and 2 more like it there, "
        "the like in 1 more trial)"
    ]


def test_name_problems_junk_of_many_names_is_counted():
    junk = [f"attempts/{letter}: not an attempt's record" for letter in "abcdefghijklm"]
    named = name_problems([("1-a", junk)])
    assert (len(named), named[-1]) == (11, "1-a: 3 more problems")
    assert name_problems([("1-a", [])]) == []
