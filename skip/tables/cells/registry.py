"""The studies by name."""

from collections.abc import Callable

from skip.tables.cells.finetuned import FineTuned
from skip.tables.cells.generated import Images, Sheet
from skip.tables.cells.network import Gradient, Inversion, Losses, Norms
from skip.tables.cells.settings import Study

STUDIES: dict[str, Callable[..., Study]] = {
    "images": Images,
    "sheet": Sheet,
    "finetuned": FineTuned,
    "norms": Norms,
    "gradient": Gradient,
    "losses": Losses,
    "inversion": Inversion,
}
TUPLES = {"metrics", "window", "time_range", "features"}  # settings whose values are lists
