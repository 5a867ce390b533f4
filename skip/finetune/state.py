"""Where a run of fine-tuning stands: what it changes, and what a killed one goes on from."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dnnlib.text import printable
from torch_utils import distributed
from torch_utils.weights import check_like, read_saved, write_saved
from training.run.optimizer import adam, take_moments
from training.run.state import saved_number
from training.run.watch import check_tensors


@dataclass
class Run:
    """The moving parts of a run.

    Args:
        settings: what determines it, as JSON; a state of other settings is refused.
        parameters: leaves that require gradients; changed in place.
        lr: Adam's learning rate.
        also: further tensors that belong to the state, such as averaged weights.
    Attributes:
        images_seen: over all ranks and sessions.
        history: float64 [steps, 1 + ...]: of each step the mean loss, then whatever `fit` watches.
        kept: whether something was saved since the first state.
    """

    settings: dict[str, object]
    parameters: Sequence[Tensor]
    lr: float
    also: Sequence[Tensor] = ()

    def __post_init__(self) -> None:
        self.optimizer = adam(self.parameters, self.lr)
        self.images_seen, self.kept = 0, False
        self.history: list[Tensor] = []

    def check(self, device: torch.device) -> None:
        """Refuse to save what a run cannot go on from; every rank calls it.

        Raises:
            RuntimeError: if a part holds NaN or infinity on one of the ranks.
        """
        moments = [value for one in self.optimizer.state.values() for value in one.values()]
        parts = {
            "parameters": list(self.parameters),
            "what is kept beside the parameters": list(self.also),
        }
        check_tensors(parts | {"optimizer": moments}, device)

    def save(self, path: Path) -> None:
        """Write plain tensors and numbers, atomically; on rank 0."""
        if distributed.rank() != 0:
            return
        saved = {
            "settings": json.dumps(self.settings, sort_keys=True),
            "images_seen": self.images_seen,
            "parameters": [value.detach() for value in self.parameters],
            "also": list(self.also),
            "optimizer": self.optimizer.state_dict(),
            "history": torch.stack(self.history)
            if self.history
            else torch.zeros(0, 1, dtype=torch.float64),
        }
        write_saved(path, saved)

    @torch.no_grad()
    def load(self, path: Path, device: torch.device) -> None:
        """Go on where the run of `path` was saved, if there is one; nothing in the file is executed.

        Raises:
            ValueError: if the file is damaged, or the run had other settings.
        """
        found = path.exists()
        distributed.barrier()  # every rank has looked before one writes
        if not found:
            return

        try:
            saved = read_saved(path, device)
            settings = json.loads(saved["settings"])
            if not isinstance(settings, dict):
                raise ValueError("what it records as the settings is no object")
            if settings == self.settings:
                self._take(saved)
        except Exception as error:  # damage can show in any way
            raise ValueError(
                f"cannot resume from {path}: {printable(error)}; remove it to start anew"
            ) from error

        for name in sorted(settings.keys() | self.settings.keys()):
            a, b = settings.get(name), self.settings.get(name)
            if a != b:
                before = printable(f"{name}={a!r}")
                raise ValueError(
                    f"{path} is of a run with {before}, now {b!r}; choose another place or remove it"
                )

    def _take(self, saved: dict[str, Any]) -> None:
        """Go on from what `save` wrote; errors as of `load`."""
        for mine, theirs in ((self.parameters, saved["parameters"]), (self.also, saved["also"])):
            own = {str(index): value for index, value in enumerate(mine)}
            found = {str(index): value for index, value in enumerate(theirs)}
            check_like(found, own)
            for name, value in own.items():
                value.copy_(found[name])
        take_moments(self.optimizer, saved["optimizer"])
        self.images_seen = saved_number("images_seen", saved["images_seen"], int)
        history = saved["history"]
        if history.ndim != 2 or history.dtype != torch.float64 or not history.isfinite().all():
            raise ValueError("its history is no table of numbers")
        self.history = list(history.cpu())
