"""How measured items are shown: Markdown, CSV and HTML, plots, choices, what values are called.

Reads results; computes nothing from images.
"""
