"""What every command-line program here shares: for whatever goes wrong, one clear line and an exit status."""

import contextlib
import errno
import io
import os
import signal
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import IO, Any

import click

from dnnlib import start
from dnnlib.interrupts import Stopped
from dnnlib.start import importing
from dnnlib.text import printable

MOST = 1000  # characters of a message: several names, and the way out
TRACEBACK = "SKIP_TUNING_TRACEBACK"
MOST_COUNT = 2**31 - 1


class Failure(click.ClickException):
    """An error that the user can mend: printed as one line, exit status 2."""

    exit_code = 2

    def format_message(self) -> str:
        return printable(self.message, MOST)


class Unexpected(Failure):
    """Any other error, a bug or a machine at its end: one line too, exit status 1."""

    exit_code = 1


class Interrupted(click.ClickException):
    """Ctrl-C, or another signal: one line, and the exit status that shells have for it.

    Args:
        message: the line.
        exit_code: 128 + the signal's number.
    """

    def __init__(self, message: str, exit_code: int = start.INTERRUPTED) -> None:
        super().__init__(message)
        vars(self)["exit_code"] = exit_code  # click's is of the class

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line, once for all ranks; whoever presses Ctrl-C again does not wait for an orderly end."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if _first_rank():
            click.echo(f"\n{self.message}", err=True)  # the terminal's ^C ends its own line


def warn(message: str) -> None:
    """Print a line on stderr, once for all ranks."""
    if _first_rank():
        line = f"Warning: {printable(message, MOST)}"
        if "tqdm" in sys.modules:
            sys.modules["tqdm"].tqdm.write(line, file=sys.stderr)  # above bars, not into them
        else:
            print(line, file=sys.stderr)


def _first_rank() -> bool:
    return os.environ.get("RANK", "0") == "0"


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn errors into one line: with exit status 2 what library code refuses, with 1 what nobody foresaw.

    Set SKIP_TUNING_TRACEBACK=1 to see the traceback instead.
    """
    try:
        yield
    except (BrokenPipeError, click.exceptions.Exit, click.Abort, Failure, Interrupted):
        raise  # of a broken pipe the reader has seen enough; click ends quietly
    except click.UsageError as error:
        raise click.UsageError(printable(error.format_message(), MOST), error.ctx) from error
    except Exception as error:
        _close_bars()
        if os.environ.get(TRACEBACK) == "1":
            raise
        raise _told(error) from error


# Of what the system refuses, what is the matter and what helps.
_REFUSALS = {
    errno.ENOSPC: "the disk is full; make room, or choose another place",
    errno.EDQUOT: "your share of the disk is used up; make room, or choose another place",
    errno.EROFS: "the disk can only be read; choose another place",
    errno.EACCES: "you may not use it; choose another place, or change its permissions",
    errno.EPERM: "you may not use it; choose another place, or change its permissions",
    errno.ENOENT: "no such file or folder; check the path",
    errno.ENOTDIR: "a folder above it is a file; check the path",
    errno.EISDIR: "it is a folder; name a file",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


def _in_words(error: Exception) -> str:
    """What an error says; one of the system says which file, what is the matter, and what helps."""
    if not isinstance(error, OSError) or error.errno not in _REFUSALS:
        return str(error) or type(error).__name__
    refusal = _REFUSALS[error.errno]
    if error.filename is None:
        return refusal
    return f"{error.filename}: {refusal}"


def _told(error: Exception) -> Failure:
    kind = type(error).__name__
    if kind == "OutOfMemoryError" or "can't allocate memory" in str(error):  # of a GPU, of a CPU
        told = str(error).partition("DefaultCPUAllocator: ")
        first = (told[2] or told[0]).partition(". ")[0]  # torch goes on for a paragraph
        return Failure(
            f"{printable(first, MOST // 2)}; choose a smaller --batch, in training --batch-gpu"
        )
    foreseen = isinstance(error, ValueError | OSError | RuntimeError) and not isinstance(
        error, RecursionError
    )
    if foreseen:
        return Failure(_in_words(error))
    words = f"{kind}: {printable(error, MOST // 2)}" if str(error) else kind
    return Unexpected(f"{words} (not foreseen; {TRACEBACK}=1 shows where)")


def _close_bars() -> None:
    """End the lines of progress bars, so that a message gets one of its own."""
    if "tqdm" not in sys.modules:
        return
    for bar in list(getattr(sys.modules["tqdm"].tqdm, "_instances", ())):
        bar.close()


class _Count(click.IntRange):
    """Whole numbers without an upper end: as far as libraries count; beyond, each of them fails in its own way."""

    def __init__(self, least: int | None, open_below: bool) -> None:
        super().__init__(min=least, min_open=open_below)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse `value`; a usage error if it is out of range."""
        number = int(super().convert(value, param, ctx))
        if number > MOST_COUNT:
            self.fail(f"{number} is more than {MOST_COUNT:,}", param, ctx)
        return number


def _print_versions(ctx: click.Context, param: click.Parameter, asked: bool) -> None:
    if not asked or ctx.resilient_parsing:
        return

    with importing():
        from dnnlib.versions import versions
    click.echo(versions())
    ctx.exit()


# Of each program, as --help is; its subcommands have none.
VERSION = click.Option(
    ["--version"],
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_versions,
    help="Show the versions at work, and exit.",
)


class Command(click.Command):
    """A command whose every error is one line, also of its flags; with -h, and choices in any case.

    A program, which is no other's subcommand, has --version too.

    Args:
        resumes: given again after Ctrl-C, it goes on where it was.
    """

    def __init__(self, *args: Any, resumes: bool = False, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.resumes = resumes
        self.context_settings.setdefault("help_option_names", ["-h", "--help"])
        for parameter in self.params:
            if isinstance(parameter.type, click.Choice):
                parameter.type.case_sensitive = False
            if isinstance(parameter.type, click.IntRange) and parameter.type.max is None:
                parameter.type = _Count(parameter.type.min, parameter.type.min_open)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The flags and arguments, --help and, of a program, --version."""
        params = super().get_params(ctx)
        is_subcommand = ctx.parent is not None and isinstance(ctx.parent.command, Command)
        return params if is_subcommand else [*params[:-1], VERSION, params[-1]]

    def main(self, *args: Any, **settings: Any) -> Any:
        """Run the program."""
        start.imported()
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A file's name that is no UTF-8 comes out as it is.
            sys.stdout.reconfigure(errors="surrogateescape")
        return super().main(*args, **settings)

    def make_context(self, *args: Any, **settings: Any) -> click.Context:
        """Read the flags."""
        with one_line_errors():
            return super().make_context(*args, **settings)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse empty values first, as of a shell variable that is not set: many of them would do something."""
        if ctx.resilient_parsing:  # for a shell's TAB, which is told nothing
            return super().parse_args(ctx, args)
        for before, value in pairwise(["", *args]):
            name, given, rest = value.partition("=")
            if not value.strip():
                raise click.UsageError(
                    f"an empty value is given{before and f' after {before}'}; leave it out", ctx
                )
            if name.startswith("-") and given and not rest.strip():
                raise click.UsageError(f"{name} is empty; give it a value, or leave it out", ctx)
        if not args and self.no_args_is_help:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Do the work."""
        try:
            with one_line_errors():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            _close_bars()
            raise Interrupted(f"Interrupted{self._goes_on()}") from None
        except Stopped as stopped:
            _close_bars()
            raise Interrupted(f"{stopped}{self._goes_on()}", 128 + stopped.number) from None

    def _goes_on(self) -> str:
        return ": the same command goes on where this one was" if self.resumes else ""


class Group(Command, click.Group):
    """A program of several commands."""

    command_class = Command
