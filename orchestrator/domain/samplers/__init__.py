"""Methods of search: each file proposes points of a search space."""
