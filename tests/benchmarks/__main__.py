"""``python -m tests.benchmarks [NAME ...]``: run the benchmarks, one after the other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NAMES = [
    "cli",
    "collect",
    "incremental",
    "figures",
    "report",
    "submit",
    "drain",
    "startup",
    "beats",
]


def main() -> int:
    """Run the named benchmarks, or all; each in a process of its own."""
    code = 0
    for name in sys.argv[1:] or NAMES:
        print(f"--- {name}", flush=True)
        argv = [sys.executable, "-m", f"tests.benchmarks.bench_{name}"]
        code |= subprocess.run(argv, check=False, cwd=Path(__file__).parents[2]).returncode
    return code


sys.exit(main())
