"""Imported first by every program, before all else: Ctrl-C while it imports ends it in one line.

So does a package that is missing, as outside of .venv. And before torch, which reads its settings of threads as it
is loaded. Streams that are closed are opened, before a file of ours gets their number; what stderr cannot take is
dropped.

What takes seconds to import, as torch does, a program imports when its command line is known to be right, so that
a question of how it is used and a misspelt flag are answered at once: in its command, with `importing`.
"""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from dnnlib import threads
from dnnlib.places import INSTALLED, ROOT

INTERRUPTED = 130  # the exit status that shells give to a program ended by Ctrl-C
COMMAND = "skip_tuning.__main__"  # all of PROGRAMS under one name
PROGRAMS = (
    "autoencoder.py", "dataset_tool.py", "demo.py", "distill.py", "explore.py", "fid.py", "generate.py",
    "tables.py", "train.py",
    "metrics/demo_detector/__main__.py", "skip/finetune/__main__.py",
    "training/checkpoint.py", "training/plot.py",
)  # fmt: skip


def stop_importing(number: int, frame: FrameType | None) -> None:
    """End the process at once: nothing has begun, and half-imported libraries would answer with a traceback."""
    with contextlib.suppress(OSError):
        os.write(2, b"\nInterrupted\n")
    os._exit(INTERRUPTED)


def say_what_is_missing(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """One line and exit status 2 for a package that is not installed; any other exception as Python shows it."""
    if not isinstance(error, ModuleNotFoundError) or os.environ.get("SKIP_TUNING_TRACEBACK"):
        sys.__excepthook__(kind, error, trace)
        return
    with contextlib.suppress(OSError):
        os.write(2, f"Error: {_missing(error)}\n".encode())
    os._exit(2)


def _missing(error: ModuleNotFoundError) -> str:
    cure = "source .venv/bin/activate, which make demo sets up, or pip install -c constraints.txt '.[programs]'"
    if INSTALLED:
        cure = "pip install 'skip-tuning-edm[programs]'"
    return f"{sys.executable} lacks the package {error.name}: {cure}"


def open_closed_streams() -> None:
    """Let streams that the caller closed, as with 2>&-, lead nowhere.

    Python has None for them, at which progress bars fail, and the next file that is opened gets their number, and with
    it what libraries print.
    """
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  for good


class _Standard(io.FileIO):
    """A standard stream, written to without buffer, that fails once and by its name, or never.

    Args:
        descriptor: 1 or 2.
        name: what the error calls it; empty drops what cannot be written, as on a full disk.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.called, self.dropping = name, not name

    def write(self, data: Any) -> int:
        """Write bytes, or drop all of them."""
        try:
            return super().write(data)
        except OSError as error:
            if self.dropping:
                return len(data)
            if not isinstance(error, BrokenPipeError):  # of which click makes a quiet end
                error.filename, self.dropping = self.called, True
            raise


def guard_streams() -> None:
    """Let a result that stdout cannot take be one error, and nothing one where it is a bar or a note on stderr.

    Without this Python tries again as it ends, with lines and an exit status of its own; and a full disk under a file
    of stderr would cost the result.
    """
    for name, descriptor, called in (("stdout", 1, "stdout"), ("stderr", 2, "")):
        old = getattr(sys, name)
        buffer = io.BufferedWriter(_Standard(descriptor, called))
        like = {"line_buffering": old.line_buffering, "write_through": old.write_through}
        setattr(sys, name, io.TextIOWrapper(buffer, old.encoding, old.errors, **like))


def is_program() -> bool:
    """Whether this process runs one of PROGRAMS, rather than somebody's script that imports a package of ours."""
    main = sys.modules["__main__"]
    if COMMAND in sys.modules or getattr(getattr(main, "__spec__", None), "name", None) == COMMAND:
        return True
    file = getattr(main, "__file__", None)
    if file is None:  # `python -m skip.finetune` imports the package before it knows the file
        modules = {
            name.removesuffix(".py").removesuffix("/__main__").replace("/", ".")
            for name in PROGRAMS
        }
        return sys.argv[:1] == ["-m"] and not modules.isdisjoint(sys.orig_argv)
    return Path(file).resolve() in {ROOT / name for name in PROGRAMS}


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """In this block a command imports what its work needs; nothing has begun that Ctrl-C could leave half done.

        with importing():
            from skip.options import image_source

    Raises:
        RuntimeError: for a package that is not installed; or if the current folder was deleted, in which torch fails.
    """
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise RuntimeError("the current folder was deleted; cd to one that there is") from error
    waiting = is_program() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if waiting:
        signal.signal(signal.SIGINT, stop_importing)
    try:
        yield
    except ModuleNotFoundError as error:
        raise RuntimeError(_missing(error)) from error
    finally:
        if waiting:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def imported() -> None:
    """The command line can be read: from here on Ctrl-C is a KeyboardInterrupt, as Python has it."""
    if signal.getsignal(signal.SIGINT) is stop_importing:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.excepthook is say_what_is_missing:
        sys.excepthook = sys.__excepthook__


if is_program() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, stop_importing)
if is_program():
    open_closed_streams()
    guard_streams()
    sys.excepthook = say_what_is_missing
    threads.set_defaults()
