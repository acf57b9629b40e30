"""Orchestrate Slurm job arrays for hyperparameter search.

Layers, each importing only from those below it (``tests/test_architecture.py`` holds it)::

    cli         the only place that prints and exits
    usecases    submit, collect, status
    adapters    rendering, executors, slurm_cli, journal, trial_dir
    domain      spec, search_space, samplers, trials, leaderboard, cost: values in, values out
    runtime     what runs on the compute node; standard library only
    contract    errors, states, records, paths; standard library only
"""

__version__ = "0.1.0"
