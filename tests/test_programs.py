"""What all programs have in common, tried on each of them."""

from importlib import import_module

import click
import pytest
from click.testing import CliRunner

from dnnlib.cli import Command
from dnnlib.flags import Flag
from dnnlib.start import PROGRAMS

# Flags of past documents, and what they are called now: one name for one thing.
FORMER = {
    ("demo", "--out"): "--dest",
    ("finetune network", "--out"): "--outdir",
    ("finetune rho", "--out"): "--dest",
    ("demo_detector train", "--out"): "--dest",
    ("tables tune", "--data"): "--ref-images",
    ("tables tune", "--out"): "--outdir",
    ("tables tune", "--reference"): "--ref",
    ("train", "--fid-detector"): "--detector",
    ("train", "--fid-ref"): "--ref",
}


def all_commands() -> dict[str, click.Command]:
    """Every program, and every command of those that have several."""
    found: dict[str, click.Command] = {}
    for name in PROGRAMS:
        main = import_module(name.removesuffix(".py").replace("/", ".")).main
        title = name.removesuffix(".py").rsplit("/", 1)[-1]
        found[title] = main
        if isinstance(main, click.Group):
            found |= {f"{title} {sub}": command for sub, command in main.commands.items()}
    return found


COMMANDS = all_commands()


@pytest.mark.parametrize("name", COMMANDS)
def test_errors_help_and_choices_are_the_common_ones(name: str) -> None:
    command = COMMANDS[name]
    assert isinstance(command, Command)
    short, long = (CliRunner().invoke(command, [flag]) for flag in ("-h", "--help"))
    assert short.exit_code == 0 and short.output == long.output
    assert "None" not in short.output
    for parameter in command.params:
        if isinstance(parameter.type, click.Choice):
            assert parameter.type.convert(str(list(parameter.type.choices)[-1]).upper(), parameter, None)


@pytest.mark.parametrize("name", COMMANDS)
def test_an_empty_value_is_refused_by_its_flag(name: str) -> None:
    for parameter in COMMANDS[name].params:
        if isinstance(parameter, click.Option) and not parameter.is_flag:
            result = CliRunner().invoke(COMMANDS[name], [parameter.opts[0], ""])
            assert result.exit_code == 2 and f"an empty value is given after {parameter.opts[0]}" in result.stderr


def test_former_names_are_known_and_not_shown() -> None:
    found = {}
    for name, command in COMMANDS.items():
        for parameter in command.params:
            for old in getattr(parameter, "old", ()):
                assert isinstance(parameter, Flag)
                found[name, old] = parameter.opts[0]
                assert old not in CliRunner().invoke(command, ["-h"]).output.split()
    assert found == FORMER


def test_one_name_is_one_thing() -> None:
    meanings = {("--rho", "the skip coefficient"), ("--reference", ""), ("--fid-ref", "")}
    for name, command in COMMANDS.items():
        for parameter in command.params:
            for flag, meaning in meanings:
                if flag in parameter.opts and not getattr(parameter, "hidden", False):
                    assert meaning and "EDM's time step exponent" in str(getattr(parameter, "help", "")), name
