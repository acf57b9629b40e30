"""Two ways to run rendered scripts: as Slurm job arrays through submitit, or on this machine."""
