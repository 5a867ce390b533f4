"""Command-line flags in groups: programs share the groups, and --help shows each under its heading."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import click

from dnnlib.cli import Command
from dnnlib.numbers import LARGEST_SEED

# Heading -> (--name, help text, settings of click.option)
FlagGroups = dict[str, list[tuple[str, str, dict[str, Any]]]]


class Flag(click.Option):
    """An option that knows its heading, and the names that it had.

    Args:
        heading: where --help shows it.
        old: former names, which do the same and are not shown.
    """

    def __init__(
        self, *args: Any, heading: str = "Options", old: Sequence[str] = (), **settings: Any
    ) -> None:
        super().__init__(*args, **settings)
        self.heading, self.old = heading, list(old)

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Let the parser know the former names too."""
        shown = self.opts
        self.opts = [*shown, *self.old]
        super().add_to_parser(parser, ctx)
        self.opts = shown


class Finite(click.FloatRange):
    """A range of numbers without NaN, which click lets through every range, and without infinity."""

    name = "float"

    def _describe_range(self) -> str:
        """For --help; click writes x<=None where there are no ends."""
        return "" if self.min is None and self.max is None else super()._describe_range()

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Parse `value`; a usage error if it is no number of the range."""
        number = float(click.FLOAT.convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{number:g} is no finite number", param, ctx)
        return float(super().convert(number, param, ctx))


SEED = click.IntRange(0, LARGEST_SEED)
WORKERS = click.IntRange(0, 1024)  # processes
MOST_MIMG = 1_000_000  # a length in million images: a thousand times the longest published run
MIMG, MIMG_OR_0 = Finite(0, MOST_MIMG, min_open=True), Finite(0, MOST_MIMG)


class Program(Command):
    """A command whose --help shows flags under their headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section for each heading, in the order of the flags."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Argument):
                continue  # the usage line has it
            row = parameter.get_help_record(ctx)
            if row is not None:
                sections.setdefault(getattr(parameter, "heading", "Other"), []).append(row)
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl(rows)


def flag(name: str, help: str, **settings: Any) -> tuple[str, str, dict[str, Any]]:
    """One entry of a group: the flag's name, its help, and settings of click.option."""
    return name, help, settings


def add_flags(*groups: FlagGroups) -> Callable[[Any], Any]:
    """Decorate a click command with groups of flags, in their order."""
    rows = [
        (heading, *row) for group in groups for heading, flags in group.items() for row in flags
    ]

    def decorate(command: Any) -> Any:
        for heading, name, help, settings in reversed(rows):
            command = click.option(name, help=help, cls=Flag, heading=heading, **settings)(command)
        return command

    return decorate
