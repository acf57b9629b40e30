"""Benchmarks: printed as ratios of one run, never asserted. ``make bench`` runs all of them."""
