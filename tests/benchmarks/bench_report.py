"""Time and size of a report.

Run by hand: ``python -m tests.benchmarks.bench_report [N_TRIALS ...]``. Every report is a fresh
process, imports included; the files are in the page cache. It prints; it asserts no times.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time

from tests.benchmarks.bench_collect import seconds
from tests.browser.sample_sweep import make_sample_sweep, random_points

N_RUNS = 3
_REPORT = """
import sys
from orchestrator.contract.paths import SweepPaths
from orchestrator.usecases.report import make_report
make_report(SweepPaths(sys.argv[1]))
"""


def main() -> None:
    """Make sweeps, report on them, print."""
    sizes = [int(word) for word in sys.argv[1:]] or [1000, 3000]
    for n_trials in sizes:
        with tempfile.TemporaryDirectory(prefix="bench-report-") as folder:
            points = random_points(n_trials)
            sweep = make_sample_sweep(
                folder + "/bench", end_s=time.time(), points=points, n_seeds=1, n_slots=40
            )
            runs = [seconds(_REPORT, sweep.root) for _ in range(N_RUNS)]
            wall_s, cpu_s = min(runs)
            size_mb = os.path.getsize(sweep.report) / 1e6
        print(f"{n_trials:6} trials {wall_s:6.2f} s wall {cpu_s:6.2f} s cpu {size_mb:6.2f} MB")


if __name__ == "__main__":
    main()
