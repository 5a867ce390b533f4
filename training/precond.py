"""Preconditioning of EDM's networks: from F to a denoiser D(x; sigma), four ways; see training/precond_base.py.

Reference: Karras et al., 2022, Table 1 and Appendix C, https://arxiv.org/abs/2206.00364
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from training.networks import DhariwalUNet, SongUNet
from training.precond_base import Precond, Scalings, predicting_noise
from training.schedules import VPSchedule, iddpm_levels

__all__ = [
    "PRECONDS", "EDMPrecond", "EDMScaled", "Precond", "Scalings", "VEPrecond", "VPPrecond",
    "iDDPMPrecond",
]  # fmt: skip

NETWORKS: dict[str, type[DhariwalUNet] | type[SongUNet]] = {
    "DhariwalUNet": DhariwalUNet,
    "SongUNet": SongUNet,
}
NETWORK_CLASSES = tuple(NETWORKS.values())


def raw_network(
    model_type: str,
    img_resolution: int,
    img_channels: int,
    label_dim: int,
    out_channels: int | None = None,
    **model_kwargs: Any,
) -> DhariwalUNet | SongUNet:
    """One of EDM's networks.

    Args:
        model_type: a name in NETWORKS.
        img_resolution, img_channels, label_dim: of the images.
        out_channels: of F; None: as many as the images have.
        model_kwargs: keywords of that class.
    Raises:
        ValueError: for an unknown name, or as that class.
    """
    if model_type not in NETWORKS:
        raise ValueError(f"unknown model_type {model_type!r}; choose from {', '.join(NETWORKS)}")
    return NETWORKS[model_type](
        img_resolution=img_resolution,
        in_channels=img_channels,
        out_channels=img_channels if out_channels is None else out_channels,
        label_dim=label_dim,
        **model_kwargs,
    )


class EDMScaled(Precond):
    """EDM's preconditioning of any raw network: unit variance in and out, the least amplified error.

    c_skip = s^2 / (sigma^2 + s^2),  c_out = sigma s / sqrt(sigma^2 + s^2),  c_in = 1 / sqrt(sigma^2 + s^2),
    c_noise = ln(sigma) / 4, where s = sigma_data.

    Args:
        model, img_resolution, img_channels, label_dim, use_fp16: see `Precond`.
        sigma_min, sigma_max: the range the network may be asked for.
        sigma_data: standard deviation of the data.
    """

    def __init__(
        self,
        model: nn.Module,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        sigma_min: float = 0.0,
        sigma_max: float = math.inf,
        sigma_data: float = 0.5,
    ) -> None:
        super().__init__(model, img_resolution, img_channels, label_dim, use_fp16)
        self.sigma_min, self.sigma_max, self.sigma_data = sigma_min, sigma_max, sigma_data

    def scalings(self, sigma: Tensor) -> Scalings:
        """See the class."""
        total = sigma**2 + self.sigma_data**2
        c_out = sigma * self.sigma_data / total.sqrt()
        return Scalings(self.sigma_data**2 / total, c_out, 1 / total.sqrt(), sigma.log() / 4)


class EDMPrecond(EDMScaled):
    """EDM's preconditioning of one of its networks; see `EDMScaled` for the coefficients.

    Args:
        img_resolution, img_channels, label_dim, use_fp16: see `Precond`.
        sigma_min, sigma_max, sigma_data: see `EDMScaled`.
        model_type: "DhariwalUNet" or "SongUNet"; so in the classes below.
        model_kwargs: keywords of that class.
    """

    parts = NETWORK_CLASSES

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        sigma_min: float = 0.0,
        sigma_max: float = math.inf,
        sigma_data: float = 0.5,
        model_type: str = "DhariwalUNet",
        **model_kwargs: Any,
    ) -> None:
        model = raw_network(model_type, img_resolution, img_channels, label_dim, **model_kwargs)
        noise = sigma_min, sigma_max, sigma_data
        super().__init__(model, img_resolution, img_channels, label_dim, use_fp16, *noise)


class VPPrecond(Precond):
    """Variance-preserving preconditioning (Song et al., 2021).

    c_skip = 1,  c_out = -sigma,  c_in = 1 / sqrt(sigma^2 + 1),  c_noise = (M - 1) t(sigma), where
    log(1 + sigma(t)^2) = beta_d t^2 / 2 + beta_min t.

    `sigma` and `sigma_inv` have EDM's form of these formulas: in float32 the published networks carry its rounding, of
    2.4% at the lowest level.

    Args:
        beta_d, beta_min: see `training.schedules.VPSchedule`.
        M: number of discrete training times.
        epsilon_t: the smallest training time.
    """

    parts = NETWORK_CLASSES

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        beta_d: float = 19.9,
        beta_min: float = 0.1,
        M: int = 1000,
        epsilon_t: float = 1e-5,
        model_type: str = "SongUNet",
        **model_kwargs: Any,
    ) -> None:
        model = raw_network(model_type, img_resolution, img_channels, label_dim, **model_kwargs)
        super().__init__(model, img_resolution, img_channels, label_dim, use_fp16)
        self.schedule, self.M, self.epsilon_t = VPSchedule(beta_d, beta_min), M, epsilon_t
        with torch.device("cpu"):  # real numbers even where the network is built on the meta device
            self.sigma_min, self.sigma_max = float(self.sigma(epsilon_t)), float(self.sigma(1))

    def sigma(self, t: float | Tensor) -> Tensor:
        """Noise level at time t in [0, 1]."""
        return (self.schedule.log_gain(torch.as_tensor(t)).exp() - 1).sqrt()

    def sigma_inv(self, sigma: float | Tensor) -> Tensor:
        """Time at which the noise level is sigma."""
        beta_d, beta_min = self.schedule.beta_d, self.schedule.beta_min
        sigma = torch.as_tensor(sigma)
        return ((beta_min**2 + 2 * beta_d * (1 + sigma**2).log()).sqrt() - beta_min) / beta_d

    @property
    def relative_time(self) -> Callable[[Tensor], Tensor]:
        """See `Precond.relative_time`; the times are epsilon_t to 1, without the rounding of `sigma_inv`."""

        def of(sigma: Tensor) -> Tensor:
            t = self.schedule.time(sigma.to(torch.float64)).clamp(self.epsilon_t, 1)
            return (t - self.epsilon_t) / (1 - self.epsilon_t)

        return of

    def scalings(self, sigma: Tensor) -> Scalings:
        """See the class."""
        return predicting_noise(sigma, (self.M - 1) * self.sigma_inv(sigma))


class VEPrecond(Precond):
    """Variance-exploding preconditioning (Song et al., 2021): c_skip = c_in = 1, c_out = sigma, c_noise = ln(sigma/2).

    Args:
        sigma_min, sigma_max: the range of training noise levels.
    """

    parts = NETWORK_CLASSES

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        sigma_min: float = 0.02,
        sigma_max: float = 100.0,
        model_type: str = "SongUNet",
        **model_kwargs: Any,
    ) -> None:
        model = raw_network(model_type, img_resolution, img_channels, label_dim, **model_kwargs)
        super().__init__(model, img_resolution, img_channels, label_dim, use_fp16)
        self.sigma_min, self.sigma_max = sigma_min, sigma_max

    def scalings(self, sigma: Tensor) -> Scalings:
        """See the class."""
        return Scalings(1.0, sigma, 1.0, (0.5 * sigma).log())


class iDDPMPrecond(Precond):
    """Improved-DDPM preconditioning (Nichol & Dhariwal, 2021) at M discrete levels u_0 > .. > u_{M-1} > u_M = 0.

    c_skip = 1,  c_out = -sigma,  c_in = 1 / sqrt(sigma^2 + 1),  c_noise = M - 1 - argmin_j |u_j - sigma|.

    The network's second half of output channels (a learned variance) is not used.

    Args:
        C_1, C_2, M: of the levels, see `training.schedules.iddpm_levels`.
    Raises:
        ValueError: if M is out of range.
    """

    parts = NETWORK_CLASSES
    u: Tensor

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        C_1: float = 0.001,
        C_2: float = 0.008,
        M: int = 1000,
        model_type: str = "DhariwalUNet",
        **model_kwargs: Any,
    ) -> None:
        model = raw_network(
            model_type,
            img_resolution,
            img_channels,
            label_dim,
            out_channels=2 * img_channels,
            **model_kwargs,
        )
        super().__init__(model, img_resolution, img_channels, label_dim, use_fp16)
        self.C_1, self.C_2, self.M = C_1, C_2, M
        u = iddpm_levels(M, C_1, C_2)
        self.register_buffer("u", u)
        self.sigma_min, self.sigma_max = float(u[M - 1]), float(u[0])

    def level_index(self, sigma: Tensor) -> Tensor:
        """Index j of the level u_j nearest to each sigma; of two equally near, the larger level."""
        levels = self.u.to(sigma.dtype)
        return (sigma.reshape(-1, 1) - levels).abs().argmin(dim=1).reshape(sigma.shape)

    def round_sigma(self, sigma: float | Tensor) -> Tensor:
        """The nearest trained noise level u_j."""
        sigma = torch.as_tensor(sigma, device=self.u.device)
        return self.u[self.level_index(sigma)].to(sigma.dtype)

    @property
    def relative_time(self) -> Callable[[Tensor], Tensor]:
        """See `Precond.relative_time`; the times are 0 to M - 1, that of a sigma the nearest level's."""

        def of(sigma: Tensor) -> Tensor:
            told = self.M - 1 - self.level_index(sigma.to(torch.float64))
            return told.to(torch.float64) / max(self.M - 1, 1)

        return of

    def scalings(self, sigma: Tensor) -> Scalings:
        """See the class."""
        return predicting_noise(sigma, (self.M - 1 - self.level_index(sigma)).to(torch.float32))


PRECONDS: dict[str, type[Precond]] = {
    "EDMPrecond": EDMPrecond,
    "VPPrecond": VPPrecond,
    "VEPrecond": VEPrecond,
    "iDDPMPrecond": iDDPMPrecond,
}
