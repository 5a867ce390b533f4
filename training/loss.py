"""Denoising losses."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class EDMLoss:
    r"""EDM's weighted denoising loss.

    ln sigma ~ N(P_mean, P_std^2);  w(sigma) = (sigma^2 + s^2) / (sigma s)^2;  loss = w ||D(y + sigma z; sigma) - y||^2,
    z ~ N(0, I), s = sigma_data.

    Reference: Karras et al., 2022, Eq. 108 and Table 1, https://arxiv.org/abs/2206.00364

    Args:
        P_mean, P_std: of ln sigma.
        sigma_data: standard deviation of the data in [-1, 1].
    """

    P_mean: float = -1.2
    P_std: float = 1.2
    sigma_data: float = 0.5

    def draw(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise levels [N] and noise of the shape of `images`, drawn on the generator's device."""
        N, device = images.shape[0], generator.device
        sigma = (torch.randn([N], generator=generator, device=device) * self.P_std + self.P_mean).exp()
        noise = torch.randn(images.shape, generator=generator, device=device)
        return sigma.to(images.device), noise.to(images.device)

    def __call__(
        self,
        net: nn.Module,
        images: Tensor,
        labels: Tensor | None,
        sigma: Tensor,
        noise: Tensor,
    ) -> Tensor:
        """The loss of each value, of the shape of `images`.

        Args:
            net: denoiser net(x, sigma, class_labels).
            images: clean images [N, C, H, W] in [-1, 1].
            labels: one-hot [N, label_dim], or None.
            sigma, noise: as from `draw`.
        """
        level = sigma.reshape(-1, 1, 1, 1)
        weight = (level**2 + self.sigma_data**2) / (level * self.sigma_data) ** 2
        return weight * (net(images + level * noise, sigma, labels) - images) ** 2
