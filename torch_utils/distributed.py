"""One process or many: what torchrun tells, in five functions; nccl on GPUs, gloo on CPUs."""

import os
from datetime import timedelta

import torch
import torch.distributed as dist


def init(device: str | torch.device | None = None) -> torch.device:
    """Join the process group if torchrun started this process, and choose the device.

    Args:
        device: "cpu", "cuda", "cuda:1", "mps"; None takes this rank's GPU where there is one, else the CPU.
    Returns:
        The device of this rank.
    Raises:
        ValueError: if the device does not exist here.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    chosen = _choose(device, local_rank)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if "RANK" in os.environ and not dist.is_initialized():
        backend = "nccl" if chosen.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(hours=2))
    return chosen


def _choose(device: str | torch.device | None, local_rank: int) -> torch.device:
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"unknown device {str(device)!r}; use cpu, cuda, cuda:0, ...") from error
    if chosen.type == "cuda":
        count = torch.cuda.device_count()
        index = local_rank if chosen.index is None else chosen.index
        if index >= count:
            raise ValueError(
                f"device cuda:{index} asked for, but this machine has {count} CUDA devices; use --device cpu"
            )
        return torch.device("cuda", index)
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device mps asked for, but this machine has none; use --device cpu")
    return chosen


def rank() -> int:
    """This process's number, 0 if alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes work together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def all_reduce_sum(value: torch.Tensor) -> torch.Tensor:
    """The sum of `value` over all ranks, in place."""
    if dist.is_initialized():
        dist.all_reduce(value)
    return value


def barrier() -> None:
    """Wait for all ranks; at the ends of a run only, never inside its loop."""
    if dist.is_initialized():
        dist.barrier()


def shutdown() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()
