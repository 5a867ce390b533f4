"""SkipTuned: a denoiser whose long skips are scaled."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from skip.methods.method import Joins, SkipMethod
from skip.methods.table import check_reach
from skip.scale import AXES, SkipScale


class SkipTuned:
    """D(x; sigma) of `net` with its long skips multiplied by rho_i(sigma).

    It is called like the network itself, so whatever takes a network takes this; every other attribute is the
    network's own. With rho = 1 everywhere, and no other method, the network runs
    untouched.

    Args:
        net: a network with long skips.
        scale: rho as a function of layer and noise level.
        target: what in a decoder block sees the scaled skip: "full" the block; "shortcut" its residual shortcut alone;
            "norm_input" its first group norm alone; "norm_output": that norm's output is scaled in the skip's place.
        methods: what else acts on the skips, in this order, before they are scaled; when, `scale` says.
    Raises:
        ValueError: if `scale` gives another number of coefficients than `net` has long skips, or depends on the time of
            a network that knows none, or if a parameter of a method touches none of its skips.
    """

    def __init__(
        self,
        net: Any,
        scale: SkipScale,
        target: str = "full",
        methods: Sequence[SkipMethod] = (),
    ) -> None:
        scale.per_layer(net.num_skips)  # fails now rather than in the middle of a run
        self.net, self.scale, self.target = net, scale, target
        self.methods = [method for method in methods if not method.is_identity]
        self._relative_time = self._time_of(net)
        if self.methods:
            check_reach(self.methods, net.skip_levels, f"this network ({type(net).__name__})")

    def _time_of(self, net: Any) -> Callable[[Tensor], Tensor] | None:
        """What tells the network's own time, where rho or a method depends on it."""
        if not self.scale.needs_time or (self.scale.is_identity and not self.methods):
            return None
        told: Callable[[Tensor], Tensor] | None = getattr(net, "relative_time", None)
        if told is None:
            raise ValueError(
                "axis time (--rho-axis=time): this network was trained at noise levels, not at times; choose the axis "
                f"{', '.join(axis for axis in AXES if axis != 'time')}"
            )
        return told

    def __getattr__(self, name: str) -> Any:
        return getattr(self.net, name)

    def rho(self, level: Tensor) -> Tensor:
        """rho of each long skip at noise levels [] or [N] on the network's device: float32 [k] or [N, k]."""
        return self.scale(self.net.num_skips, level, self._time(level))

    def _time(self, level: Tensor) -> Tensor | None:
        return None if self._relative_time is None else self._relative_time(level)

    def __call__(
        self, x: Tensor, sigma: Tensor | float, class_labels: Tensor | None = None
    ) -> Tensor:
        """Denoise x [N, C, H, W] at noise level sigma, a scalar or [N], in any shape of so many numbers."""
        if self.scale.is_identity and not self.methods:
            return self.net(x, sigma, class_labels)

        levels = torch.as_tensor(sigma, device=x.device).reshape(-1)
        level = levels[0] if len(levels) == 1 else levels
        how: dict[str, Any] = {"skip_target": self.target}
        if not self.scale.is_identity:
            how["skip_scale"] = self.rho(level)
        if self.methods:
            strength = self.scale.strength(level, self._time(level))
            how["skip_join"] = Joins(self.methods, self.net.skip_levels, strength)
        return self.net(x, sigma, class_labels, **how)
