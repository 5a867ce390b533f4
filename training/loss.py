"""Denoising losses: the one of each preconditioning."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from training.schedules import VPSchedule


def edm_weight(sigma: Tensor, sigma_data: float) -> Tensor:
    """EDM's w(sigma) = (sigma^2 + s^2) / (sigma s)^2, s = sigma_data.

    With it, the loss of the ideal denoiser of N(0, s^2 I) is 1 a pixel at every noise level.

    Reference: Karras et al., 2022, Table 1, https://arxiv.org/abs/2206.00364

    Args:
        sigma: noise levels > 0, of any shape.
        sigma_data: standard deviation of the data in [-1, 1].
    Returns:
        Of the shape and dtype of sigma.
    """
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


class DenoisingLoss(Protocol):
    """w(sigma) ||D(y + sigma z; sigma) - y||^2 for random noise levels and z ~ N(0, I)."""

    def draw(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise levels [N] and noise of the shape of `images`, drawn on the generator's device."""
        ...

    def __call__(
        self,
        net: nn.Module,
        images: Tensor,
        labels: Tensor | None,
        sigma: Tensor,
        noise: Tensor,
        augment_labels: Tensor | None = None,
    ) -> Tensor:
        """The loss of each value, of the shape of `images`.

        Args:
            net: denoiser net(x, sigma, class_labels, augment_labels=...).
            images: clean images [N, C, H, W] in [-1, 1].
            labels: one-hot [N, label_dim], or None.
            sigma, noise: as from `draw`.
            augment_labels: [N, augment_dim] of augmented images.
        """
        ...


class _Weighted:
    """What the losses share; a subclass says how levels are drawn and weighted."""

    def level(self, random: Tensor) -> Tensor:
        """Noise levels from draws of `random`."""
        raise NotImplementedError(f"{type(self).__name__} defines no noise levels")

    def weight(self, sigma: Tensor) -> Tensor:
        """w(sigma); here 1 / sigma^2."""
        return 1 / sigma**2

    def random(self, count: int, generator: torch.Generator) -> Tensor:
        """The draws behind the levels; here uniform on [0, 1)."""
        return torch.rand([count], generator=generator, device=generator.device)

    def draw(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """See `DenoisingLoss`."""
        sigma = self.level(self.random(images.shape[0], generator))
        noise = torch.randn(images.shape, generator=generator, device=generator.device)
        return sigma.to(images.device), noise.to(images.device)

    def __call__(
        self,
        net: nn.Module,
        images: Tensor,
        labels: Tensor | None,
        sigma: Tensor,
        noise: Tensor,
        augment_labels: Tensor | None = None,
    ) -> Tensor:
        """See `DenoisingLoss`."""
        level = sigma.reshape(-1, 1, 1, 1)
        more = {} if augment_labels is None else {"augment_labels": augment_labels}
        return (
            self.weight(level) * (net(images + level * noise, sigma, labels, **more) - images) ** 2
        )


@dataclass(frozen=True)
class EDMLoss(_Weighted):
    r"""EDM's loss: ln sigma ~ N(P_mean, P_std^2),  w(sigma) = (sigma^2 + s^2) / (sigma s)^2, s = sigma_data.

    Reference: Karras et al., 2022, Eq. 108 and Table 1, https://arxiv.org/abs/2206.00364

    Args:
        P_mean, P_std: of ln sigma.
        sigma_data: standard deviation of the data in [-1, 1].
    """

    P_mean: float = -1.2
    P_std: float = 1.2
    sigma_data: float = 0.5

    def random(self, count: int, generator: torch.Generator) -> Tensor:
        """Standard normal."""
        return torch.randn([count], generator=generator, device=generator.device)

    def level(self, random: Tensor) -> Tensor:
        """exp(P_mean + P_std n)."""
        return (random * self.P_std + self.P_mean).exp()

    def weight(self, sigma: Tensor) -> Tensor:
        """See the class."""
        return edm_weight(sigma, self.sigma_data)


@dataclass(frozen=True)
class VPLoss(_Weighted):
    r"""The loss of variance-preserving diffusion: t ~ U(epsilon_t, 1),  w(sigma) = 1 / sigma^2.

    Reference: Song et al., 2021, https://arxiv.org/abs/2011.13456, as in Karras et al., 2022, Table 1

    Args:
        beta_d, beta_min: of sigma(t), see `training.schedules.VPSchedule`.
        epsilon_t: the smallest time.
    """

    beta_d: float = 19.9
    beta_min: float = 0.1
    epsilon_t: float = 1e-5

    def level(self, random: Tensor) -> Tensor:
        """sigma(1 + (epsilon_t - 1) u)."""
        return VPSchedule(self.beta_d, self.beta_min).sigma(1 + random * (self.epsilon_t - 1))


@dataclass(frozen=True)
class VELoss(_Weighted):
    r"""The loss of variance-exploding diffusion: ln sigma ~ U(ln sigma_min, ln sigma_max),  w(sigma) = 1 / sigma^2.

    Reference: Song et al., 2021, https://arxiv.org/abs/2011.13456, as in Karras et al., 2022, Table 1

    Args:
        sigma_min, sigma_max: range of the noise levels.
    """

    sigma_min: float = 0.02
    sigma_max: float = 100.0

    def level(self, random: Tensor) -> Tensor:
        """sigma_min (sigma_max / sigma_min)^u."""
        return self.sigma_min * (random * math.log(self.sigma_max / self.sigma_min)).exp()


@dataclass(frozen=True, eq=False)
class NoisePredictionLoss(_Weighted):
    r"""The loss of noise predictors at discrete times: t uniform over the levels of a table,  w(sigma) = 1 / sigma^2.

    With x = y + sigma n, D = x - sigma F and this weight it is ||F - n||^2, F the predicted noise.

    Reference: Ho et al., 2020, Eq. 14, https://arxiv.org/abs/2006.11239

    Args:
        levels: sigma_t [M].
    """

    levels: Tensor

    def level(self, random: Tensor) -> Tensor:
        """sigma_t with t = floor(M u)."""
        index = (random * len(self.levels)).long().clamp(max=len(self.levels) - 1)
        return self.levels.to(random.device, torch.float32)[index]


LOSSES: dict[str, type[EDMLoss] | type[VPLoss] | type[VELoss]] = {
    "EDMPrecond": EDMLoss,
    "VPPrecond": VPLoss,
    "VEPrecond": VELoss,
}
# Whose loss needs no settings: the network's table tells the levels.
NOISE_PREDICTORS = ("LDMPrecond", "UViTPrecond")
TRAINABLE = (*LOSSES, *NOISE_PREDICTORS)


def loss_of(precond: str, settings: Mapping[str, float], net: Any) -> DenoisingLoss:
    """The loss of a network.

    Args:
        precond: class name of the network, one of TRAINABLE.
        settings: keywords of the loss.
        net: the network.
    """
    if precond in NOISE_PREDICTORS:
        return NoisePredictionLoss(net.table.levels)
    return LOSSES[precond](**settings)
