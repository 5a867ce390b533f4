"""Weights & Biases: a run of the subject's name, which later processes go on with if its entries come in order."""

import importlib

from dnnlib.sinks.sink import Entry, Kind, Sink, Subject

SECONDS = 60  # that its end may wait for the network


class WandB:
    """Sends to a project; its own settings are in WANDB_* variables, and WANDB_MODE=offline sends nothing.

    Each kind of entries has an axis of its own, <kind>/<unit>, whose last value the run's summary keeps: up to there a
    run that goes on has everything. Offline there is no summary, and each process writes all of it.

    Args:
        subject: what it is of.
        project: where it goes.
    """

    def __init__(self, subject: Subject, project: str) -> None:
        self.wandb = importlib.import_module("wandb")  # it is optional, and takes seconds
        self.unit = subject.unit
        self.run = self.wandb.init(
            project=project,
            id=subject.name if subject.ordered else None,
            name=subject.name,
            dir=str(subject.folder),
            config=subject.flat(),
            resume="allow" if subject.ordered else None,
            settings=self.wandb.Settings(console="off", quiet=True, finish_timeout=SECONDS),
        )
        self.had = dict(self.run.summary)
        self.kinds: set[str] = set()

    def has(self, entry: Entry) -> bool:
        """Whether the run went further before."""
        last = self.had.get(self._axis(entry))
        return isinstance(last, int | float) and entry.step <= last

    def write(self, entry: Entry) -> None:
        """Send <kind>/<name> for each value, and the picture as <kind>/picture."""
        if entry.kind not in self.kinds:
            self.run.define_metric(f"{entry.kind}/*", step_metric=self._axis(entry))
            self.kinds.add(entry.kind)

        line = {f"{entry.kind}/{name}": value for name, value in entry.values.items()}
        line[self._axis(entry)] = entry.step
        if entry.picture is not None:
            line[f"{entry.kind}/picture"] = self.wandb.Image(str(entry.picture))
        self.run.log(line)

    def _axis(self, entry: Entry) -> str:
        return f"{entry.kind}/{self.unit}"

    def flush(self) -> None:
        """Nothing: it sends by itself."""

    def close(self) -> None:
        """Wait until it has sent what it has, but not for ever."""
        self.run.finish()


def _open(subject: Subject, project: str) -> Sink:
    return WandB(subject, project)


WANDB = Kind("wandb", "wandb", _open)
