"""Ends a process of a distributed run soon after another one died, or what started them: it would go on for hours."""

import contextlib
import os
import secrets
import signal
import socket
import sys
import threading
import time

_PORT_BYTES, _TOKEN_BYTES, _RANK_BYTES = 2, 16, 4
ADDRESS_BYTES = _PORT_BYTES + _TOKEN_BYTES
_GOODBYE = b"."
_CONNECT_SECONDS = 30.0
_LAUNCHER_SECONDS = 1.0
# A machine that is cut off sends nothing: the kernel asks after so many silent seconds, so often, and so many times.
_KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}


def end_with_launcher() -> None:
    """Let this process end soon after the one that started it, which is looked for in the background.

    torchrun that is killed (SIGKILL, or no memory) cannot end its ranks, and they would go on for hours. They end by
    SIGTERM, as torchrun ends them too: a training saves its state first.
    """
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()


def _follow(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(_LAUNCHER_SECONDS)
    sys.stderr.write(f"\nError: rank {os.environ.get('RANK')} stops, as torchrun was killed\n")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGTERM)


class Watchdog:
    """Connections between rank 0 and each other rank, which the system closes when one of them ends.

    It needs no heartbeat: a process that computes for long, or is stopped, keeps its connections. Where ranks cannot
    connect there is no watchdog, and a death shows at the next collective.

    Args:
        rank: of this process.
    """

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.leaving = False
        self.connections: list[socket.socket] = []
        if hasattr(os, "register_at_fork"):
            # A child must not keep a dead parent's connections open.
            os.register_at_fork(after_in_child=self._close)

    def listen(self, ranks: int) -> bytes:
        """Wait, in the background, for the connections of the others; on rank 0.

        Args:
            ranks: how many there are, this one included.
        Returns:
            What they need for `connect`, of ADDRESS_BYTES; zeros if this machine does not let us listen.
        """
        token = secrets.token_bytes(_TOKEN_BYTES)
        try:
            if socket.has_dualstack_ipv6():
                server = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
            else:
                server = socket.create_server(("", 0))
        except OSError:
            return bytes(ADDRESS_BYTES)
        threading.Thread(target=self._accept, args=(server, ranks, token), daemon=True).start()
        return int(server.getsockname()[1]).to_bytes(_PORT_BYTES, "big") + token

    def connect(self, host: str, address: bytes) -> None:
        """Connect to rank 0, in the background.

        Args:
            host: where rank 0 is.
            address: what its `listen` returned.
        """
        port, token = int.from_bytes(address[:_PORT_BYTES], "big"), address[_PORT_BYTES:]
        threading.Thread(target=self._connect, args=(host, port, token), daemon=True).start()

    def leave(self) -> None:
        """Tell the others that this process ends as it should."""
        self.leaving = True
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.sendall(_GOODBYE)
        self._close()

    def _accept(self, server: socket.socket, ranks: int, token: bytes) -> None:
        server.settimeout(_CONNECT_SECONDS)
        with contextlib.suppress(OSError), server:
            while len(self.connections) < ranks - 1:
                connection = server.accept()[0]
                connection.settimeout(_CONNECT_SECONDS)
                message = connection.recv(_TOKEN_BYTES + _RANK_BYTES, socket.MSG_WAITALL)
                if secrets.compare_digest(message[:_TOKEN_BYTES], token):
                    self._watch(connection, f"rank {int.from_bytes(message[_TOKEN_BYTES:], 'big')}")

    def _connect(self, host: str, port: int, token: bytes) -> None:
        with contextlib.suppress(OSError):
            connection = socket.create_connection((host, port), timeout=_CONNECT_SECONDS)
            connection.sendall(token + self.rank.to_bytes(_RANK_BYTES, "big"))
            self._watch(connection, "rank 0")

    def _watch(self, connection: socket.socket, other: str) -> None:
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self.connections.append(connection)
        threading.Thread(target=self._wait, args=(connection, other), daemon=True).start()

    def _wait(self, connection: socket.socket, other: str) -> None:
        try:
            last = connection.recv(1)
        except OSError:
            last = b""
        if last == _GOODBYE or self.leaving:
            return
        sys.stderr.write(f"\nError: rank {self.rank} stops, as {other} ended before its time\n")
        sys.stderr.flush()
        os._exit(2)  # the main thread may be in a collective, which nothing interrupts

    def _close(self) -> None:
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.close()
