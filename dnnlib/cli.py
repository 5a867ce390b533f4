"""What every command-line program here shares: one clear line and exit status 2 for bad input."""

import contextlib
import os
from collections.abc import Iterator

import click


class Failure(click.ClickException):
    """An error that the user can mend: printed as one line, exit status 2."""

    exit_code = 2

    def format_message(self) -> str:
        return " ".join(self.message.split())


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn the errors that library code raises into `Error: <one line>` and exit status 2.

    Set SKIP_TUNING_TRACEBACK=1 to see the traceback instead.
    """
    try:
        yield
    except BrokenPipeError:  # the reader has seen enough; click ends quietly
        raise
    except (ValueError, OSError, RuntimeError) as error:
        if isinstance(error, click.exceptions.Exit) or os.environ.get("SKIP_TUNING_TRACEBACK") == "1":
            raise
        raise Failure(str(error) or type(error).__name__) from error
