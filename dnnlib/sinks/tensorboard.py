"""Event files for TensorBoard, written anew by each process from what there is."""

import importlib

import numpy as np

from dnnlib.pixels import read_pixels
from dnnlib.sinks.sink import Entry, Kind, Sink, Subject

FOLDER = "tensorboard"  # in the subject's


class TensorBoard:
    """Writes <folder>/tensorboard, in place of what earlier processes wrote there.

    A killed process may have written steps that come again. So its files go, and the new one tells a TensorBoard that
    is looking to forget them.

    Args:
        subject: what it is of.
        project: plays no part.
    """

    def __init__(self, subject: Subject, project: str = "") -> None:
        board = importlib.import_module("torch.utils.tensorboard")  # it is optional
        folder = subject.folder / FOLDER
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self.writer = board.SummaryWriter(str(folder), purge_step=0)

        settings = subject.flat()
        told = importlib.import_module("torch.utils.tensorboard.summary").hparams(settings, {})
        for summary in told:
            self.writer.file_writer.add_summary(summary)
        lines = [f"    {name} = {value}" for name, value in settings.items()]
        self.writer.add_text("settings", "\n".join(lines), 0)

    def has(self, entry: Entry) -> bool:
        """Nothing: what there was is gone."""
        return False

    def write(self, entry: Entry) -> None:
        """Write <kind>/<name> for each value, and the picture as <kind>."""
        for name, value in entry.values.items():
            self.writer.add_scalar(f"{entry.kind}/{name}", value, entry.step)
        if entry.picture is not None:
            pixels = np.asarray(read_pixels(entry.picture).convert("RGB"))
            self.writer.add_image(entry.kind, pixels, entry.step, dataformats="HWC")

    def flush(self) -> None:
        """Write what is buffered."""
        self.writer.flush()

    def close(self) -> None:
        """Close the file."""
        self.writer.close()


def _open(subject: Subject, project: str) -> Sink:
    return TensorBoard(subject, project)


TENSORBOARD = Kind("tensorboard", "log", _open)
