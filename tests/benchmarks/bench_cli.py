"""How long the command takes to say hello, and what it imports to do so."""

from __future__ import annotations

import subprocess
import sys
import time


def seconds(argv: list[str]) -> float:
    """Best of five runs."""
    times = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run(argv, check=False, capture_output=True)
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    """Print the times."""
    python = seconds([sys.executable, "-c", "pass"])
    print(f"python -c pass        {python:6.3f} s")
    for words in (["--help"], ["submit", "--help"], ["status", "--help"], ["collect", "--help"]):
        took = seconds([sys.executable, "-m", "orchestrator", *words])
        print(f"{' '.join(words):<21} {took:6.3f} s")
    for command in ("submit", "status", "collect"):
        program = (
            f"import sys, orchestrator.cli.{command}; "
            "print(sorted({'torch', 'transformers', 'submitit', 'pandas', 'scipy', 'ruamel'} & "
            "{name.partition('.')[0] for name in sys.modules}))"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        print(f"{command} imports {done.stdout.strip()}")


if __name__ == "__main__":
    main()
