"""The ``orchestrator`` command, also as ``python -m orchestrator``.

Ctrl-C while the modules of the command line are still read is met here: one line, no traceback.
Not covered: while Python itself starts, before any of our lines runs.
"""

import importlib
import sys

EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit."""
    try:
        importlib.import_module("orchestrator.cli.main").main()
    except KeyboardInterrupt:
        print("orchestrator: interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
