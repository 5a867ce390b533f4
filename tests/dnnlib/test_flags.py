"""Flags under headings."""

import click
from click.testing import CliRunner

from dnnlib.flags import Finite, FlagGroups, Program, add_flags, flag

FIRST: FlagGroups = {
    "Fruit": [flag("--apple", "Red", default=3, show_default=True), flag("--pear", "Green")]
}
SECOND: FlagGroups = {
    "Stone": [flag("--flint", "Grey", is_flag=True)],
    "Fruit": [flag("--plum", "Blue")],
}


@click.command(cls=Program)
@add_flags(FIRST, SECOND)
def program(**flags: object) -> None:
    """A program."""
    click.echo(sorted(flags.items(), key=str))


def test_help_shows_every_flag_under_its_heading_in_order() -> None:
    lines = [
        line.split()
        for line in CliRunner().invoke(program, ["--help"]).output.splitlines()
        if line.strip()
    ]
    assert [words[0] for words in lines[2:]] == [
        "Fruit:", "--apple", "--pear", "--plum", "Stone:", "--flint", "Other:", "-h,",
    ]  # fmt: skip
    assert lines[3][2:] == ["Red", "[default:", "3]"]


def test_values_reach_the_program() -> None:
    result = CliRunner().invoke(program, ["--apple", "4", "--flint"])
    assert result.output == "[('apple', 4), ('flint', True), ('pear', None), ('plum', None)]\n"


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
    flags: FlagGroups = {"Fruit": [flag("--apple", "Red", default=3, old=["--pomme"])]}

    @click.command(cls=Program)
    @add_flags(flags)
    def eat(apple: int) -> None:
        click.echo(apple)

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
