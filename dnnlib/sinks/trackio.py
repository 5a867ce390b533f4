"""trackio, on this machine: a run of the subject's name, written anew by each process from what there is."""

import importlib
import os

from dnnlib.sinks.sink import Entry, Kind, Sink, Subject

ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")


class Trackio:
    """Writes to a project in trackio's folder, in place of the run that an earlier process wrote there.

    Args:
        subject: what it is of.
        project: where it goes.
    Raises:
        RuntimeError: if a variable says that it goes to another machine, where a run cannot be replaced.
    """

    def __init__(self, subject: Subject, project: str) -> None:
        for name in ELSEWHERE:
            if os.environ.get(name):
                raise RuntimeError(f"unset {name}: runs are kept here, and trackio sync sends them")
        self.trackio = importlib.import_module("trackio")  # it is optional, and takes seconds
        self._remove(project, subject.name)
        self.run = self.trackio.init(
            project=project, name=subject.name, config=subject.flat(), embed=False
        )

    def _remove(self, project: str, name: str) -> None:
        try:
            runs = list(self.trackio.Api().runs(project))
        except ValueError:  # there is no such project yet
            return
        for run in runs:
            if run.name == name:
                run.delete()

    def has(self, entry: Entry) -> bool:
        """Nothing: what there was is gone."""
        return False

    def write(self, entry: Entry) -> None:
        """Write <kind>/<name> for each value, and the picture as <kind>/picture."""
        line = {f"{entry.kind}/{name}": value for name, value in entry.values.items()}
        if entry.picture is not None:
            line[f"{entry.kind}/picture"] = self.trackio.Image(str(entry.picture))
        self.run.log(line, step=entry.step)

    def flush(self) -> None:
        """Nothing: it writes by itself."""

    def close(self) -> None:
        """Wait until it has written what it has."""
        self.trackio.finish()


def _open(subject: Subject, project: str) -> Sink:
    return Trackio(subject, project)


TRACKIO = Kind("trackio", "trackio", _open)
