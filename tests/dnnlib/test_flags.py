"""Flags as fields of groups: their types, headings and defaults, and what reaches a program."""

from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from typing import Any, Literal

import click
import pytest
from click.testing import CliRunner

from dnnlib.flags import Finite, Flags, Program, add_flags, flag


@dataclass(frozen=True, kw_only=True)
class SkinFlags(Flags):
    """A part of a group, without a heading of its own."""

    peel: bool = flag("First", default=False)


@dataclass(frozen=True, kw_only=True)
class FruitFlags(Flags, heading="Fruit"):
    """A group."""

    apple: int = flag("Red", default=3)
    skin: SkinFlags
    pear_tree: str | None = flag("Green")


@dataclass(frozen=True, kw_only=True)
class StoneFlags(Flags, heading="Stone"):
    """Another group."""

    flint: bool = flag("Grey", default=False)


@dataclass(frozen=True, kw_only=True)
class OrchardFlags(FruitFlags):
    """A group that has a further flag than the one it is made of."""

    plum: str | None = flag("Blue", name="--S_plum")


@click.command(cls=Program)
@click.argument("place", required=False)
@add_flags(StoneFlags, OrchardFlags)
def program(stone: StoneFlags, fruit: OrchardFlags, place: str | None) -> tuple[Any, ...]:
    """A program."""
    return stone, fruit, place


def run(command: Any, *args: str) -> Any:
    """What a program returns, or its error."""
    result = CliRunner().invoke(command, args, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.return_value


def parsed(group: type[Flags], *args: str) -> Any:
    """The group of a command line."""
    return run(click.command()(add_flags(group)(lambda flags: flags)), *args)


def test_help_shows_every_flag_under_its_heading_in_order() -> None:
    lines = [
        line.split()
        for line in CliRunner().invoke(program, ["--help"]).output.splitlines()
        if line.strip()
    ]
    assert [words[0] for words in lines[2:]] == [
        "Stone:", "--flint", "Fruit:", "--apple", "--peel", "--pear-tree", "--S_plum", "Other:",
        "--version", "-h,",
    ]  # fmt: skip
    assert lines[5][2:] == ["Red", "[default:", "3]"]
    assert lines[6] == ["--peel", "First"]


def test_the_program_gets_one_object_a_group_and_the_arguments() -> None:
    peeled = SkinFlags(peel=True)
    expected = OrchardFlags(apple=4, skin=peeled, pear_tree="x", plum="y")
    args = ("--apple", "4", "--peel", "--pear-tree", "x", "--S_plum", "y", "there")
    assert run(program, *args) == (StoneFlags(flint=False), expected, "there")
    assert run(program) == (StoneFlags(), OrchardFlags(skin=SkinFlags()), None)


def test_a_group_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        StoneFlags().flint = True  # type: ignore[misc]


def test_what_was_given_is_what_is_not_none() -> None:
    fruit = OrchardFlags(skin=SkinFlags(peel=True), plum="y")
    assert fruit.given() == {"apple": 3, "plum": "y"}
    both = OrchardFlags(skin=SkinFlags(), plum="a", pear_tree="b")
    assert list(both.given()) == ["apple", "pear_tree", "plum"]
    assert [fruit.typed(name) for name in ("plum", "pear_tree")] == ["--S_plum", "--pear-tree"]


def test_types_follow_from_annotations() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Kinds(Flags):
        whole: int | None = flag("")
        real: float | None = flag("")
        text: str = flag("", required=True)
        file: Path | None = flag("")
        colour: Literal["red", "green"] = flag("", default="red")
        often: tuple[int, ...] = flag("", default=(1, 2))
        switch: bool = flag("", default=False)
        unless: bool | None = flag("")
        clip: bool | None = flag("", name="--no-clip", off=True)
        tied: bool = flag("", name="--tied/--free", default=True)
        share: float | None = flag("", type=Finite(0, 1))

    plain = parsed(Kinds, "--text", "a")
    assert plain == Kinds(text="a") and (plain.switch, plain.unless, plain.clip) == (False, None, None)  # fmt: skip

    line = """--whole 2 --real 3 --text a --file b --colour green --often 4 --often 5 --switch --unless --no-clip --free
        --share 0.5"""
    found = parsed(Kinds, *line.split())
    assert found == Kinds(
        whole=2, real=3.0, text="a", file=Path("b"), colour="green", often=(4, 5), switch=True, unless=True,
        clip=False, tied=False, share=0.5,
    )  # fmt: skip
    assert isinstance(found.real, float) and isinstance(found.file, Path)

    for wrong in ("--whole 1.5", "--real x", "--colour blue", "--often x", "--share 2"):
        with pytest.raises(click.BadParameter):
            parsed(Kinds, "--text", "a", *wrong.split())
    with pytest.raises(click.MissingParameter, match="text"):
        parsed(Kinds)


def test_an_annotation_that_says_too_little_is_refused() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Vague(Flags):
        sizes: list[int] | None = flag("")

    with pytest.raises(TypeError, match=r"sizes: no flag is made of list\[int\]; give its click"):
        add_flags(Vague)


def test_a_flag_that_would_be_none_where_its_type_is_not_is_refused() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Forgotten(Flags):
        size: int = flag("")

    with pytest.raises(TypeError, match="size would be None: give it a default, or require it"):
        add_flags(Forgotten)


def test_a_group_that_is_no_dataclass_is_refused() -> None:
    class Forgotten(Flags):
        size: int | None = flag("")

    with pytest.raises(TypeError, match="Forgotten lacks @dataclass"):
        add_flags(Forgotten)


@pytest.mark.parametrize(
    ("name", "old", "message"),
    [
        ("--flint", (), "--flint"),
        ("--marble", ("--flint",), "--flint"),
        ("--free/--flint", (), "--flint"),
        ("--S_stone", (), "S_stone"),
    ],
)
def test_two_flags_of_one_name_are_refused(name: str, old: tuple[str, ...], message: str) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Second(Flags):
        other: bool = flag("", name=name, old=old, default=False)

    @dataclass(frozen=True, kw_only=True)
    class First(StoneFlags):
        S_stone: str | None = flag("")

    with pytest.raises(ValueError, match=f"two flags are called {message}: rename one"):
        add_flags(First, Second)


def test_a_finite_number() -> None:
    @click.command()
    @click.option("--size", type=Finite(min=0))
    def measure(size: float) -> None:
        click.echo(size)

    assert CliRunner().invoke(measure, ["--size", "2"]).output == "2.0\n"
    for text, told in (
        ("inf", "inf is no finite number"),
        ("nan", "nan is no finite number"),
        ("-1", "x>=0"),
    ):
        result = CliRunner().invoke(measure, ["--size", text])
        assert result.exit_code == 2 and told in result.output


def test_a_former_name_does_the_same_and_is_not_shown() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Fruit(Flags):
        apple: int = flag("Red", default=3, old=["--pomme"])

    @click.command(cls=Program)
    @add_flags(Fruit)
    def eat(fruit: Fruit) -> None:
        click.echo(fruit.apple)

    assert CliRunner().invoke(eat, ["--pomme", "4"]).output == "4\n"
    assert "pomme" not in CliRunner().invoke(eat, ["-h"]).output


def test_a_finite_number_without_ends_has_none_in_the_help() -> None:
    @click.command()
    @click.option("--size", type=Finite(), default=3.0, help="How large")
    @click.option("--share", type=Finite(0, 1), help="How much")
    def measure(size: float, share: float) -> None:
        pass

    text = CliRunner().invoke(measure, ["--help"]).output
    assert "None" not in text and "0<=x<=1" in text
