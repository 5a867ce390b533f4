"""The way from images to latents, for who trains an autoencoder or makes latents with it; names as published.

Reference: Rombach et al., 2022, "High-Resolution Image Synthesis with Latent Diffusion Models",
https://arxiv.org/abs/2112.10752
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch.nn.functional as F
from torch import Tensor, nn

from training.blocks.layers import Conv2d, GroupNorm
from training.families.latent.autoencoder import (
    EPS,
    KLDecoder,
    PixelAttention,
    ResidualBlock,
    middle,
)
from training.families.ldm.blocks import GROUPS

# Of log variances: beyond these, exp leaves what training can use.
LOWEST, HIGHEST = -30.0, 20.0


class Gaussians(NamedTuple):
    """A normal distribution of each latent value: means and log variances [N, C, H, W]."""

    mean: Tensor
    logvar: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """mean + exp(logvar / 2) noise, with noise ~ N(0, I) like the mean."""
        return self.mean + (self.logvar / 2).exp() * noise

    def divergence(self) -> Tensor:
        """KL(q || N(0, I)) of each image: sum over its latents of (mean^2 + var - 1 - logvar) / 2: [N]."""
        return (self.mean.square() + self.logvar.exp() - 1 - self.logvar).flatten(1).sum(1) / 2


class HalvingConv(nn.Module):
    """A 3x3 convolution of stride 2 whose padding is to the right and below only, as published."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C, H / 2, W / 2]."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Encoder(nn.Module):
    """The tower that mirrors `Decoder`: level after level downwards, then the middle.

    Args:
        ch, ch_mult, num_res_blocks, attn_levels, norm_groups: as those of the decoder, which has a block more a level.
        in_ch: channels of the image.
        out_channels: twice those of the latents inside: means and log variances.
    """

    def __init__(
        self,
        ch: int,
        ch_mult: Sequence[int],
        num_res_blocks: int,
        in_ch: int,
        out_channels: int,
        attn_levels: Sequence[int] = (),
        norm_groups: int | None = GROUPS,
    ) -> None:
        super().__init__()
        self.conv_in = Conv2d(in_ch, ch, 3)
        width = ch
        self.down = nn.ModuleList()
        for level, mult in enumerate(ch_mult):
            blocks = nn.ModuleList()
            for _ in range(num_res_blocks):
                blocks.append(ResidualBlock(width, ch * mult, norm_groups))
                width = ch * mult
            parts = nn.ModuleDict({"block": blocks})
            if level in attn_levels:
                parts["attn"] = nn.ModuleList(PixelAttention(width, norm_groups) for _ in blocks)
            if level < len(ch_mult) - 1:
                parts["downsample"] = HalvingConv(width)
            self.down.append(parts)

        self.mid = middle(width, norm_groups)
        self.norm_out = GroupNorm(width, EPS, norm_groups)
        self.conv_out = Conv2d(width, out_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in_ch, 2^l H, 2^l W] to [N, out_channels, H, W], l the levels but one."""
        x = self.conv_in(x)
        for level in cast(Any, self.down):
            for i, block in enumerate(level["block"]):
                x = block(x)
                if "attn" in level:
                    x = level["attn"][i](x)
            if "downsample" in level:
                x = level["downsample"](x)
        for name in ("block_1", "attn_1", "block_2"):
            x = self.mid[name](x)
        return self.conv_out(F.silu(self.norm_out(x)))


class KLAutoencoder(KLDecoder):
    """A KL autoencoder whole: `KLDecoder`, and quant_conv(encoder(image)) to means and log variances.

    Args: those of `KLDecoder`.
    """

    def __init__(
        self,
        ch: int = 128,
        ch_mult: Sequence[int] = (1, 2, 4, 4),
        num_res_blocks: int = 2,
        out_ch: int = 3,
        z_channels: int = 4,
        embed_dim: int = 4,
        scale_factor: float = 0.18215,
        attn_levels: Sequence[int] = (),
        norm_groups: int | None = GROUPS,
    ) -> None:
        super().__init__(
            ch, ch_mult, num_res_blocks, out_ch, z_channels, embed_dim, scale_factor, attn_levels, norm_groups
        )  # fmt: skip
        self.encoder = Encoder(
            ch, ch_mult, num_res_blocks, out_ch, 2 * z_channels, attn_levels, norm_groups
        )
        self.quant_conv = Conv2d(2 * z_channels, 2 * embed_dim, 1)

    def encode(self, images: Tensor) -> Gaussians:
        """What the latents of an image are, before they are scaled.

        Args:
            images: float32 [N, out_ch, factor H, factor W] in [-1, 1].
        Returns:
            Of [N, embed_dim, H, W].
        Raises:
            ValueError: if the sides of the images are no multiples of `factor`.
        """
        if images.shape[-1] % self.factor or images.shape[-2] % self.factor:
            raise ValueError(
                f"images of {images.shape[-1]}x{images.shape[-2]} pixels: this autoencoder takes multiples of "
                f"{self.factor}"
            )
        mean, logvar = self.quant_conv(self.encoder(images)).chunk(2, dim=1)
        return Gaussians(mean, logvar.clamp(LOWEST, HIGHEST))

    def decode(self, z: Tensor) -> Tensor:
        """Images of unscaled latents [N, embed_dim, H, W]."""
        return self._decoded(z)

    def rescale(self, factor: float) -> None:
        """Multiply latents by another number for the diffusion network from now on, in the file too."""
        self.scale_factor = self.init_kwargs["scale_factor"] = factor
