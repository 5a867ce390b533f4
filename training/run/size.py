"""How large a run is, compared with the machine before anything is made: a slip of the keyboard is no run of hours."""

import os
from collections.abc import Callable

import torch

from torch_utils.weights import at_most
from training.precond import Precond

MOST_TENSORS = 5_000  # of weights; the largest published networks have about a thousand
# Of the weights in training: the network, its average, a gradient and Adam's two moments.
COPIES = 5
GIB = 2**30


def check_network(make: Callable[[], Precond], device: torch.device, averages: int = 0) -> None:
    """Refuse a network that cannot be trained on the device; it is made on the meta device, where it has no size.

    Args:
        make: makes it.
        device: where it would be trained.
        averages: of the weights that are kept beside the usual one (--power-ema).
    Raises:
        ValueError: naming its size; or as `make`.
    """
    with torch.device("meta"), at_most(MOST_TENSORS):
        net = make()
    weights = sum(parameter.numel() for parameter in net.parameters())
    needed, there = (COPIES + averages) * 4 * weights, memory(device)
    if needed > there:
        fewer = ", fewer averages (--power-ema)" if averages else ""
        raise ValueError(
            f"the network has {weights:,} weights, whose training takes {needed / GIB:,.0f} GiB; {device} has "
            f"{there / GIB:,.0f}: choose fewer channels (--cbase, --cres) or blocks (--num-blocks){fewer}"
        )


def check_batch(share: int, shape: tuple[int, ...]) -> None:
    """Refuse images of a step that do not fit into the machine's memory, where a rank's share is together.

    Args:
        share: images a step of one rank.
        shape: of an image.
    Raises:
        ValueError: naming their size.
    """
    values = share * int(torch.tensor(shape).prod())
    needed, there = 5 * values, memory(torch.device("cpu"))  # bytes as read, and float32
    if needed > there:
        raise ValueError(
            f"{share:,} images a step of {'x'.join(map(str, shape))} take {needed / GIB:,.0f} GiB, this machine has "
            f"{there / GIB:,.0f}; choose a smaller --batch"
        )


def memory(device: torch.device) -> float:
    """Bytes of memory that a device has in all; infinity where the system does not tell."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[1])
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):  # Windows
        return float("inf")
