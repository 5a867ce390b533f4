"""Command-line flags: a flag is a field of a frozen dataclass, a group, and programs are called with groups.

    @dataclass(frozen=True, kw_only=True)
    class SkipFlags(Flags, heading="Skip-Tuning"):
        bottom: float | None = flag("Skip coefficient rho of the deepest layer", name="--rho-bottom")

    @click.command(cls=Program)
    @add_flags(SkipFlags)
    def main(skip: SkipFlags) -> None:
        click.echo(skip.bottom)

A field that is itself a group puts that group's flags in its place.
"""

import functools
import math
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import (
    Any,
    ClassVar,
    Literal,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

import click

from dnnlib.cli import Command
from dnnlib.completion import files
from dnnlib.numbers import LARGEST_SEED


class Flag(click.Option):
    """An option that knows its heading, and the names that it had; TAB offers files for a text.

    Args:
        heading: where --help shows it.
        old: former names, which do the same and are not shown.
    """

    def __init__(
        self, *args: Any, heading: str = "Options", old: Sequence[str] = (), **settings: Any
    ) -> None:
        if settings.get("type") is str:
            settings.setdefault("shell_complete", files)
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


POSITIVE = Finite(min=0, min_open=True)


class IntList(click.ParamType):
    """Whole numbers divided by commas, e.g. 1,2,4, none below a least one."""

    name = "list"

    def __init__(self, least: int) -> None:
        self.least = least

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[int]:
        """Parse `value`; a usage error if it is no such list."""
        try:
            numbers = [int(x) for x in value.split(",")]
        except ValueError:
            self.fail(f"{value!r} is not a list like 1,2,4", param, ctx)
        if min(numbers) < self.least:
            self.fail(f"{value!r} has a number below {self.least}", param, ctx)
        return numbers


class NumberList(click.ParamType):
    """Finite numbers divided by commas, e.g. 0.05,0.1."""

    name = "list"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[float]:
        """Parse `value`; a usage error if it is no such list."""
        try:
            numbers = [float(x) for x in value.split(",")]
        except ValueError:
            self.fail(f"{value!r} is not a list like 0.05,0.1", param, ctx)
        if not all(math.isfinite(number) for number in numbers):
            self.fail(f"{value!r} has a number that is not finite", param, ctx)
        return numbers


COUNT = click.IntRange(min=1)
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


@dataclass(frozen=True)
class _Row:
    """What `flag` was told.

    Attributes:
        name: as it is typed; empty for that of the field.
        off: whether the flag stands for False.
        settings: of click.Option.
    """

    name: str
    off: bool
    settings: dict[str, Any]


Value = TypeVar("Value")


@overload
def flag(
    help: str, *, name: str = "", default: Value, off: bool = ..., **settings: Any
) -> Value: ...
@overload
def flag(
    help: str, *, name: str = "", required: bool = ..., off: bool = ..., **settings: Any
) -> Any: ...
def flag(
    help: str,
    *,
    name: str = "",
    default: Any = None,
    required: bool = False,
    off: bool = False,
    **settings: Any,
) -> Any:
    """A field of a group: one flag, whose click type follows from the field's annotation.

    bool is a flag without a value, a Literal a choice, tuple[X, ...] a flag that can be given several times.

    Args:
        help: for --help, which adds the default.
        name: as it is typed, such as "--S_churn" or "--bounded/--free"; left out, the field's name with dashes.
        default: its value where it is not given; the annotation must have None where there is none.
        required: refuse to run without it; there is no default then.
        off: of a bool: given, it is False.
        settings: of `Flag`: the type where the annotation says too little, metavar, hidden; former names as `old`;
            what TAB offers as `shell_complete`, see dnnlib/completion.py.
    """
    row = _Row(name, off, settings | {"help": help, "required": required})
    if required:
        return field(metadata={"row": row})
    return field(default=default, metadata={"row": row})


@dataclass(frozen=True, kw_only=True)
class Flags:
    """A group of flags: subclasses are dataclasses whose fields are made by `flag`, or are groups themselves.

    A subclass may name its heading in --help: class SkipFlags(Flags, heading="Skip-Tuning"). Without one its flags
    stand under that of the group they are in.
    """

    heading: ClassVar[str] = ""

    def __init_subclass__(cls, heading: str = "") -> None:
        super().__init_subclass__()
        cls.heading = heading or cls.heading

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Self:
        """The group of a command line, from click's parameters, among which are those of other groups."""
        values = {}
        for one, kind in cls._fields():
            if _is_group(kind):
                values[one.name] = kind.of(parameters)
                continue
            value = parameters[_parameter(one)]
            values[one.name] = False if value and one.metadata["row"].off else value
        return cls(**values)

    def given(self) -> dict[str, Any]:
        """Attribute -> value of this group's own flags, in their order, without those that are None."""
        found = {}
        for one, kind in self._fields():
            value = getattr(self, one.name)
            if value is not None and not _is_group(kind):
                found[one.name] = value
        return found

    @classmethod
    def typed(cls, attribute: str) -> str:
        """The flag of an attribute as users type it, such as "--S_churn"."""
        return next(_typed(one) for one in fields(cls) if one.name == attribute)

    @classmethod
    def options(cls, heading: str = "Options") -> Iterator[tuple[list[str], dict[str, Any]]]:
        """The names and the other arguments of a `Flag` for each flag, in their order.

        Args:
            heading: of groups that have none.
        Raises:
            TypeError: for an annotation of which no flag can be made, or that its default does not have.
        """
        heading = cls.heading or heading
        for one, kind in cls._fields():
            if _is_group(kind):
                yield from kind.options(heading)
                continue
            row: _Row = one.metadata["row"]
            settings = {"heading": heading} | row.settings
            if "type" not in settings:
                settings |= _type_of(one.name, kind)
            if not row.settings["required"]:
                settings |= {"default": one.default, "show_default": one.default is not None}
            yield [row.name or _typed(one), _parameter(one)], settings

    @classmethod
    def _fields(cls) -> Iterator[tuple[Field[Any], Any]]:
        """The fields, and of each the type that it has where it is not None."""
        if "__dataclass_fields__" not in vars(cls):
            raise TypeError(f"{cls.__name__} lacks @dataclass(frozen=True, kw_only=True)")
        hints = get_type_hints(cls)
        for one in fields(cls):
            hint = hints[one.name]
            kind = _without_none(hint)
            if one.default is None and kind is hint:
                raise TypeError(f"{one.name} would be None: give it a default, or require it")
            yield one, kind


def _is_group(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Flags)


def _typed(one: Field[Any]) -> str:
    """The name that users type; of --bounded/--free the first."""
    name: str = one.metadata["row"].name or f"--{one.name.replace('_', '-')}"
    return name.partition("/")[0]


def _parameter(one: Field[Any]) -> str:
    """What click calls it, among the flags of all groups of a program."""
    return _typed(one).removeprefix("--").replace("-", "_")


def _without_none(hint: Any) -> Any:
    parts = [part for part in get_args(hint) if part is not types.NoneType]
    is_optional = get_origin(hint) in (Union, types.UnionType) and len(parts) == 1
    return parts[0] if is_optional else hint


def _type_of(name: str, kind: Any) -> dict[str, Any]:
    """The settings of a click option that an annotation implies."""
    if kind is bool:
        return {"is_flag": True}
    if kind in (int, float, str):
        return {"type": kind}
    if kind is Path:
        return {"type": click.Path(path_type=Path)}
    if get_origin(kind) is Literal:
        return {"type": click.Choice(get_args(kind))}
    if get_origin(kind) is tuple and get_args(kind)[1:] == (...,):
        return _type_of(name, get_args(kind)[0]) | {"multiple": True}
    raise TypeError(f"{name}: no flag is made of {kind}; give its click type")


def add_flags(*groups: type[Flags]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a command with groups of flags; it is called with one object for each, in their order.

    click's arguments follow by name.

    Raises:
        ValueError: if two flags have the same name.
    """
    options = [option for group in groups for option in group.options()]
    _refuse_doubles(options)
    parameters = {names[-1] for names, _ in options}

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def called(**values: Any) -> Any:
            rest = {name: value for name, value in values.items() if name not in parameters}
            return command(*(group.of(values) for group in groups), **rest)

        for names, settings in reversed(options):
            called = click.option(*names, cls=Flag, **settings)(called)
        return called

    return decorate


def _refuse_doubles(options: Sequence[tuple[list[str], dict[str, Any]]]) -> None:
    seen: set[str] = set()
    for (names, parameter), settings in options:
        mine = {parameter, *names.split("/"), *settings.get("old", ())}
        for name in sorted(mine & seen):
            raise ValueError(f"two flags are called {name}: rename one, or leave out its group")
        seen |= mine
