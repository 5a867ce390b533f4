"""Calls in threads: all made, bounded, and none left in the middle."""

import threading

import pytest

from dnnlib.background import Background


def test_every_call_is_made_before_the_block_ends() -> None:
    made: list[int] = []
    with Background(3, most=5) as background:
        for number in range(50):
            background.call(made.append, number)
    assert sorted(made) == list(range(50))


def test_one_thread_keeps_the_order() -> None:
    made: list[int] = []
    with Background(1, most=4) as background:
        for number in range(50):
            background.call(made.append, number)
    assert made == list(range(50))


def test_no_more_calls_than_allowed_are_unfinished() -> None:
    given, allowed, most = [], threading.Semaphore(0), []

    def work() -> None:
        allowed.acquire(timeout=60)
        most.append(len(given))

    def give(background: Background) -> None:
        for number in range(10):
            background.call(work)
            given.append(number)
            if len(given) >= 4:
                allowed.release()

    with Background(1, most=4) as background:
        give(background)
        allowed.release(10)
    assert len(most) == 10 and all(there <= done + 4 for done, there in enumerate(most))


def test_an_error_is_told_by_the_next_call_and_not_when_all_places_are_taken() -> None:
    """Else a full disk would be noticed after many more images."""
    after, reached = threading.Event(), []

    def fail() -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), Background(1, most=1000) as background:
        background.call(fail)
        background.call(after.set)  # which has told it already, if the thread was quick
        after.wait(60)
        background.call(print)
        reached.append("went on")
    assert reached == []


@pytest.mark.parametrize("later", [0, 100])
def test_the_first_error_in_their_order_ends_the_loop(later: int) -> None:
    second_failed = threading.Event()

    def fail(number: int) -> None:
        if number == 3:
            second_failed.wait(60)
        if number == 4:
            second_failed.set()
        if number >= 3:
            raise OSError(f"number {number}")

    with pytest.raises(OSError, match="number 3"), Background(2, most=10) as background:
        for number in range(5 + later):
            background.call(fail, number)


def test_an_interrupted_loop_finishes_what_has_begun_and_drops_the_rest() -> None:
    begun, ended, go_on = threading.Event(), threading.Event(), threading.Event()
    dropped: list[int] = []

    def slow() -> None:
        begun.set()
        go_on.wait(60)
        ended.set()

    def interrupted() -> None:
        with Background(1, most=10) as background:
            background.call(slow)
            background.call(dropped.append, 1)
            begun.wait(60)
            threading.Timer(0.05, go_on.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert ended.is_set() and dropped == []
