"""The watchdog's connections in one process: who is let in, how they last, and what a child has of them."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from torch_utils.watchdog import Watchdog

TOKEN_BYTES = 16


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The statuses with which the process would have ended."""
    statuses: list[int] = []
    monkeypatch.setattr(os, "_exit", statuses.append)
    return statuses


@pytest.fixture
def first(exits: list[int]) -> Iterator[tuple[Watchdog, int, bytes]]:
    """Rank 0 of three that waits for the others; its port and token."""
    before = set(threading.enumerate())
    watchdog = Watchdog(0)
    address = watchdog.listen(3)
    yield watchdog, int.from_bytes(address[:2], "big"), address[2:]
    watchdog.leave()
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=60)


def connected(port: int, token: bytes, rank: int) -> socket.socket:
    client = socket.create_connection(("localhost", port), timeout=60)
    client.sendall(token + rank.to_bytes(4, "big"))
    return client


def until(true: Callable[[], bool]) -> None:
    """Wait, a minute at most."""
    for _ in range(6000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def closed(port: int) -> bool:
    try:
        socket.create_connection(("localhost", port), timeout=60).close()
    except OSError:
        return True
    return False


def test_who_does_not_know_the_token_is_sent_away(first: tuple[Watchdog, int, bytes]) -> None:
    watchdog, port, token = first
    with connected(port, bytes(TOKEN_BYTES), 1) as stranger:
        with connected(port, token, 1) as one, connected(port, token, 2) as two:
            until(lambda: len(watchdog.connections) == 2)
            let_in = {connection.getpeername()[1] for connection in watchdog.connections}
            assert let_in == {one.getsockname()[1], two.getsockname()[1]}
            watchdog.leave()
        assert stranger.recv(1) == b""


def test_connections_last_and_nobody_else_is_waited_for(first: tuple[Watchdog, int, bytes]) -> None:
    """A timeout would end a run whose ranks have nothing to say, which is the usual case."""
    watchdog, port, token = first
    with connected(port, token, 1), connected(port, token, 2):
        until(lambda: len(watchdog.connections) == 2)
        until(lambda: closed(port))
        for connection in watchdog.connections:
            assert connection.gettimeout() is None
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            if hasattr(socket, "TCP_KEEPIDLE"):
                assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15
        watchdog.leave()


def test_who_has_left_is_not_ended_by_others(
    first: tuple[Watchdog, int, bytes], exits: list[int]
) -> None:
    watchdog, port, token = first
    before = set(threading.enumerate())
    with connected(port, token, 1) as one, connected(port, token, 2) as two:
        until(lambda: len(watchdog.connections) == 2)
        waiting = set(threading.enumerate()) - before
        watchdog.leave()
        assert one.recv(1) == two.recv(1) == b"."
    until(lambda: not waiting & set(threading.enumerate()))
    assert exits == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="of systems that fork")
def test_a_child_has_none_of_the_connections(first: tuple[Watchdog, int, bytes]) -> None:
    """A worker that outlives its rank would keep them open, and the rank's death unseen."""
    watchdog, port, token = first
    with connected(port, token, 1), connected(port, token, 2):
        until(lambda: len(watchdog.connections) == 2)
        end, child = os.pipe()
        if (pid := os.fork()) == 0:
            os.write(
                child,
                b"".join(b"y" if one.fileno() == -1 else b"n" for one in watchdog.connections),
            )
            os.kill(os.getpid(), 9)
        os.waitpid(pid, 0)
        assert os.read(end, 10) == b"yy"
        watchdog.leave()
