"""After each step of a run, on all ranks alike: is its loss a number, is it time to save, and was it asked to end?"""

import time
from typing import NamedTuple

import torch
from torch import Tensor

from dnnlib.interrupts import SIGNALS, Signals
from torch_utils import distributed

SAVE_SECONDS = 600.0  # of work that a killed run may lose


class Step(NamedTuple):
    """What the ranks agree on.

    Attributes:
        loss: the mean over the ranks.
        due: whether it is long since the state was saved.
        signal: number of a signal that asks for the end, or None.
    """

    loss: float
    due: bool
    signal: int | None


class Watch(Signals):
    """Signals, a clock and the loss; all ranks get the same answer, as each may save or end with the others only.

    Args:
        device: of this rank.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.saved()

    def saved(self) -> None:
        """Start the clock anew."""
        self._since = time.monotonic()

    def step(self, loss: Tensor, images_seen: int) -> Step:
        """Look after a step.

        Args:
            loss: this rank's mean loss, a scalar.
            images_seen: with this step; for messages.
        Raises:
            RuntimeError: if the loss of any rank is NaN or infinite.
        """
        due = distributed.rank() == 0 and time.monotonic() - self._since >= SAVE_SECONDS
        told = [float(due), *(float(self.caught == number) for number in SIGNALS)]
        mine = loss.detach().to(self.device, torch.float32).reshape(1)
        answers = torch.cat([mine, torch.tensor(told).to(self.device, non_blocking=True)])
        total, due_somewhere, *signals = distributed.all_reduce_sum(answers).tolist()
        mean = total / distributed.world_size()
        check_number(mean, f"the loss of the step to {images_seen:,} images")
        came = [number for number, count in zip(SIGNALS, signals, strict=True) if count]
        return Step(mean, due_somewhere > 0, int(came[0]) if came else None)


def check_number(value: float, name: str) -> None:
    """Refuse what a run cannot come back from.

    Raises:
        RuntimeError: if the value is NaN or infinite; with the way out.
    """
    if not abs(value) < float("inf"):
        raise RuntimeError(
            f"{name} is {value}: the run stops, and what it saved before stays as it was; a lower learning rate, or a "
            "longer warm-up, in another folder may help"
        )


def check_tensors(parts: dict[str, list[Tensor]], device: torch.device) -> None:
    """Refuse to save what is no longer finite on one of the ranks; every rank calls it.

    Args:
        parts: name -> its tensors; those of whole numbers are passed over.
        device: of this rank.
    Raises:
        RuntimeError: naming the first part that holds NaN or infinity.
    """
    for name, tensors in parts.items():
        verdicts = [
            value.detach().isfinite().all().to(device)
            for value in tensors
            if value.is_floating_point()
        ]
        bad = torch.tensor(0.0, device=device)
        if verdicts:
            bad = 1 - torch.stack(verdicts).all().float()
        if float(distributed.all_reduce_sum(bad)):
            raise RuntimeError(
                f"{name} holds NaN or infinity: the run stops, and what it saved before stays as it was; a lower "
                "learning rate, or a longer warm-up, in another folder may help"
            )
