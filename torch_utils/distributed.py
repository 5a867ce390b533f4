"""One process or many: what torchrun tells, in a few functions; nccl on GPUs, gloo on CPUs."""

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist

from dnnlib.files import claim
from torch_utils.precision import allow_tf32
from torch_utils.watchdog import ADDRESS_BYTES, Watchdog

_watchdogs: list[Watchdog] = []  # of the process group: none or one


def init(device: str | torch.device | None = None, tf32: bool = False) -> torch.device:
    """Join the process group if torchrun started this process, and choose the device and its precision.

    Args:
        device: as for `choose_device`; None takes this rank's GPU where there is one, else the CPU.
        tf32: see `torch_utils.precision.allow_tf32`.
    Returns:
        The device of this rank.
    Raises:
        ValueError: if the device does not exist here.
    """
    allow_tf32(tf32)
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = choose_device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if "RANK" in os.environ and not dist.is_initialized():
        backend = "nccl" if chosen.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(hours=2))
        _watch(chosen)
    return chosen


def _watch(device: torch.device) -> None:
    """Let this process end soon after another rank's death; see `torch_utils.watchdog`."""
    if world_size() == 1 or "MASTER_ADDR" not in os.environ:
        return
    watchdog = Watchdog(rank())
    address = watchdog.listen(world_size()) if rank() == 0 else bytes(ADDRESS_BYTES)
    told = torch.tensor(list(address), device=device)
    with _together():
        dist.broadcast(told, 0)
    if rank() != 0:
        watchdog.connect(os.environ["MASTER_ADDR"], bytes(told.tolist()))
    _watchdogs.append(watchdog)


def choose_device(name: str | torch.device) -> torch.device:
    """The device of that name, if this machine has it.

    Args:
        name: "cpu", "mps", "cuda:1"; "cuda" is this rank's own GPU.
    Raises:
        ValueError: if the device does not exist here.
    """
    unknown = f"unknown device {str(name)!r}; use cpu, cuda, cuda:1 or mps"
    try:
        chosen = torch.device(name)
    except RuntimeError as error:
        raise ValueError(unknown) from error
    if chosen.type not in ("cpu", "cuda", "mps"):
        raise ValueError(unknown)
    if chosen.type == "cuda":
        count = torch.cuda.device_count()
        index = int(os.environ.get("LOCAL_RANK", 0)) if chosen.index is None else chosen.index
        if index >= count:
            raise ValueError(
                f"device cuda:{index} asked for, but this machine has {count} CUDA devices; cpu always works"
            )
        return torch.device("cuda", index)
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device mps asked for, but this machine has none; cpu always works")
    if chosen.index:
        raise ValueError(f"device {chosen} asked for, but there is one {chosen.type} only: leave out its number")
    return chosen


def rank() -> int:
    """This process's number, 0 if alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes work together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def all_reduce_sum(value: torch.Tensor) -> torch.Tensor:
    """The sum of `value` over all ranks, in place.

    Raises:
        RuntimeError: if another rank stopped.
    """
    if dist.is_initialized():
        with _together():
            dist.all_reduce(value)
    return value


def barrier() -> None:
    """Wait for all ranks; at the ends of a run only, never inside its loop.

    Raises:
        RuntimeError: if another rank stopped.
    """
    if dist.is_initialized():
        with _together():
            dist.barrier()


@contextlib.contextmanager
def claimed(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Keep other runs out of a folder while the block runs: rank 0 claims it, for all; see `dnnlib.files.claim`.

    Raises:
        RuntimeError: if another run is at work there.
    """
    with claim(folder) if rank() == 0 else contextlib.nullcontext():
        barrier()  # no rank begins before
        yield


def leave() -> None:
    """Let this rank end, also with an error, without taking the others along: they end by themselves."""
    while _watchdogs:
        _watchdogs.pop().leave()


def shutdown() -> None:
    """Leave the process group, after success: after an error other ranks may still wait, and this one would too."""
    leave()
    if dist.is_initialized():
        dist.destroy_process_group()


@contextlib.contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(f"rank {rank()} stops, as another rank did (or the network between them)") from error
