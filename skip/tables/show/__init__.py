"""How measured items are shown: Markdown, CSV and JSON, plots, choices, what values are called.

Reads results; computes nothing from images.
"""
