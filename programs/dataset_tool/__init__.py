"""dataset_tool.py: its flags, and what it does."""
