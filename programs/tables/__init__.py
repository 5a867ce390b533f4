"""tables.py: its flags, and what it does."""
