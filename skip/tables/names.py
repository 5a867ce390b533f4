"""What there is to measure, and the settings for it by name: quick to import, as torch is not."""

import re
from pathlib import Path

from dnnlib.keywords import read_toml
from dnnlib.places import CONFIGS, DETECTORS_TOML, NETWORKS_TOML

PROFILES_TOML = "profiles.toml"
_NOT_ITEMS = (NETWORKS_TOML.name, DETECTORS_TOML.name, PROFILES_TOML)


def item_names(folder: Path = CONFIGS) -> list[str]:
    """The items that have a TOML, tables first, in the paper's order."""
    found = [path.stem for path in folder.glob("*.toml") if path.name not in _NOT_ITEMS]
    return sorted(found, key=_place_in_the_paper)


def _place_in_the_paper(name: str) -> tuple[int, int, str]:
    """Tables by their numbers, then figures by theirs, then all others."""
    word, number = re.fullmatch(r"(.*?)(\d*)", name).groups()  # type: ignore[union-attr]  # matches all
    rank = {"table": 0, "figure": 1}.get(word, 2)
    return rank, int(number or 0), name


def profiles() -> list[str]:
    """The names that --profile knows.

    Raises:
        OSError, ValueError: see `dnnlib.keywords.read_toml`.
    """
    return list(read_toml(CONFIGS / PROFILES_TOML))
