"""Hand-made items and results, made without a network."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skip.evidence.estimate import Estimate
from skip.tables.cells.generated import Images, Sheet
from skip.tables.cells.network import Norms
from skip.tables.cells.words import build
from skip.tables.item import Cell, Item, Published
from skip.tables.measured import MeasuredItem
from skip.tables.results import Results


class Desk:
    """A folder with the files that cells are made from, and their results."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(folder)
        Path("net").write_text("a file")
        with open("ref", "wb") as file:
            np.savez(file, mu=np.zeros(2), sigma=np.eye(2))
        self.results = Results(Path("results"))

    def images(self, published: tuple[Published, ...] = (), **settings: Any) -> Cell:
        known: dict[str, Any] = {
            "network": "net",
            "detector": "det",
            "reference": "ref",
            "seeds": "0-3",
            "sampler": "unipc",
        }
        return Cell("images", build(Images, known | settings), settings, published)

    def sheet(self, **settings: Any) -> Cell:
        return Cell("sheet", build(Sheet, {"network": "net", "seeds": "0-3"} | settings), settings)

    def norms(self, **settings: Any) -> Cell:
        return Cell("norms", build(Norms, {"network": "net", "seeds": "0-3"} | settings), settings)

    def save(self, cell: Cell, **values: Estimate | float) -> None:
        """Values by name, where _ is a minus: fid_demo is fid-demo."""
        found = {
            name: value if isinstance(value, Estimate) else Estimate(value)
            for name, value in values.items()
        }
        self.results.save(
            cell, {name.replace("fid_", "fid-"): value for name, value in found.items()}
        )

    def item(self, *cells: Cell, name: str = "table2", profile: str = "demo", **about: Any) -> Item:
        return Item(name, "Few steps", "Table 2, section 3", profile, cells, **about)

    def read(self, item: Item) -> MeasuredItem:
        """The item with its results, as they are now."""
        return MeasuredItem.read(item, self.results, seed_ranges=True)

    def sweep(
        self, fids: dict[float, Estimate | float], name: str = "fid_demo", **settings: Any
    ) -> list[Cell]:
        """Measured cells over rho."""
        cells = [self.images(rho=rho, **settings) for rho in fids]
        for cell, value in zip(cells, fids.values(), strict=True):
            self.save(cell, **{name: value})
        return cells
