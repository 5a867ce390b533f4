"""Imported first by every program, before what takes seconds to import: Ctrl-C in that time ends it in one line.

And before torch, which reads its settings of threads as it is loaded.
"""

import os
import signal
import sys
from pathlib import Path
from types import FrameType

from dnnlib import threads

INTERRUPTED = 130  # the exit status that shells give to a program ended by Ctrl-C
ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = (
    "dataset_tool.py",
    "demo.py",
    "distill.py",
    "fid.py",
    "generate.py",
    "tables.py",
    "train.py",
    "metrics/demo_detector.py",
    "skip/finetune.py",
    "training/checkpoint.py",
    "training/plot.py",
)


def stop_importing(number: int, frame: FrameType | None) -> None:
    """End the process at once: nothing has begun, and half-imported libraries would answer with a traceback."""
    os.write(2, b"\nInterrupted\n")
    os._exit(INTERRUPTED)


def is_program() -> bool:
    """Whether this process runs one of PROGRAMS, rather than somebody's script that imports a package of ours."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    if file is None:  # `python -m skip.finetune` imports the package before it knows the file
        modules = {name.removesuffix(".py").replace("/", ".") for name in PROGRAMS}
        return sys.argv[:1] == ["-m"] and not modules.isdisjoint(sys.orig_argv)
    return Path(file).resolve() in {ROOT / name for name in PROGRAMS}


def imported() -> None:
    """Everything is imported: from here on Ctrl-C is a KeyboardInterrupt, as Python has it."""
    if signal.getsignal(signal.SIGINT) is stop_importing:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if is_program() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, stop_importing)
if is_program():
    threads.set_defaults()
