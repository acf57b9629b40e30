"""Values that would show if a template put them into a script unquoted. Pure.

A sweep's author may give any parameter, variable or folder; ``HOSTILE_SPEC`` gives the worst. Every
quoting filter turns them into something else, so that ``find_leaks`` only has to look for them as
they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable

# No text has it by chance.
_MARK = "zQvX7"
VALUE = f"{_MARK}\"'$({_MARK}) {_MARK}\n#SBATCH --comment={_MARK}\n`{_MARK}`"
FOLDER = f'/tmp/{_MARK} it\'s "$({_MARK})"'
HOSTILE_SPEC = f"""
name: lint
program: bash
workdir: {json.dumps(FOLDER)}
metric: {{name: loss, goal: minimize}}
method: grid
seeds: 1
checkpoint: {{interval_min: 1}}
env: {{ORCHESTRATOR_LINT: {json.dumps(VALUE)}}}
parameters: {{x: [{json.dumps(VALUE)}]}}
"""


def find_leaks(text: str, quote_sh: Callable[[str], str]) -> list[int]:
    """Return the 1-based lines of a script in which a hostile value stands as it is.

    Args:
        text: The script.
        quote_sh: The filter that makes a word of bash, with escapes where there is a line break.
    """
    known = set()
    for value in (VALUE, FOLDER):
        in_json = json.dumps(value)[1:-1]
        for shown in (value, in_json):
            known.add(quote_sh(f"\n{shown}").removeprefix("$'\\n")[:-1])
            known.add(shown.replace("'", "'\"'\"'"))
            known.add(shown.replace("\\", "\\\\").replace('"', '\\"'))
        known.add(in_json)
    for quoted in sorted(known - {VALUE, FOLDER}, key=len, reverse=True):
        text = text.replace(quoted, "")
    return [number for number, line in enumerate(text.split("\n"), start=1) if _MARK in line]
