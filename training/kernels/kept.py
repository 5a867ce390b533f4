"""What inference makes of a weight once and keeps: a transformed or a packed copy of it."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

Made = TypeVar("Made")


class Kept:
    """Things made of one weight, each until the weight is another.

    A copy of its owner begins without them: packed memory cannot be copied, and is soon made again.
    """

    def __init__(self) -> None:
        self._made: dict[str, tuple[tuple[int, int], Any]] = {}

    def get(self, weight: Tensor, name: str, make: Callable[[], Made]) -> Made:
        """What `make` made of the weight under this name; made anew where gradients flow or torch.compile traces."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or weight.is_inference():
            return make()  # changes of an inference tensor leave no trace
        # A new pointer when it was moved, a new version when it changed.
        state = (weight.data_ptr(), weight._version)
        if name not in self._made or self._made[name][0] != state:
            self._made[name] = state, make()
        made: Made = self._made[name][1]
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> "Kept":
        return Kept()

    def __reduce__(self) -> tuple[type["Kept"], tuple[()]]:
        return Kept, ()
