"""What is known of a solver beside its function: its settings, and what it asks of where it is used."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

from torch import Tensor

Need = Literal["randn_like", "round_sigma", "sigma_range", "boundary"]


@dataclass(frozen=True)
class NoSettings:
    """The settings of a solver that leaves no choice."""


@dataclass(frozen=True)
class Solver:
    """A solver, as tables hold it.

    Args:
        function: function(denoise, x, sigmas, **settings, **needs) -> x at the last noise level.
        settings: a frozen dataclass of its settings, in the order of records; each has a default.
        needs: the arguments that no user chooses: `randn_like` draws the noise that it adds, `round_sigma` is the
            network's, `sigma_range` the range of the grid, `boundary` the network's lowest noise level.
        grid: the noise levels that it was published with.
        inverts: whether it also leads from images to noise, on increasing noise levels.
    """

    function: Callable[..., Tensor]
    settings: type[Any] = NoSettings
    needs: tuple[Need, ...] = ()
    grid: str = "edm"
    inverts: bool = True

    @property
    def names(self) -> list[str]:
        """What its settings are called."""
        return [field.name for field in fields(self.settings)]
