"""The forms of a report, and the file of each: quick to import."""

FILES = {
    "markdown": "results.md",
    "html": "index.html",
    "csv": "results.csv",
    "json": "results.json",
}
# What makes its text: MODULE:NAME, of a module of this folder.
FORMATS = {
    "markdown": "render:markdown",
    "html": "page:html",
    "csv": "render:as_csv",
    "json": "render:as_json",
}
