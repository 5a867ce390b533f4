"""One process or many: what torchrun tells, in a few functions; nccl on GPUs, gloo on CPUs."""

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

import torch
import torch.distributed as dist

from dnnlib.claims import claim, has_token, token
from torch_utils.precision import allow_tf32
from torch_utils.watchdog import ADDRESS_BYTES, Watchdog, end_with_launcher

# What a network file system says of a folder may be as old as this (NFS, acdirmax); of names never asked for it is new.
PATIENCE_SECONDS, TOKEN_SECONDS, LOOK_SECONDS = 60.0, 5.0, 0.1
_TOKEN_BYTES = 8
_TORCHRUN = "TORCHELASTIC_RUN_ID"  # it sets this for those that it starts
# How many processes a launcher started that tells them nothing of one another.
_LAUNCHERS = {"srun": "SLURM_STEP_NUM_TASKS", "mpirun": "OMPI_COMM_WORLD_SIZE"}

_watchdogs: list[Watchdog] = []  # of the process group: none or one


def init(device: str | torch.device | None = None, tf32: bool = False) -> torch.device:
    """Join the process group if torchrun started this process, and choose the device and its precision.

    Args:
        device: as for `choose_device`; None takes this rank's GPU where there is one, else the CPU.
        tf32: let CUDA compute float32 products and convolutions in TF32.
    Returns:
        The device of this rank.
    Raises:
        ValueError: if the device does not exist here, several ranks would share one GPU, or the process is one of
            several that do not know of one another.
    """
    allow_tf32(tf32)
    _refuse_strangers()
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    _refuse_one_gpu_for_all(str(device))
    chosen = choose_device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if _TORCHRUN in os.environ:
        end_with_launcher()
    if "RANK" in os.environ and not dist.is_initialized():
        backend = "nccl" if chosen.type == "cuda" else "gloo"
        # Else NCCL guesses, and may hang or take GPU 0 for all.
        bound = chosen if backend == "nccl" else None
        dist.init_process_group(backend, timeout=timedelta(hours=2), device_id=bound)
        _watch()
    return chosen


def _refuse_strangers() -> None:
    """Refuse to be one of several copies that would all do the whole work, in one place."""
    if "RANK" in os.environ or "WORLD_SIZE" in os.environ:
        return
    for launcher, variable in _LAUNCHERS.items():
        count = os.environ.get(variable, "1")
        if count.isdecimal() and int(count) > 1:
            raise ValueError(
                f"{launcher} started {count} copies of this program, which know nothing of one another: let it start "
                "torchrun, once on each node (docs/reproducing.md); or set WORLD_SIZE=1 if each has work of its own"
            )


def _refuse_one_gpu_for_all(device: str) -> None:
    here = os.environ.get("LOCAL_WORLD_SIZE", "1")
    if "RANK" in os.environ and device.startswith("cuda:") and here != "1":
        raise ValueError(
            f"{device} would be the one GPU of all {here} ranks of this machine; the device cuda is each rank's own"
        )


def _watch() -> None:
    """Let this process end soon after another rank's death; see `torch_utils.watchdog`."""
    if world_size() == 1 or "MASTER_ADDR" not in os.environ:
        return
    watchdog = Watchdog(rank())
    address = _from_rank_0(watchdog.listen(world_size()) if rank() == 0 else bytes(ADDRESS_BYTES))
    if rank() != 0:
        watchdog.connect(os.environ["MASTER_ADDR"], address)
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
        raise ValueError(
            f"device {chosen} asked for, but there is one {chosen.type} only: leave out its number"
        )

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


def as_rank_0_says(flags: Sequence[bool]) -> list[bool]:
    """Rank 0's flags, on every rank: what is there must not depend on who looks, nor when."""
    if world_size() == 1:
        return list(flags)
    return [bool(flag) for flag in _from_rank_0(bytes(flags))]


def _from_rank_0(message: bytes) -> bytes:
    """Rank 0's message, on every rank; of one length on all."""
    told = torch.tensor(list(message), dtype=torch.uint8, device=_device())
    with _together():
        dist.broadcast(told, 0)
    return bytes(told.tolist())


def _device() -> torch.device:
    """Where the process group wants its tensors."""
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


# ---- folders


@contextlib.contextmanager
def claimed(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Keep other runs out of a folder while the block runs: rank 0 claims it, for all; see `dnnlib.claims.claim`.

    Raises:
        RuntimeError: if another run is at work there, or the ranks do not share it.
    """
    with claim(folder) if rank() == 0 else contextlib.nullcontext():
        require_shared(folder)  # no rank begins before
        yield


def require_shared(folder: str | os.PathLike[str]) -> None:
    """Refuse, before any work, a folder that is another one on some ranks; every rank calls it, and waits for all.

    Args:
        folder: where rank 0 writes and the others look.
    Raises:
        RuntimeError: on all ranks; how many do not see it.
    """
    if world_size() == 1:
        return

    name = _from_rank_0(secrets.token_bytes(_TOKEN_BYTES))
    with token(folder, name) if rank() == 0 else contextlib.nullcontext():
        host = (
            _from_rank_0(socket.gethostname().encode()[:64].ljust(64))
            .decode(errors="replace")
            .strip()
        )
        sees = rank() == 0 or wait_for(lambda: has_token(folder, name), TOKEN_SECONDS)
        lost = int(all_reduce_sum(torch.tensor(float(not sees), device=_device())))

    if lost:
        raise RuntimeError(
            f"{folder} is not one folder for all ranks: {lost} of {world_size()} do not see what rank 0 writes to it "
            f"on {host}; choose one that all machines share (for the cache: SKIP_TUNING_CACHE)"
        )


def wait_for(there: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
    """Whether what another rank has written is there; on a network file system that can take a while to show.

    Args:
        there: looks.
        seconds: to look again and again; a process alone looks once.
    """
    until = time.monotonic() + seconds
    while not there():
        if world_size() == 1 or time.monotonic() >= until:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def leave() -> None:
    """Let this rank end, also with an error, without taking the others along: they end by themselves."""
    while _watchdogs:
        _watchdogs.pop().leave()


def shutdown() -> None:
    """Leave the process group, after success: after an error other ranks may still wait, and this one would too.

    It waits for all ranks, as none may take the group away while another still reads what came of a reduction.
    """
    barrier()
    leave()
    if dist.is_initialized():
        dist.destroy_process_group()


@contextlib.contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(
            f"rank {rank()} stops, as another rank did (or the network between them)"
        ) from error
