"""Signals that ask a long run to end: it first comes to a place from which it can go on."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

# Ctrl-C, a scheduler's end of time, a closed terminal, and what Slurm's --signal is mostly told to send before the end.
SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
    if hasattr(signal, name)
)


class Stopped(BaseException):
    """A signal has ended a run whose state is saved; a program says so in one line and exits with 128 + number.

    No Exception, as KeyboardInterrupt is none: nothing that handles errors may take it for one.

    Args:
        number: of the signal.
        message: how far the run came.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


class Signals:
    """While its block runs, the first signal of SIGNALS is noted, and the second ends the program at once.

    Signals that the program ignores, as nohup makes it ignore a closed terminal, stay ignored.

    Attributes:
        caught: the signal that came, if one did.
    """

    def __init__(self) -> None:
        self.caught: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # others may not set handlers
            for number in SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # it came from signal.signal

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.caught is not None:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        self.caught = number
