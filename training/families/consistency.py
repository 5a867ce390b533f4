"""The preconditioning of a consistency model that begins with the weights of an EDM network."""

from typing import Any

from torch import Tensor

from training.precond import EDMPrecond, Scalings


class EDMConsistencyPrecond(EDMPrecond):
    """EDM's preconditioning, moved so that D(x; sigma_min) = x; the raw network sees what it sees in an EDMPrecond.

    c_skip = s^2 / ((sigma - e)^2 + s^2),  c_out = (sigma - e) s / sqrt(sigma^2 + s^2),
    c_in = 1 / sqrt(sigma^2 + s^2),  c_noise = ln(sigma) / 4, where s = sigma_data and e = sigma_min.

    Reference: Song et al., 2023, Appendix C, https://arxiv.org/abs/2303.01469

    Args:
        sigma_min: e, the noise level of the images that D gives; the lowest that D may be asked for.
        sigma_max: the highest.
        sigma_data: standard deviation of the data.
        Others: see `training.precond.Precond`.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        sigma_data: float = 0.5,
        model_type: str = "DhariwalUNet",
        **model_kwargs: Any,
    ) -> None:
        super().__init__(
            img_resolution, img_channels, label_dim, use_fp16, sigma_min, sigma_max, sigma_data, model_type,
            **model_kwargs,
        )  # fmt: skip

    def scalings(self, sigma: Tensor) -> Scalings:
        """See the class."""
        above, variance = sigma - self.sigma_min, self.sigma_data**2
        return (
            super()
            .scalings(sigma)
            ._replace(
                c_skip=variance / (above**2 + variance),
                c_out=above * self.sigma_data / (sigma**2 + variance).sqrt(),
            )
        )
