"""The one loop behind every solver that calls the network once per step and remembers earlier calls."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sampling.denoiser import Denoiser
from sampling.sigmas import checked


@dataclass(frozen=True)
class Step:
    """x_next = keep * x + sum_j weights[j] * V_j, V_0 the newest remembered value.

    The numbers depend on the noise levels alone, so a whole run's are worked out on the CPU before it starts.

    Args:
        keep: factor of the state.
        weights: factors of the remembered values, newest first.
    """

    keep: float
    weights: tuple[float, ...]

    def __call__(self, x: Tensor, values: Sequence[Tensor]) -> Tensor:
        """The next state from the state `x` and at least len(weights) remembered values."""
        x_next = self.keep * x
        for weight, value in zip(self.weights, values, strict=False):
            x_next = x_next + weight * value
        return x_next


@dataclass(frozen=True)
class Scheme:
    """A multistep solver, all in numbers.

    Args:
        predict: for each step to a positive noise level, how to reach it.
        correct: for each of these steps, how to repeat it once the value at its end is known and the newest;
            empty for solvers without a corrector.
        derivative: remember d = (x - D) / sigma = dx/dsigma instead of D.
        noise: for each of these steps, the standard deviation of the noise added at its end, of which a correction
            repeats the draw; empty for solvers of the ODE.
    """

    predict: tuple[Step, ...]
    correct: tuple[Step, ...] = ()
    derivative: bool = False
    noise: tuple[float, ...] = ()


def multistep(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    scheme: Callable[[list[float]], Scheme],
    randn_like: Callable[[Tensor], Tensor] = torch.randn_like,
) -> Tensor:
    """Follow the probability-flow ODE, or the SDE, with one network call per step.

    The value that corrects a step serves the next prediction too, so a corrector costs no evaluation; the
    last step is never corrected. A step to sigma = 0 is x = D(x; sigma), Euler's step, in every solver.

    Args:
        denoise: D(x; sigma).
        x: state at sigmas[0], float64 [N, C, H, W].
        sigmas: [M + 1] noise levels, decreasing (sampling) or increasing (inversion), the last may be 0.
        scheme: from the levels to the scheme; steps to sigma = 0 need no entry.
        randn_like: the noise of a scheme that adds any; called once in each step to a positive level.
    Returns:
        The state at sigmas[-1].
    Raises:
        ValueError: if the noise levels, or the settings with them, make no sense.
    """
    levels = checked(sigmas)
    sigmas = sigmas.to(x)
    plan = scheme(levels)
    depth = max((len(step.weights) for step in (*plan.predict, *plan.correct)), default=1)

    values: list[Tensor] = []
    x_start, noise = x, torch.zeros_like(x)
    for i, level in enumerate(levels[:-1]):
        D = denoise(x, sigmas[i])
        if levels[i + 1] == 0:
            return D

        values = [(x - D) / level if plan.derivative else D, *values][:depth]
        if plan.correct and i > 0:
            x = plan.correct[i - 1](x_start, values)
            if plan.noise:
                x = x + noise
        x_start, x = x, plan.predict[i](x, values)
        if plan.noise:
            noise = plan.noise[i] * randn_like(x)
            x = x + noise
    return x


def positive_steps(levels: Sequence[float]) -> int:
    """How many of the steps between the levels end at a positive one."""
    return len(levels) - 1 - (levels[-1] == 0)


def step_orders(
    name: str, levels: Sequence[float], order: int, highest: int, lower_order_final: bool
) -> list[int]:
    """The order of each step: it rises to `order` as values are gathered, and may fall to 1 at the end.

    p_s = min(s, order), and with lower_order_final also <= M + 1 - s,  s = 1 .. M

    Args:
        name: of the solver, for the message.
        levels: the M + 1 noise levels; a last step to 0 counts.
        order: of the solver, 1 to `highest`, at most M.
        highest: the solver's highest order.
        lower_order_final: let the last steps fall in order, which is stabler when steps are few.
    Returns:
        M integers.
    Raises:
        ValueError: if the order is out of range or exceeds the number of steps.
    """
    M = len(levels) - 1
    if order not in range(1, highest + 1):
        raise ValueError(f"{name} has orders 1 to {highest}, got {order}")
    if order > M:
        raise ValueError(
            f"{name} of order {order} needs at least {order} steps, got {M}: lower the order or add steps"
        )
    return [min(s, order, M + 1 - s if lower_order_final else order) for s in range(1, M + 1)]
