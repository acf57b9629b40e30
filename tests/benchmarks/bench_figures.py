"""Time building the report's figures, and how large their data are; curves of 1,000 lines each.

``python -m tests.benchmarks.bench_figures [N_TRIALS ...]``; 1,000 and 3,000 by default. The files
are in the page cache. Times are those of the processor, so that others' load hardly shows. It
prints; it asserts nothing.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime

from orchestrator.contract.paths import SweepPaths
from orchestrator.usecases.collect import collect
from orchestrator.usecases.observe import observe
from orchestrator.usecases.report_figures import build_figures
from orchestrator.usecases.report_input import ReportInput
from tests.browser.sample_sweep import make_sample_sweep, random_points

N_RUNS = 3


def measure(sweep: SweepPaths) -> None:
    """Build the figures of a sweep a few times, and print the best time and their sizes."""
    now_s = time.time()
    seen = observe(sweep)
    now = datetime.fromtimestamp(now_s, UTC)
    collection = collect(sweep, seen.states, seen.reasons, now, scan=seen.scan, write_files=False)
    it = ReportInput(sweep, seen, collection, now_s)
    spent_s = []
    for _ in range(N_RUNS):
        start = time.process_time()
        figures = build_figures(it)
        spent_s.append(time.process_time() - start)
    sizes = {figure.id: len(json.dumps(figure.data, separators=(",", ":"))) for figure in figures}
    first, best = spent_s[0], min(spent_s)
    print(f"{len(seen.trials)} trials: first {first:.2f} s, best of {N_RUNS} {best:.2f} s cpu")
    print(f"data {sum(sizes.values()) / 1e6:.2f} MB:", json.dumps(sizes))


def main() -> None:
    """Generate, measure, print."""
    for n_trials in map(int, sys.argv[1:] or ("1000", "3000")):
        with tempfile.TemporaryDirectory(prefix="bench-figures-") as folder:
            points = random_points(n_trials)
            path = os.path.join(folder, "bench")
            measure(
                make_sample_sweep(
                    path, end_s=time.time(), points=points, n_seeds=1, n_slots=64, n_reports=1000
                )
            )


if __name__ == "__main__":
    main()
