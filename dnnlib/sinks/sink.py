"""What a sink is told, and what it must be able to do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Entry:
    """Numbers, or a picture, at one step.

    Attributes:
        kind: what curves it belongs to, as "train"; with the step it says which entry this is.
        step: a count, as of images.
        values: name -> number.
        picture: a PNG file, or None.
    """

    kind: str
    step: int
    values: Mapping[str, float] = field(default_factory=dict)
    picture: Path | None = None


@dataclass(frozen=True)
class Subject:
    """What the entries are of.

    Attributes:
        folder: where its files are.
        unit: what steps count.
        settings: what it was made with.
        ordered: whether entries of a kind come in the order of their steps, in all processes together.
    """

    folder: Path
    unit: str
    settings: Mapping[str, Any]
    ordered: bool = True

    @property
    def name(self) -> str:
        """The same for the same folder, another for every other: its last part, and a hash of the whole path."""
        whole = self.folder.resolve()
        return f"{whole.name}-{sha256(str(whole).encode()).hexdigest()[:8]}"

    def flat(self) -> dict[str, str | float]:
        """The settings as a table of words and numbers: those within one get its name and a dot before their own."""
        return dict(_flat("", self.settings))


def _flat(prefix: str, settings: Mapping[str, Any]) -> list[tuple[str, str | float]]:
    found: list[tuple[str, str | float]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found += _flat(f"{prefix}{name}.", value)
        elif isinstance(value, str | int | float):
            found.append((prefix + name, value))
        else:
            found.append((prefix + name, str(value)))
    return found


class Sink(Protocol):
    """Takes entries; any error is the caller's to bear."""

    def has(self, entry: Entry) -> bool:
        """Whether it has this entry of an earlier process, and would have it twice."""

    def write(self, entry: Entry) -> None:
        """Take an entry."""

    def flush(self) -> None:
        """Make what was written visible."""

    def close(self) -> None:
        """There will be no more."""


@dataclass(frozen=True)
class Kind:
    """One kind of sink.

    Attributes:
        package: that it needs, as it is imported.
        extra: of ours, that installs it.
        open: of a subject and the name of a project, which may be empty.
    """

    package: str
    extra: str
    open: Callable[[Subject, str], Sink]
