"""Where the repository's own files are: configurations, demo networks, results."""

from pathlib import Path

# The checkout, or the same files in an installed package.
ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
NETWORKS_TOML, DETECTORS_TOML = CONFIGS / "networks.toml", CONFIGS / "detectors.toml"
INSTALLED = ROOT.name == "_app"  # see setup.py


def located(name: str) -> Path:
    """A path as it was given or, if there is nothing, below the repository."""
    below = ROOT / name
    return below if below.exists() and not Path(name).exists() else Path(name)
