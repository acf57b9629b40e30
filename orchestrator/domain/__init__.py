"""Pure decisions of a sweep: what its trials are, how they rank, what they cost."""
