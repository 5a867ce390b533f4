"""generate.py: the flags of its own, and what it does."""
