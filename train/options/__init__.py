"""The arguments of ``main.py``, a file for each group; ``arguments.py`` joins them."""
