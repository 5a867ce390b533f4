"""The studies by name."""

from collections.abc import Callable

from skip.tables.generated import Images, Sheet
from skip.tables.measured import Gradient, Inversion, Losses, Norms
from skip.tables.settings import Study

KINDS: dict[str, Callable[..., Study]] = {
    "images": Images,
    "sheet": Sheet,
    "norms": Norms,
    "gradient": Gradient,
    "losses": Losses,
    "inversion": Inversion,
}
TUPLES = {"metrics", "window", "features"}  # settings whose values are lists
