"""``orchestrator explain``: the whole story of one trial."""

from __future__ import annotations

import json
from collections.abc import Sequence

from orchestrator.cli.arguments import find_sweep, make_parser, results_hint, show_path, split_words
from orchestrator.cli.json_output import print_json
from orchestrator.cli.next_step import tell_next
from orchestrator.contract.errors import EXIT_OK, EXIT_TRY_AGAIN, UserError
from orchestrator.contract.paths import TrialPaths
from orchestrator.domain.plain_text import one_line, strip_controls
from orchestrator.usecases.explain import Story, explain

DESCRIPTION = """\
Tell everything that happened to one trial: when it was submitted, where each
attempt ran and how it ended, what was decided then and why, and what is next.
"""


def run(argv: Sequence[str]) -> int:
    """Run the command; exits 3 if Slurm was needed and did not answer."""
    parser = make_parser("explain", DESCRIPTION, "a spec or the name of a submitted sweep")
    parser.add_argument(
        "--trial", metavar="TRIAL", help="its number, or its directory's name (or the hash in it)"
    )
    options = parser.parse_intermixed_args(list(argv))
    word, overrides = split_words(options.words)
    if overrides:
        raise UserError(f"explain takes no overrides: {overrides[0]}")
    if not options.trial:
        raise UserError("which trial? make explain TRIAL=3, with a number from make status")
    sweep = find_sweep(options.results, word)
    story = explain(sweep, options.trial)
    if options.json:
        print_json("explain", _as_json(story))
    else:
        _print(story, sweep.trial(story.trial.name), results_hint(options.results, sweep))
    return EXIT_OK if story.unreachable is None else EXIT_TRY_AGAIN


def _print(story: Story, paths: TrialPaths, where_else: str) -> None:
    print(f"{story.trial.name}: {story.state.value}")
    for name, value in (story.trial.params or {}).items():
        print(f"  {one_line(name)} = {one_line(json.dumps(value, ensure_ascii=False), 100)}")
    print()
    day = None
    for event in story.events:
        if event.at is not None and event.at.date() != day:
            day = event.at.date()
            print(f"{day} (UTC)")
        at = event.at.strftime("%H:%M:%S") if event.at is not None else " " * 8
        print(f"  {at}  {event.who}: {one_line(strip_controls(event.words), 300)}")
    print()
    reason = f": {one_line(story.reason, 300)}" if story.reason else ""
    print(f"now: {story.state.value}{reason}")
    if story.slurm:
        print(f"Slurm says: {one_line(story.slurm)}")
    if story.unreachable is not None:
        print(f"Slurm does not answer: {one_line(story.unreachable)}")
    if story.paused is not None:
        print(f"the sweep is paused: {one_line(story.paused, 300)}")
    is_paused = story.paused is not None
    next_step = tell_next(
        story.state, story.is_final, is_paused, where_else, is_imported=story.is_imported
    )
    print(f"next: {next_step}")
    if story.is_imported:
        return
    folder = show_path(paths.root)
    print(f"log: {folder}/log; make logs{where_else} TRIAL={story.trial.number} shows it")
    print(f"by hand: bash {folder}/trial.sbatch")


def _as_json(story: Story) -> dict[str, object]:
    return {
        "trial": story.trial.name,
        "state": story.state.value,
        "reason": story.reason,
        "params": dict(story.trial.params or {}),
        "events": [
            {
                "at": None if event.at is None else event.at.isoformat(),
                "who": event.who,
                "words": event.words,
            }
            for event in story.events
        ],
        "slurm": story.slurm,
        "unreachable": story.unreachable,
    }
