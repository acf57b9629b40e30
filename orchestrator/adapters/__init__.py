"""The outside world: templates, Slurm's commands, submitit, the journal and trial directories."""
