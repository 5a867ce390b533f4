"""Errors of a program: one line and an exit status, whatever goes wrong."""

import errno
import os
import platform
import signal
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from tqdm import tqdm

from dnnlib.cli import Command, Group
from dnnlib.interrupts import Stopped
from dnnlib.places import ROOT


@pytest.fixture
def sigint_kept() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def raising(error: BaseException, resumes: bool = False) -> Command:
    @click.command(cls=Command, resumes=resumes)
    def program() -> None:
        raise error

    return program


def outcome(error: BaseException) -> tuple[int, str]:
    result = CliRunner().invoke(raising(error), prog_name="program")
    return result.exit_code, result.output


@click.group(cls=Group)
def tools() -> None:
    """Several commands."""


@tools.command()
@click.option("--kind", type=click.Choice(["plain", "Tuned"]))
@click.option("--steps", type=int)
@click.argument("name", required=False)
def draw(kind: str, steps: int, name: str) -> None:
    """One of them."""
    click.echo(f"{kind} {steps} {name}")


def run(*args: str) -> Result:
    return CliRunner().invoke(tools, args, prog_name="tools")


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, FileNotFoundError, PermissionError])
def test_a_library_error_is_one_line(kind: type[Exception]) -> None:
    assert outcome(kind("two\n  lines")) == (2, "Error: two lines\n")


@pytest.mark.parametrize(
    "number, words",
    [
        (errno.ENOSPC, "the disk is full; make room, or choose another place"),
        (errno.EDQUOT, "your share of the disk is used up; make room, or choose another place"),
        (errno.EROFS, "the disk can only be read; choose another place"),
        (errno.EACCES, "you may not use it; choose another place, or change its permissions"),
        (errno.ENOENT, "no such file or folder; check the path"),
    ],
)
def test_what_the_system_refuses_is_told_with_the_way_out(number: int, words: str) -> None:
    error = OSError(number, os.strerror(number), "out/x.npz")
    assert outcome(error) == (2, f"Error: out/x.npz: {words}\n")
    assert outcome(OSError(number, os.strerror(number))) == (2, f"Error: {words}\n")


def test_other_errors_of_the_system_are_as_they_are() -> None:
    said = "Error: [Errno 5] Input/output error: 'x'\n"
    assert outcome(OSError(errno.EIO, "Input/output error", "x")) == (2, said)
    assert outcome(OSError("cannot write to x; choose another folder"))[1].endswith("folder\n")


def test_an_error_without_words_is_named() -> None:
    assert outcome(ValueError()) == (2, "Error: ValueError\n")


@pytest.mark.parametrize(
    "error, words",
    [
        (KeyError("seeds"), "KeyError: 'seeds'"),
        (MemoryError(), "MemoryError"),
        (RecursionError("too deep"), "RecursionError: too deep"),
        (OverflowError("int\ntoo large"), "OverflowError: int too large"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_what_nobody_foresaw_is_one_line_with_another_status(error: Exception, words: str) -> None:
    assert outcome(error) == (
        1,
        f"Error: {words} (not foreseen; SKIP_TUNING_TRACEBACK=1 shows where)\n",
    )


def test_too_large_a_batch_is_told_with_the_way_out() -> None:
    way_out = "; choose a smaller --batch, in training --batch-gpu\n"
    gpu = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 9.00 GiB. GPU 0 has a total capacity of 7 GiB."
    )
    assert outcome(gpu) == (2, f"Error: CUDA out of memory{way_out}")
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**58)
    code, output = outcome(caught.value)
    assert (
        code == 2
        and output.startswith("Error: can't allocate memory: ")
        and output.endswith(way_out)
    )


@pytest.mark.parametrize("kind, status", [(ValueError, 2), (KeyError, 1)])
def test_text_of_others_is_cut_and_made_printable(kind: type[Exception], status: int) -> None:
    code, output = outcome(kind("\x1b[2J" + "a" * 10**7 + "\u202e the way out"))
    assert code == status and len(output) < 1100 and "the way out" in output
    assert output[:-1].isprintable()


def test_exit_and_usage_errors_pass_through() -> None:
    assert outcome(click.exceptions.Exit(7)) == (7, "")
    assert outcome(click.UsageError("wrong flag"))[0] == 2


def test_a_broken_pipe_is_silent() -> None:
    assert outcome(BrokenPipeError(32, "Broken pipe")) == (1, "")


@pytest.mark.parametrize("error", [ValueError("shown whole"), KeyError("shown whole")])
def test_the_traceback_can_be_asked_for(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setenv("SKIP_TUNING_TRACEBACK", "1")
    assert CliRunner().invoke(raising(error)).exception is error


@pytest.mark.parametrize(
    "resumes, words", [(False, ""), (True, ": the same command goes on where this one was")]
)
@pytest.mark.usefixtures("sigint_kept")
def test_ctrl_c_is_one_line(resumes: bool, words: str) -> None:
    result = CliRunner().invoke(raising(KeyboardInterrupt(), resumes))
    assert (result.exit_code, result.stderr) == (130, f"\nInterrupted{words}\n")


@pytest.mark.parametrize("error", [ValueError("full"), KeyError("full"), KeyboardInterrupt()])
@pytest.mark.usefixtures("sigint_kept")
def test_a_message_is_not_glued_to_a_progress_bar(error: BaseException) -> None:
    @click.command(cls=Command)
    def program() -> None:
        bar = tqdm(total=3)
        bar.update()
        raise error

    lines = CliRunner().invoke(program).stderr.splitlines()
    assert lines[-1].startswith(("Error: ", "Interrupted"))


def bad_name() -> Result:
    return run("draw", "--\x1b[31m" + "a" * 10**6)


def bad_value() -> Result:
    return run("draw", "--steps", "\x1b[31m" + "9" * 10**6)


def bad_command() -> Result:
    return run("\x1b[31m" + "a" * 10**6)


def bad_argument() -> Result:
    return run("draw", "x", "\x1b[31m\u202e" + "a" * 10**6)


@pytest.mark.parametrize("usage_error", [bad_name, bad_value, bad_command, bad_argument])
def test_values_that_were_typed_are_cut_too(usage_error: Callable[[], Result]) -> None:
    result = usage_error()
    assert result.exit_code == 2 and "Error: " in result.stderr
    assert len(result.stderr) < 1300 and all(
        line.isprintable() for line in result.stderr.splitlines()
    )


@pytest.mark.parametrize(
    "args, words",
    [
        (["draw", "--kind", ""], "an empty value is given after --kind"),
        (["draw", "--kind="], "--kind is empty"),
        (["draw", "  "], "an empty value is given after draw"),
        ([""], "an empty value is given;"),
    ],
)
def test_an_empty_value_is_refused(args: list[str], words: str) -> None:
    result = run(*args)
    assert result.exit_code == 2 and words in result.stderr


def test_choices_are_taken_in_any_case() -> None:
    assert run("draw", "--kind", "PLAIN").output == "plain None None\n"
    assert run("draw", "--kind", "tuned").output == "Tuned None None\n"


@pytest.mark.parametrize("args", [["-h"], ["draw", "-h"], ["--help"], ["draw", "--help"]])
def test_help_is_short_too(args: list[str]) -> None:
    result = run(*args)
    assert (
        result.exit_code == 0 and "Usage: tools" in result.stdout and "-h, --help" in result.stdout
    )


def test_a_program_tells_its_versions_whatever_else_is_asked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    result = run("--version", "no-such-command")
    assert result.exit_code == 0
    assert result.output.startswith(
        f"{project['name']} {project['version']}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, numpy {np.__version__}, "
    )
    assert "--version" in run("-h").output

    assert run("draw", "--version").exit_code == 2
    assert "--version" not in run("draw", "-h").output


def test_what_is_not_installed_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("dnnlib.versions.metadata.version", nothing)
    assert ", torch (not installed), " in run("--version").output


def test_without_a_command_there_is_help() -> None:
    result = run()
    assert result.exit_code == 2 and "draw  One of them." in result.stderr


@pytest.mark.usefixtures("sigint_kept")
def test_a_signal_is_one_line_and_the_status_that_shells_have_for_it() -> None:
    result = CliRunner().invoke(
        raising(Stopped(signal.SIGTERM, "stopped at 8 images"), resumes=True)
    )
    words = "\nstopped at 8 images: the same command goes on where this one was\n"
    assert (result.exit_code, result.stderr) == (143, words)


@pytest.mark.parametrize(
    "error, status, words",
    [
        (Stopped(signal.SIGTERM, "stopped at 8 images"), 143, "stopped at 8 images"),
        (KeyboardInterrupt(), 130, "Interrupted"),
    ],
)
def test_a_command_of_a_group_is_interrupted_as_one_alone(
    error: BaseException, status: int, words: str, sigint_kept: None
) -> None:
    group = Group(commands={"program": raising(error, resumes=True)})
    result = CliRunner().invoke(group, ["program"])
    goes_on = ": the same command goes on where this one was"
    assert (result.exit_code, result.stderr) == (status, f"\n{words}{goes_on}\n")


def test_counts_go_as_far_as_libraries_count() -> None:
    @click.command(cls=Command)
    @click.option("--size", type=click.IntRange(min=1))
    def measure(size: int) -> None:
        click.echo(size)

    assert CliRunner().invoke(measure, ["--size", "2147483647"]).output == "2147483647\n"
    refused = CliRunner().invoke(measure, ["--size", "2147483648"])
    assert refused.exit_code == 2 and "2147483648 is more than 2,147,483,647" in refused.stderr
