"""What a cell of a table can be: a dataclass of settings that computes its estimates.

A new kind of cell is a file here and a line in registry.py; nothing here knows items, claims or how results are shown.
"""
