#!/bin/sh
# A node's Prolog that fails on one node: Slurm requeues the job, holds it and drains the node.
[ "$SLURMD_NODENAME" != n1 ]
