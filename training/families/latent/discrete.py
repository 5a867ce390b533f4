"""Networks trained at discrete times to predict noise (LDM, U-ViT, Stable Diffusion), as denoisers D(x; sigma).

Such a network sees x_t = sqrt(abar_t) image + sqrt(1 - abar_t) noise at the times t of a table. With
sigma_t = sqrt((1 - abar_t) / abar_t) that is x / sqrt(1 + sigma_t^2), where x = image + sigma_t noise as everywhere
here. In x and sigma, DDIM without noise (eta = 0) is Euler's method.

Reference: Song et al., 2021 (DDIM), Section 4.3, https://arxiv.org/abs/2010.02502
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from training.families.latent.continuous import ContinuousTimes
from training.precond_base import Precond, Scalings, predicting_noise

Prediction = Literal["eps", "v"]
Rounding = Literal["nearest", "fractional"]
MAX_TIMESTEPS = 1_000_000  # a thousand times as many as published


def betas(schedule: str, start: float, end: float, num_timesteps: int) -> Tensor:
    r"""The noise added at each time: beta_t, from `start` to `end`.

    linear: beta evenly spaced;  scaled_linear: sqrt(beta) evenly spaced

    Reference: Ho et al., 2020 (linear), https://arxiv.org/abs/2006.11239; the code of Rombach et al., 2022
    (scaled_linear, which it calls linear), https://github.com/CompVis/latent-diffusion

    Args:
        schedule: a name in BETAS.
        start, end: 0 < start <= end < 1.
        num_timesteps: M, 2 to MAX_TIMESTEPS.
    Returns:
        float64 [M].
    Raises:
        ValueError: if the schedule is unknown or a range above is violated.
    """
    if schedule not in BETAS:
        raise ValueError(f"unknown beta_schedule {schedule!r}; choose from {', '.join(BETAS)}")
    if not 0 < start <= end < 1:
        raise ValueError(f"betas run from {start} to {end}; need 0 < beta_start <= beta_end < 1")
    if not 2 <= num_timesteps <= MAX_TIMESTEPS:
        raise ValueError(f"num_timesteps is {num_timesteps}; it must be from 2 to {MAX_TIMESTEPS}")
    return BETAS[schedule](start, end, num_timesteps)


def _linear(start: float, end: float, steps: int) -> Tensor:
    return torch.linspace(start, end, steps, dtype=torch.float64)


def _scaled_linear(start: float, end: float, steps: int) -> Tensor:
    return _linear(start**0.5, end**0.5, steps) ** 2


BETAS: dict[str, Callable[[float, float, int], Tensor]] = {
    "linear": _linear,
    "scaled_linear": _scaled_linear,
}


class NoiseTable(nn.Module):
    r"""The noise levels of M discrete times, and the way between the two.

    abar_t = prod_{s <= t} (1 - beta_s),  sigma_t = sqrt((1 - abar_t) / abar_t)

    Between two times log abar = -log(1 + sigma^2) is linear in t, as DPM-Solver has it. The table is float64 and no
    part of a checkpoint; it moves with the module to its device.

    Reference: Lu et al., 2022 (DPM-Solver), discrete-time models, https://arxiv.org/abs/2206.00927

    Args:
        beta_schedule, beta_start, beta_end, num_timesteps: see `betas`.
        first_timestep: what the network is told at the lowest noise level: 0 (LDM, Stable Diffusion) or 1 (U-ViT).
        rounding: the time of a sigma between two levels: "nearest": that of the nearest level, of two equally near the
            higher; "fractional": between the two times, which suits networks that embed any number.
    Raises:
        ValueError: if a choice is unknown or a range is violated.
    """

    levels: Tensor
    log_gain: Tensor

    def __init__(
        self,
        beta_schedule: str = "scaled_linear",
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        num_timesteps: int = 1000,
        first_timestep: int = 0,
        rounding: Rounding = "nearest",
    ) -> None:
        super().__init__()
        if rounding not in get_args(Rounding):
            raise ValueError(
                f"unknown rounding {rounding!r}; choose from {', '.join(get_args(Rounding))}"
            )
        self.first_timestep, self.rounding = first_timestep, rounding
        with torch.device("cpu"):  # real numbers even where a network is built on the meta device
            # log(1 + sigma_t^2) = -log abar_t; expm1 gives sigma_t all its digits.
            log_gain = -torch.log1p(
                -betas(beta_schedule, beta_start, beta_end, num_timesteps)
            ).cumsum(0)
        self.register_buffer("log_gain", log_gain, persistent=False)  # [M], increasing
        # sigma_t [M], increasing.
        self.register_buffer("levels", log_gain.expm1().sqrt(), persistent=False)

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest noise level."""
        return float(self.levels[0]), float(self.levels[-1])

    @property
    def alphas_cumprod(self) -> Tensor:
        """abar_t: float64 [M], decreasing."""
        return (-self.log_gain).exp()

    def timestep(self, sigma: Tensor) -> Tensor:
        """The time that the network is told at each sigma, rounded as the class says; clamped to the table.

        Args:
            sigma: noise levels of any shape.
        Returns:
            float64 of that shape, first_timestep ... first_timestep + M - 1.
        """
        sigma = sigma.to(torch.float64)
        if self.rounding == "nearest":
            return self._nearest(sigma).to(torch.float64) + self.first_timestep
        gain = (sigma**2).log1p()
        upper = torch.searchsorted(self.log_gain, gain.contiguous()).clamp(
            1, len(self.log_gain) - 1
        )
        low, high = self.log_gain[upper - 1], self.log_gain[upper]
        return upper - 1 + ((gain - low) / (high - low)).clamp(0, 1) + self.first_timestep

    def relative_time(self, sigma: Tensor) -> Tensor:
        """(t - t_min) / (t_max - t_min) of the `timestep` t at each sigma: float64 of its shape."""
        return (self.timestep(sigma) - self.first_timestep) / (len(self.levels) - 1)

    def sigma(self, timestep: Tensor) -> Tensor:
        """The noise level at each time, between two times as the class says; clamped to the table.

        Args:
            timestep: times of any shape, whole or not.
        Returns:
            float64 noise levels of that shape.
        """
        index = (timestep.to(torch.float64) - self.first_timestep).clamp(0, len(self.levels) - 1)
        lower = index.floor().long().clamp(max=len(self.levels) - 2)
        return (
            torch.lerp(self.log_gain[lower], self.log_gain[lower + 1], index - lower).expm1().sqrt()
        )

    def round_sigma(self, sigma: float | Tensor) -> Tensor:
        """The nearest level of the table; with fractional times every level has its own time and stays."""
        if self.rounding == "fractional":
            return torch.as_tensor(sigma)
        sigma = torch.as_tensor(sigma, device=self.levels.device)
        return self.levels[self._nearest(sigma)].to(sigma.dtype)

    def uniform_sigmas(self, num_nodes: int) -> Tensor:
        """Noise levels at evenly spaced times, from the highest to the lowest of the table (U-ViT's choice).

        Args:
            num_nodes: N, 2 <= N <= M.
        Returns:
            Decreasing float64 [N].
        Raises:
            ValueError: if N is out of range.
        """
        M = len(self.levels)
        if not 2 <= num_nodes <= M:
            raise ValueError(
                f"{num_nodes} nodes of a table of {M} noise levels; choose from 2 to {M}"
            )
        index = torch.linspace(M - 1, 0, num_nodes, dtype=torch.float64, device=self.levels.device)
        return self.round_sigma(self.sigma(index + self.first_timestep))

    def ddim_sigmas(self, num_steps: int) -> Tensor:
        """The levels that LDM's DDIM visits: those of index 1 + j floor(M / S), j = S - 1 ... 0, then that of index 0.

        There it stops, so that Euler's method takes exactly S steps. LDM's image is x / sqrt(1 + sigma_0^2) at the end.
        S should divide M, as 10, 20 or 50 do 1000: where it does not, LDM's own code takes further steps, at higher
        levels than the first one here (S = 600 begins at index 600 of 1000).

        Args:
            num_steps: S, 1 <= S <= M - 1.
        Returns:
            Decreasing float64 [S + 1].
        Raises:
            ValueError: if S is out of range.
        """
        M = len(self.levels)
        if not 1 <= num_steps <= M - 1:
            raise ValueError(
                f"{num_steps} DDIM steps over a table of {M} noise levels; choose from 1 to {M - 1}"
            )
        index = (
            torch.arange(num_steps - 1, -1, -1, device=self.levels.device) * (M // num_steps) + 1
        )
        return self.levels[torch.cat([index, index.new_zeros(1)])]

    def _nearest(self, sigma: Tensor) -> Tensor:
        upper = torch.searchsorted(self.levels, sigma.to(torch.float64).contiguous()).clamp(
            1, len(self.levels) - 1
        )
        below, above = self.levels[upper - 1], self.levels[upper]
        return torch.where(sigma - below < above - sigma, upper - 1, upper)


def _times(beta_schedule: str = "scaled_linear", **settings: Any) -> "NoiseTable | ContinuousTimes":
    """The noise levels that the keywords describe."""
    if beta_schedule != "vp":
        return NoiseTable(beta_schedule, **settings)
    settings.pop("first_timestep", None)
    if settings.pop("rounding", "fractional") != "fractional":
        raise ValueError(
            'continuous times (beta_schedule "vp") have no levels to round to: rounding is "fractional"'
        )
    return ContinuousTimes(**settings)


class DiscretePrecond(Precond):
    r"""A denoiser D(x; sigma) from a network that predicts the noise (eps) or the velocity (v) at discrete times.

    eps:  D = x - sigma F,                                    F ~ noise
    v:    D = x / (1 + sigma^2) - sigma / sqrt(1 + sigma^2) F,  F ~ sqrt(abar) noise - sqrt(1 - abar) image
    F is the network at x / sqrt(1 + sigma^2) and the time of sigma.

    Reference: as the module; v: Salimans & Ho, 2022, https://arxiv.org/abs/2202.00512

    Args:
        model: F, called as (x, times [N], class_labels, None, skip_scale, skip_target), with the attribute num_skips.
        img_resolution, img_channels: of the images (or latents) x.
        label_dim: number of classes, 0 if unconditional.
        use_fp16: run the network in float16 on CUDA devices.
        prediction: "eps" or "v".
        table: keywords of `NoiseTable`; with beta_schedule "vp" those of `ContinuousTimes`.
    Attributes:
        table: the noise levels and their times.
    Raises:
        ValueError: if a choice is unknown or a range is violated.
    """

    table: NoiseTable | ContinuousTimes

    def __init__(
        self,
        model: nn.Module,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        prediction: Prediction = "eps",
        **table: Any,
    ) -> None:
        super().__init__(model, img_resolution, img_channels, label_dim, use_fp16)
        if prediction not in get_args(Prediction):
            raise ValueError(
                f"unknown prediction {prediction!r}; choose from {', '.join(get_args(Prediction))}"
            )
        self.prediction = prediction
        self.table_settings = table
        self.table = _times(**table)
        self.sigma_min, self.sigma_max = self.table.ends

    def round_sigma(self, sigma: float | Tensor) -> Tensor:
        """See `NoiseTable.round_sigma`."""
        return self.table.round_sigma(sigma)

    @property
    def relative_time(self) -> Callable[[Tensor], Tensor]:
        """See `Precond.relative_time`; rounded as the table rounds times."""
        return self.table.relative_time

    @property
    def sigma_grids(self) -> dict[str, Callable[[int], Tensor]]:
        """Grids of the table's own levels, for a sampler that steps from the last one to 0.

        "ddim": LDM's, of discrete times only; its own sampler stops at the lowest level and leaves that noise in.
        "timesteps": U-ViT's. They are computed on the CPU wherever the network is: a GPU's last digit would make
        another record.
        """
        table = _times(**self.table_settings)
        if isinstance(table, ContinuousTimes):
            return {"timesteps": table.uniform_sigmas}
        return {
            "ddim": lambda steps: table.ddim_sigmas(steps)[:-1],
            "timesteps": table.uniform_sigmas,
        }

    def scalings(self, sigma: Tensor) -> Scalings:
        """See the class."""
        noise = predicting_noise(sigma, self.table.timestep(sigma).to(sigma.dtype))
        if self.prediction == "eps":
            return noise
        return noise._replace(c_skip=noise.c_in**2, c_out=noise.c_out * noise.c_in)
