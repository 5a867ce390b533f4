"""Sends what files say to sinks: each entry once, and no fault of a sink ends the run."""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from dnnlib.cli import warn
from dnnlib.sinks.sink import Entry, Sink, Subject
from dnnlib.sinks.table import SINKS


@dataclass(frozen=True)
class Target:
    """A sink that is wanted.

    Args:
        name: one of `SINKS`.
        project: that it sends to; where it has projects.
    Raises:
        ValueError: if there is no such sink, or a project has no name.
        RuntimeError: if its package is not installed.
    """

    name: str
    project: str | None = None

    def __post_init__(self) -> None:
        if self.name not in SINKS:
            raise ValueError(f"there is no sink {self.name!r}; choose from {', '.join(SINKS)}")
        if self.project is not None and not self.project.strip():
            raise ValueError(f"the project of {self.name} has no name")
        kind = SINKS[self.name]
        if find_spec(kind.package) is None:
            raise RuntimeError(
                f"{self.name} needs the package {kind.package}: pip install -c constraints.txt '.[{kind.extra}]'"
            )


class Mirror:
    """Keeps sinks up to date with files, which stay the truth.

    A sink is opened when there is something to send. One that fails is told of in a warning, and gets nothing more.

    Args:
        targets: the sinks that are wanted; on other ranks than 0 none.
        subject: what they are told that it is of.
        read: the entries that there are now, in order.
    """

    def __init__(
        self,
        targets: Iterable[Target],
        subject: Subject,
        read: Callable[[], Iterable[Entry]],
    ) -> None:
        self.subject, self.read = subject, read
        self.waiting = list(targets)
        self.open: dict[Target, Sink] = {}
        self.sent: set[tuple[str, int]] = set()

    def __enter__(self) -> "Mirror":
        return self

    def __exit__(self, *failure: Any) -> None:
        for target in list(self.open):
            with self._forgiven(target):
                self.open[target].close()
        self.open.clear()

    def update(self) -> None:
        """Send what is new in the files."""
        if not self.waiting and not self.open:
            return
        try:
            new = [entry for entry in self.read() if (entry.kind, entry.step) not in self.sent]
        except (OSError, ValueError) as error:  # who needs the file says so
            warn(f"nothing is sent of a file that cannot be read: {error}")
            return
        if not new:
            return

        for target in self.waiting:
            with self._forgiven(target):
                self.open[target] = SINKS[target.name].open(self.subject, target.project or "")
        self.waiting = []
        for target in list(self.open):
            with self._forgiven(target):
                _send(self.open[target], new)
        self.sent |= {(entry.kind, entry.step) for entry in new}

    @contextlib.contextmanager
    def _forgiven(self, target: Target) -> Iterator[None]:
        """A use of a sink: what it prints goes to stderr, and if it fails, it is done with."""
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield
        except Exception as error:  # of other people's code, or of the network
            self.open.pop(target, None)
            told = str(error) or type(error).__name__
            warn(f"{target.name} gets nothing more, the run goes on: {told}")


def _send(sink: Sink, entries: Iterable[Entry]) -> None:
    for entry in entries:
        if not sink.has(entry):
            sink.write(entry)
    sink.flush()
