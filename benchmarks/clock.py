"""Time on any device: a CUDA device by its own events, a CPU by the wall clock."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Timing:
    """Of one call.

    Attributes:
        milliseconds: that the device took, the median over rounds.
        launch: milliseconds until the call came back, the median; on a GPU less than the device takes, or the device
            waits for the CPU.
        first: seconds that the first call took, with what is compiled or chosen in it.
    """

    milliseconds: float
    launch: float
    first: float


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """What one call takes the device."""
    if device.type != "cuda":
        began = time.perf_counter()
        run()
        return time.perf_counter() - began
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    run()
    end.record()
    torch.cuda.synchronize(device)
    return start.elapsed_time(end) / 1e3


def timed(
    run: Callable[[], object], device: torch.device, rounds: int = 8, warm: int = 2
) -> Timing:
    """Call several times, the first ones uncounted."""
    began = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    first = time.perf_counter() - began
    for _ in range(warm):
        run()

    taken, launched = [], []
    for _ in range(rounds):
        returned: list[float] = []

        def call(returned: list[float] = returned) -> None:
            began = time.perf_counter()
            run()
            returned.append(time.perf_counter() - began)

        taken.append(seconds(call, device))
        launched += returned
    return Timing(1e3 * statistics.median(taken), 1e3 * statistics.median(launched), first)
