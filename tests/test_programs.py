"""What all programs have in common, tried on each of them."""

import os
from importlib import import_module
from pathlib import Path

import click
import processes
import pytest
from click.testing import CliRunner
from tiny_network import saved

from dnnlib.cli import Command
from dnnlib.files import atomic_write
from dnnlib.flags import Flag
from dnnlib.start import PROGRAMS

# Flags of past documents, and what they are called now: one name for one thing.
FORMER = {
    ("demo", "--out"): "--dest",
    ("finetune network", "--duration"): "--duration-images",
    ("finetune network", "--ema"): "--ema-images",
    ("finetune network", "--out"): "--outdir",
    ("finetune rho", "--duration"): "--duration-images",
    ("finetune rho", "--out"): "--dest",
    ("demo_detector train", "--out"): "--dest",
    ("tables tune", "--data"): "--ref-images",
    ("tables show", "--out"): "--outdir",
    ("tables tune", "--out"): "--outdir",
    ("tables tune", "--reference"): "--ref",
    ("train", "--fid-detector"): "--detector",
    ("train", "--fid-ref"): "--ref",
    ("train", "--sheet"): "--grid",
}


def all_commands() -> dict[str, click.Command]:
    """Every program, and every command of those that have several."""
    found: dict[str, click.Command] = {}
    for name in PROGRAMS:
        main = import_module(name.removesuffix(".py").replace("/", ".")).main
        title = name.removesuffix(".py").removesuffix("/__main__").rsplit("/", 1)[-1]
        found[title] = main
        if isinstance(main, click.Group):
            found |= {f"{title} {sub}": command for sub, command in main.commands.items()}
    return found


COMMANDS = all_commands()


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_process_that_imports_nothing_else_tells_how_it_is_used(program: str) -> None:
    module = ["-m", program.removesuffix(".py").removesuffix("/__main__").replace("/", ".")]
    done = processes.run(*(module if "/" in program else [program]), "-h")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("Usage: ")


@pytest.mark.parametrize("name", COMMANDS)
def test_errors_help_and_choices_are_the_common_ones(name: str) -> None:
    command = COMMANDS[name]
    assert isinstance(command, Command)
    short, long = (CliRunner().invoke(command, [flag]) for flag in ("-h", "--help"))
    assert short.exit_code == 0 and short.output == long.output
    assert "None" not in short.output
    for parameter in command.params:
        if isinstance(parameter.type, click.Choice):
            assert parameter.type.convert(
                str(list(parameter.type.choices)[-1]).upper(), parameter, None
            )


@pytest.mark.parametrize("name", COMMANDS)
def test_flags_are_fields_of_groups(name: str) -> None:
    for parameter in COMMANDS[name].params:
        assert isinstance(parameter, Flag | click.Argument), f"{name}: {parameter.opts}"


@pytest.mark.parametrize("name", COMMANDS)
def test_an_empty_value_is_refused_by_its_flag(name: str) -> None:
    for parameter in COMMANDS[name].params:
        if isinstance(parameter, click.Option) and not parameter.is_flag:
            result = CliRunner().invoke(COMMANDS[name], [parameter.opts[0], ""])
            assert (
                result.exit_code == 2
                and f"an empty value is given after {parameter.opts[0]}" in result.stderr
            )


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
                    assert meaning and "EDM's time step exponent" in str(
                        getattr(parameter, "help", "")
                    ), name


def test_one_name_has_one_unit() -> None:
    """A length is in million images (EDM's flags) or its name says what it is in."""
    kinds: dict[str, set[str]] = {}
    for command in COMMANDS.values():
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                kinds.setdefault(parameter.opts[0], set()).add(
                    parameter.type.name.partition(" ")[0]
                )
    assert {flag for flag, found in kinds.items() if len(found & {"integer", "float"}) > 1} == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_counts_are_bounded(name: str) -> None:
    for parameter in COMMANDS[name].params:
        if isinstance(parameter, click.Option) and isinstance(parameter.type, click.IntRange):
            result = CliRunner().invoke(COMMANDS[name], [parameter.opts[0], "1" + "0" * 30])
            assert result.exit_code == 2 and "1" + "0" * 30 in result.stderr, parameter.name
            assert result.stderr.splitlines()[-1].startswith("Error: Invalid value"), parameter.name


@pytest.mark.parametrize(
    ("name", "flag", "rest"),
    [
        ("demo", "--dest", []),
        ("fid ref", "--dest", ["--data", "assets/demo/images.zip"]),
        ("finetune rho", "--dest", ["--duration-images", "32"]),
        ("demo_detector train", "--dest", ["--data", "assets/demo/images.zip"]),
        ("tables run", "--results", ["table2"]),
        ("tables run", "--results", ["table2", "--dry-run"]),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_first(
    name: str, flag: str, rest: list[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    result = CliRunner().invoke(COMMANDS[name], [flag, str(tmp_path / "file" / "x.npz"), *rest])
    assert (
        result.exit_code == 2 and f"{flag}={tmp_path}/file/x.npz: cannot write to" in result.stderr
    )


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("demo --dest", ".png"),
        ("explore --page", ".html"),
        ("fid ref --data assets/demo/images.zip --dest", ".npz"),
        ("autoencoder encode --autoencoder a --data assets/demo/images.zip --dest", ".npz"),
        ("autoencoder reconstruct --autoencoder a --data assets/demo/images.zip --dest", ".npz"),
        ("checkpoint convert demo", ".safetensors"),
        ("checkpoint reconstruct --std 0.1 runs", ".safetensors"),
        ("demo_detector train --data assets/demo/images.zip --dest", ".safetensors"),
        ("finetune rho --duration-images 32 --dest", ".json"),
        ("plot assets/demo/stats.jsonl", ".png"),
    ],
)
def test_a_file_is_what_its_name_says(line: str, wanted: str, tmp_path: Path) -> None:
    name = next(name for name in sorted(COMMANDS, key=len, reverse=True) if line.startswith(name))
    arguments = [*line.removeprefix(name).split(), str(tmp_path / "x.jpg")]
    result = CliRunner().invoke(COMMANDS[name], arguments)
    assert result.exit_code == 2 and f"{tmp_path}/x.jpg: what is written there is " in result.stderr
    assert result.stderr.endswith(f"name a file that ends so, as x{wanted}\n")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_no_utf8_is_told(tmp_path: Path) -> None:
    target = tmp_path / "\udcff.safetensors"
    result = CliRunner().invoke(COMMANDS["checkpoint convert"], [saved(tmp_path), str(target)])
    assert result.exit_code == 0, result.stderr
    assert target.exists() and b"\xff.safetensors" in result.stdout_bytes


def test_a_pipe_is_no_data_set(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for source in [tmp_path / "pipe"]:
        result = CliRunner().invoke(
            COMMANDS["dataset_tool"], ["--source", str(source), "--dest", f"{tmp_path}/x.zip"]
        )
        assert result.exit_code == 2 and f"{source} is no file and no folder" in result.stderr


def test_a_result_never_takes_the_place_of_a_device(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"  # in place of /dev/null, which root would lose
    os.mkfifo(pipe)
    with pytest.raises(ValueError, match="no ordinary file"), atomic_write(pipe) as file:
        file.write(b"x")
    result = CliRunner().invoke(COMMANDS["demo"], ["--dest", str(pipe)])
    assert result.exit_code == 2 and "is no ordinary file" in result.stderr
    assert pipe.is_fifo()
