"""The studies by name."""

from collections.abc import Callable

from skip.tables.finetuned import FineTuned
from skip.tables.generated import Images, Sheet
from skip.tables.measured import Gradient, Inversion, Losses, Norms
from skip.tables.settings import Study

KINDS: dict[str, Callable[..., Study]] = {
    "images": Images,
    "sheet": Sheet,
    "finetuned": FineTuned,
    "norms": Norms,
    "gradient": Gradient,
    "losses": Losses,
    "inversion": Inversion,
}
TUPLES = {"metrics", "window", "time_range", "features"}  # settings whose values are lists
