"""The noise level at the timesteps of diffusers' schedulers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

SigmaOfTimestep = Callable[[Tensor], Tensor]


def sigma_from_scheduler(scheduler: Any) -> SigmaOfTimestep:
    r"""The noise level at a timestep of a variance-preserving diffusion, in data units.

    sigma(t) = sqrt((1 - a_t) / a_t),  a = alphas_cumprod;  between two timesteps, log sigma is interpolated

    Args:
        scheduler: of diffusers, with `alphas_cumprod` [T].
    Returns:
        Function of timesteps in [0, T - 1], [] or [N], to float64 sigma of the same shape.
    Raises:
        ValueError: if the scheduler has no `alphas_cumprod`, or its timesteps do not count in it.
    """
    name, config = type(scheduler).__name__, getattr(scheduler, "config", {})
    if getattr(scheduler, "alphas_cumprod", None) is None:
        raise ValueError(
            f"{name} has no alphas_cumprod to tell sigma from a timestep: pass sigma_of_timestep instead"
        )
    continuous = (
        config.get("timestep_type") == "continuous"
        and config.get("prediction_type") == "v_prediction"
    )
    if continuous or config.get("use_flow_sigmas"):
        raise ValueError(
            f"the timesteps of this {name} do not count in alphas_cumprod: pass sigma_of_timestep instead"
        )
    a = scheduler.alphas_cumprod.detach().to("cpu", torch.float64)
    log_sigma = ((1 - a) / a.clamp_min(1e-30)).log() / 2  # a is 0 at the end of some schedules

    def sigma_of_timestep(timestep: Tensor) -> Tensor:
        table = log_sigma.to(timestep.device, non_blocking=True)
        t = timestep.to(torch.float64).clamp(0, len(table) - 1)
        below, above = t.floor().long(), t.ceil().long()
        return torch.lerp(table.take(below), table.take(above), t - below).exp()

    return sigma_of_timestep
