"""Errors of a program: one line, exit status 2."""

import click
import pytest
from click.testing import CliRunner

from dnnlib.cli import one_line_errors


def outcome(error: BaseException) -> tuple[int, str]:
    @click.command()
    def program() -> None:
        with one_line_errors():
            raise error

    result = CliRunner().invoke(program)
    return result.exit_code, result.output


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, FileNotFoundError, PermissionError])
def test_a_library_error_is_one_line(kind: type[Exception]) -> None:
    assert outcome(kind("two\n  lines")) == (2, "Error: two lines\n")


def test_an_error_without_words_is_named() -> None:
    assert outcome(ValueError()) == (2, "Error: ValueError\n")


def test_a_bug_keeps_its_traceback() -> None:
    @click.command()
    def program() -> None:
        with one_line_errors():
            raise KeyError("a bug")

    assert isinstance(CliRunner().invoke(program).exception, KeyError)


def test_exit_and_usage_errors_pass_through() -> None:
    assert outcome(click.exceptions.Exit(7)) == (7, "")
    assert outcome(click.UsageError("wrong flag"))[0] == 2


def test_the_traceback_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKIP_TUNING_TRACEBACK", "1")

    @click.command()
    def program() -> None:
        with one_line_errors():
            raise ValueError("shown whole")

    assert isinstance(CliRunner().invoke(program).exception, ValueError)
