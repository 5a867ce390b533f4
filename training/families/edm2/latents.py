"""EDM2's networks at 512 pixels: denoisers of the latents of Stable Diffusion's autoencoder."""

from typing import Any

import torch
from torch import Tensor

from training.families.edm2.unet import EDM2Precond
from training.families.latent.precond import LatentPrecond

LATENT_CHANNELS = 4
# Of the autoencoder's latents, channel by channel; the network's have mean 0 and this standard deviation.
RAW_MEAN = (5.81, 3.25, 0.12, -2.15)
RAW_STD = (4.17, 4.62, 3.71, 3.28)
STD = 0.5


class EDM2LatentPrecond(LatentPrecond, EDM2Precond):
    r"""EDM2's preconditioning around a network of latents, with or without their decoder.

    raw = x RAW_STD / STD + RAW_MEAN,  image = decoder(raw) in [0, 1],

    without Stable Diffusion's factor 0.18215: EDM2 normalises each channel, and its encoder and decoder have images in
    [0, 1] where Stable Diffusion has [-1, 1].

    Reference: StabilityVAEEncoder in training/encoders.py of https://github.com/NVlabs/edm2, which decodes with
    https://huggingface.co/stabilityai/sd-vae-ft-mse

    Args:
        img_resolution, img_channels: of the latents x.
        label_dim, use_fp16, sigma_data, logvar_channels, unet_kwargs: see `EDM2Precond`.
        first_stage: see `LatentPrecond.take_decoder`.
    Raises:
        ValueError: if the latents have not four channels, or the decoder does not fit them.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int = LATENT_CHANNELS,
        label_dim: int = 0,
        use_fp16: bool = False,
        sigma_data: float = 0.5,
        logvar_channels: int = 128,
        first_stage: dict[str, Any] | None = None,
        **unet_kwargs: Any,
    ) -> None:
        if img_channels != LATENT_CHANNELS:
            raise ValueError(
                f"EDM2's latents have {LATENT_CHANNELS} channels, the network {img_channels}"
            )
        super().__init__(
            img_resolution,
            img_channels,
            label_dim,
            use_fp16,
            sigma_data,
            logvar_channels,
            **unet_kwargs,
        )
        self.take_decoder(first_stage)

    def decode(self, x: Tensor) -> Tensor:
        """See `LatentPrecond.decode`; scaled so that 8 bits are EDM2's, 255 times the decoder's image, cut off.

        `sampling.generate.to_uint8` makes 127.5 y + 128 of y, so that y = 2 image - 128 / 127.5.
        """
        std, mean = (
            torch.tensor(values, device=x.device).reshape(1, -1, 1, 1)
            for values in (RAW_STD, RAW_MEAN)
        )
        raw = x.to(torch.float32) * (std / STD) + mean
        return 2 * super().decode(raw * self._decoder().scale_factor) - 128 / 127.5
