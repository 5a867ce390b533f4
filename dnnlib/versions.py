"""Which versions are at work: what a report of an error must tell."""

import platform
import tomllib
from importlib import metadata

from dnnlib.places import INSTALLED, ROOT

PACKAGE = "skip-tuning-edm"


def versions() -> str:
    """One line: our version, Python's, torch's and numpy's, and the system; nothing is imported for it."""
    others = ", ".join(f"{name} {_installed(name)}" for name in ("torch", "numpy"))
    return (
        f"{PACKAGE} {_own()}, Python {platform.python_version()}, {others}, {platform.platform()}"
    )


def _own() -> str:
    """A checkout's is in pyproject.toml, whatever else of the same name is installed beside it."""
    if INSTALLED:
        return _installed(PACKAGE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "(not installed)"
