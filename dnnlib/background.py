"""Work that threads do beside the loop that hands it to them."""

import collections
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self


class Background:
    """Calls that a few threads make, begun in the order in which they are given.

    Leaving its block waits for all of them. If the block fails, also by Ctrl-C, those that have not begun are dropped,
    and those that have are waited for: none is left in the middle.

    Args:
        threads: calls at a time.
        most: calls that may be unfinished; `call` then waits, so that what they hold of memory is bounded.
    Raises:
        Exception: what the first of the calls, in their order, raised; by `call`, or by leaving the block.
    """

    def __init__(self, threads: int, most: int) -> None:
        self._pool, self._most = ThreadPoolExecutor(threads), most
        self._unfinished: collections.deque[Future[Any]] = collections.deque()

    def __enter__(self) -> Self:
        return self

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """Let a thread call the function with these arguments."""
        while self._unfinished and (
            len(self._unfinished) >= self._most or self._unfinished[0].done()
        ):
            self._unfinished.popleft().result()
        self._unfinished.append(self._pool.submit(function, *args))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            while error is None and self._unfinished:
                self._unfinished.popleft().result()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
