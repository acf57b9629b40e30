"""A sweep in a storm: everything that breaks is broken at once, and nothing may be lost."""
