"""Signals: the first is noted, the second obeyed."""

import os
import signal

import pytest

from dnnlib.interrupts import SIGNALS, Signals


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_is_noted_and_the_second_ends(number: int) -> None:
    before = signal.getsignal(number)
    second = KeyboardInterrupt if number == signal.SIGINT else SystemExit
    with Signals() as signals:
        assert signals.caught is None
        os.kill(os.getpid(), number)
        assert signals.caught == number
        with pytest.raises(second) as ended:
            os.kill(os.getpid(), number)
        assert number == signal.SIGINT or ended.value.code == 128 + number
    assert signal.getsignal(number) is before


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
        assert signals.caught is None and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
