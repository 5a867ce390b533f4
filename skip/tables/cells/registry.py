"""The studies by name."""

from skip.tables.cells.drawn import Bands, Schedule
from skip.tables.cells.finetuned import FineTuned
from skip.tables.cells.generated import Images, Sheet
from skip.tables.cells.network import Gradient, Inversion, Losses, Norms
from skip.tables.cells.settings import Study

STUDIES: dict[str, type[Study]] = {
    "images": Images,
    "sheet": Sheet,
    "finetuned": FineTuned,
    "norms": Norms,
    "gradient": Gradient,
    "losses": Losses,
    "inversion": Inversion,
    "bands": Bands,
    "schedule": Schedule,
}
# Those whose result is a sheet of images, a PNG beside it.
OF_SHEETS = ("sheet", "bands")
