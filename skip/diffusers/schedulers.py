"""The noise level that a model is told with a timestep, by the class name of diffusers' scheduler: a literal table.

Of a diffusion x = alpha x_0 + beta noise the noise level in data units is sigma = beta / alpha. Each function here is a
frozen object of numbers, so that a model that holds one can be copied and saved.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SigmaOfTimestep = Callable[[Tensor], Tensor]


def sigma_from_scheduler(scheduler: Any) -> "Clock":
    r"""The noise level at a timestep of a scheduler, in data units.

    Args:
        scheduler: of diffusers, of a class in `SCHEDULERS`, or of any other with `alphas_cumprod`.
    Returns:
        Function of timesteps as the scheduler's pipeline tells them to the model, [] or [N], to float64 sigma of the
        same shape.
    Raises:
        ValueError: if the scheduler does not tell.
    """
    for cls in type(scheduler).__mro__:
        if cls.__name__ in SCHEDULERS and cls.__module__.split(".")[0] == "diffusers":
            return SCHEDULERS[cls.__name__](scheduler)
    return _table(scheduler)


class Clock:
    """sigma of a timestep, and how late the timestep is."""

    def __call__(self, timestep: Tensor) -> Tensor:
        """sigma in data units, float64, of the shape of the timesteps."""
        raise NotImplementedError

    def relative_time(self, timestep: Tensor) -> Tensor:
        """The timestep from 0, in clean images, to 1, in noise.

        Raises:
            ValueError: if timesteps are noise levels, which have no such ends.
        """
        raise ValueError(
            "the timesteps of this scheduler are noise levels, not times: choose another axis than time"
        )


@dataclass(frozen=True, eq=False)
class Table(Clock):
    """sigma(t) = sqrt((1 - a_t) / a_t), with a = alphas_cumprod; between two timesteps, log sigma is interpolated.

    Attributes:
        log_sigma: float64 [T], of timesteps 0 .. T - 1; beyond them sigma stays.
    """

    log_sigma: Tensor

    def __call__(self, timestep: Tensor) -> Tensor:
        """See `Clock`."""
        table = self.log_sigma.to(timestep.device, non_blocking=True)
        t = timestep.to(torch.float64).clamp(0, len(table) - 1)
        below, above = t.floor().long(), t.ceil().long()
        return torch.lerp(table.take(below), table.take(above), t - below).exp()

    def relative_time(self, timestep: Tensor) -> Tensor:
        """See `Clock`."""
        return timestep.to(torch.float64) / max(len(self.log_sigma) - 1, 1)


@dataclass(frozen=True)
class LogSigma(Clock):
    """sigma(t) = exp(t / factor): EDM tells its networks ln(sigma) / 4.

    Attributes:
        factor: of the logarithm in a timestep.
    """

    factor: float = 0.25

    def __call__(self, timestep: Tensor) -> Tensor:
        """See `Clock`."""
        return (timestep.to(torch.float64) / self.factor).exp()


@dataclass(frozen=True)
class Sigma(Clock):
    """The model is told sigma itself."""

    def __call__(self, timestep: Tensor) -> Tensor:
        """See `Clock`."""
        return timestep.to(torch.float64)


@dataclass(frozen=True)
class Flow(Clock):
    """x = (1 - s) x_0 + s noise, with s = t / T; sigma = s / (1 - s), which at t = T has no end.

    Attributes:
        length: T.
        rising: whether t counts from noise to images: s = 1 - t / T.
    """

    length: float
    rising: bool = False

    def __call__(self, timestep: Tensor) -> Tensor:
        """See `Clock`."""
        s = self.relative_time(timestep)
        return s / (1 - s)

    def relative_time(self, timestep: Tensor) -> Tensor:
        """See `Clock`."""
        s = (timestep.to(torch.float64) / self.length).clamp(0, 1)
        return 1 - s if self.rising else s


@dataclass(frozen=True)
class Angle(Clock):
    """x = cos(t pi/2) x_0 + sin(t pi/2) noise: sigma(t) = tan(t pi/2)."""

    def __call__(self, timestep: Tensor) -> Tensor:
        """See `Clock`."""
        return (self.relative_time(timestep) * (math.pi / 2)).tan()

    def relative_time(self, timestep: Tensor) -> Tensor:
        """See `Clock`."""
        return timestep.to(torch.float64).clamp(0, 1)


@dataclass(frozen=True)
class LinearVp(Clock):
    """sigma(t)^2 = exp(beta_min t + (beta_max - beta_min) t^2 / 2) - 1: the VP SDE's, of continuous times 0 .. 1.

    Reference: Song et al., 2021, Eq. 33, https://arxiv.org/abs/2011.13456
    """

    beta_min: float
    beta_max: float

    def __call__(self, timestep: Tensor) -> Tensor:
        """See `Clock`."""
        t = self.relative_time(timestep)
        return (self.beta_min * t + (self.beta_max - self.beta_min) * t**2 / 2).expm1().sqrt()

    def relative_time(self, timestep: Tensor) -> Tensor:
        """See `Clock`."""
        return timestep.to(torch.float64).clamp(0, 1)


@dataclass(frozen=True)
class Cosine(Clock):
    """sigma(t)^2 = 1 / a - 1,  a = cos(pi/2 (u + s) / (1 + s))^2 / cos(pi/2 s / (1 + s))^2, of continuous times 0 .. 1.

    a stays within [0.0001, 0.9999]; u = t, or t^scaler, or, of a scaler above 1, 1 - (1 - t)^scaler.
    """

    offset: float
    scaler: float = 1.0

    def __call__(self, timestep: Tensor) -> Tensor:
        """See `Clock`."""
        t = self.relative_time(timestep)
        u = 1 - (1 - t) ** self.scaler if self.scaler > 1 else t**self.scaler
        angle = (u + self.offset) / (1 + self.offset) * (math.pi / 2)
        start = math.cos(self.offset / (1 + self.offset) * (math.pi / 2))
        a = ((angle.cos() / start) ** 2).clamp(0.0001, 0.9999)
        return ((1 - a) / a).sqrt()

    def relative_time(self, timestep: Tensor) -> Tensor:
        """See `Clock`."""
        return timestep.to(torch.float64).clamp(0, 1)


def _table(scheduler: Any) -> Clock:
    name, config = type(scheduler).__name__, getattr(scheduler, "config", {})
    if getattr(scheduler, "alphas_cumprod", None) is None:
        raise ValueError(
            f"{name} does not tell sigma from a timestep; pass sigma_of_timestep instead, or one of "
            "skip.diffusers.schedulers.SCHEDULERS"
        )
    if config.get("use_flow_sigmas"):
        return _flow(scheduler)
    # Euler's own condition for it.
    if (config.get("timestep_type"), config.get("prediction_type")) == (
        "continuous",
        "v_prediction",
    ):
        return LogSigma()
    a = scheduler.alphas_cumprod.detach().to("cpu", torch.float64)
    return Table(((1 - a) / a.clamp_min(1e-30)).log() / 2)  # a is 0 at the end of some schedules


def _flow(scheduler: Any) -> Clock:
    config = scheduler.config
    return Flow(config["num_train_timesteps"], rising=bool(config.get("invert_sigmas", False)))


SCHEDULERS: dict[str, Callable[[Any], Clock]] = {
    "CMStochasticIterativeScheduler": lambda _: LogSigma(250.0),
    "CogVideoXDDIMScheduler": _table,
    "CogVideoXDPMScheduler": _table,
    "CosineDPMSolverMultistepScheduler": lambda _: Angle(),
    "DDIMInverseScheduler": _table,
    "DDIMParallelScheduler": _table,
    "DDIMScheduler": _table,
    "DDPMParallelScheduler": _table,
    "DDPMScheduler": _table,
    "DDPMWuerstchenScheduler": lambda s: Cosine(s.config["s"], s.config["scaler"]),
    "DEISMultistepScheduler": _table,
    "DPMSolverMultistepInverseScheduler": _table,
    "DPMSolverMultistepScheduler": _table,
    "DPMSolverSDEScheduler": _table,
    "DPMSolverSinglestepScheduler": _table,
    "EDMDPMSolverMultistepScheduler": lambda _: LogSigma(),
    "EDMEulerScheduler": lambda _: LogSigma(),
    "EulerAncestralDiscreteScheduler": _table,
    "EulerDiscreteScheduler": _table,
    "FlowMapEulerDiscreteScheduler": _flow,
    "FlowMatchEulerDiscreteScheduler": _flow,
    "FlowMatchHeunDiscreteScheduler": _flow,
    "FlowMatchLCMScheduler": _flow,
    "HeunDiscreteScheduler": _table,
    "IPNDMScheduler": lambda _: Angle(),
    "KDPM2AncestralDiscreteScheduler": _table,
    "KDPM2DiscreteScheduler": _table,
    "LCMScheduler": _table,
    "LMSDiscreteScheduler": _table,
    "LTXEulerAncestralRFScheduler": _flow,
    "MiniMaxH3Scheduler": lambda _: Flow(1.0, rising=True),
    "PNDMScheduler": _table,
    "PiflowScheduler": _flow,
    "RePaintScheduler": _table,
    "SASolverScheduler": _table,
    "ScoreSdeVeScheduler": lambda _: Sigma(),
    "ScoreSdeVpScheduler": lambda s: LinearVp(s.config["beta_min"], s.config["beta_max"]),
    "TCDScheduler": _table,
    "UnCLIPScheduler": _table,
    "UniPCMultistepScheduler": _table,
}
