"""Decoders, which turn latents into images: KL (Stable Diffusion, U-ViT, LDM) and VQ (LDM); names as published.

Reference: Rombach et al., 2022, "High-Resolution Image Synthesis with Latent Diffusion Models",
https://arxiv.org/abs/2112.10752
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torch_utils.init_kwargs import RecordsArguments
from training.blocks.layers import Conv2d, GroupNorm, embedding
from training.families.ldm.blocks import GROUPS
from training.kernels import compute

EPS = 1e-6  # of the norms
# Distances held at a time: on a CPU what its caches hold, on a GPU what keeps it busy (256 MB).
DISTANCES = {"cpu": 2**19, "cuda": 2**26}


class ResidualBlock(nn.Module):
    """x + conv2(silu(norm2(conv1(silu(norm1(x)))))), with a 1x1 convolution on x where the channels change."""

    def __init__(
        self, in_channels: int, out_channels: int, norm_groups: int | None = GROUPS
    ) -> None:
        super().__init__()
        self.norm1 = GroupNorm(in_channels, EPS, norm_groups)
        self.conv1 = Conv2d(in_channels, out_channels, 3)
        self.norm2 = GroupNorm(out_channels, EPS, norm_groups)
        self.conv2 = Conv2d(out_channels, out_channels, 3)
        self.nin_shortcut = (
            Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, out_channels, H, W]."""
        h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return h + (x if self.nin_shortcut is None else self.nin_shortcut(x))


class PixelAttention(nn.Module):
    """x + proj_out(attention over the pixels of norm(x)), one head."""

    def __init__(self, channels: int, norm_groups: int | None = GROUPS) -> None:
        super().__init__()
        self.norm = GroupNorm(channels, EPS, norm_groups)
        self.q, self.k, self.v, self.proj_out = (Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        h = self.norm(x)
        # (N, 1, H * W, C) each
        q, k, v = (part(h).flatten(2).mT[:, None] for part in (self.q, self.k, self.v))
        return x + self.proj_out(compute.attention(q, k, v)[:, 0].mT.reshape(x.shape))


def middle(width: int, norm_groups: int | None) -> nn.ModuleDict:
    """Two blocks with attention between them, where a tower is lowest."""
    return nn.ModuleDict(
        {
            "block_1": ResidualBlock(width, width, norm_groups),
            "attn_1": PixelAttention(width, norm_groups),
            "block_2": ResidualBlock(width, width, norm_groups),
        }
    )


class Decoder(nn.Module):
    """The tower that both decoders have: blocks and attention in the middle, then level after level upwards.

    Args:
        ch, ch_mult, num_res_blocks, out_ch, z_channels, attn_levels, norm_groups: see `LatentDecoder`.
    """

    def __init__(
        self,
        ch: int,
        ch_mult: Sequence[int],
        num_res_blocks: int,
        out_ch: int,
        z_channels: int,
        attn_levels: Sequence[int] = (),
        norm_groups: int | None = GROUPS,
    ) -> None:
        super().__init__()
        width = ch * ch_mult[-1]
        self.conv_in = Conv2d(z_channels, width, 3)
        self.mid = middle(width, norm_groups)

        # Made from the lowest level up, and stored by their numbers, of which 0 is the image's.
        levels = {}
        for level, mult in reversed(list(enumerate(ch_mult))):
            blocks = nn.ModuleList()
            for _ in range(num_res_blocks + 1):
                blocks.append(ResidualBlock(width, ch * mult, norm_groups))
                width = ch * mult
            levels[level] = nn.ModuleDict({"block": blocks})
            if level in attn_levels:
                levels[level]["attn"] = nn.ModuleList(
                    PixelAttention(width, norm_groups) for _ in blocks
                )
            if level:
                levels[level]["upsample"] = nn.ModuleDict({"conv": Conv2d(width, width, 3)})

        self.up = nn.ModuleList(levels[level] for level in range(len(ch_mult)))
        self.norm_out = GroupNorm(width, EPS, norm_groups)
        self.conv_out = Conv2d(width, out_ch, 3)

    def forward(self, z: Tensor) -> Tensor:
        """Map [N, z_channels, H, W] to [N, out_ch, 2^l H, 2^l W], l the levels but one."""
        x = self.conv_in(z)
        for name in ("block_1", "attn_1", "block_2"):
            x = self.mid[name](x)
        for level in cast(Any, reversed(self.up)):
            for i, block in enumerate(level["block"]):
                x = block(x)
                if "attn" in level:
                    x = level["attn"][i](x)
            if "upsample" in level:
                x = level["upsample"]["conv"](F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.conv_out(F.silu(self.norm_out(x)))


class LatentDecoder(RecordsArguments, nn.Module):
    """Latents to images, decoder(post_quant_conv(z / scale_factor)); a subclass may do something to z before.

    Reference: Rombach et al., 2022, https://arxiv.org/abs/2112.10752

    Args:
        ch, ch_mult: level l has ch * ch_mult[l] channels; every level but the first doubles the side.
        num_res_blocks: residual blocks a level, less one.
        out_ch, z_channels, embed_dim: channels of the image, inside the decoder, and of the latents.
        scale_factor: what latents were multiplied by for the diffusion network.
        attn_levels: levels with attention after each of their blocks, 0 being that of the image: (3,) for VQ-f8, (4,)
            for VQ-f16 and KL-f16, none for VQ-f4 and KL-f8.
        norm_groups: groups of the norms, which divide all channels; None: min(32, channels // 4).
    Attributes:
        factor: side of an image in latent pixels.
        dtype: what the tower computes in, see `set_dtype`.
    """

    def __init__(
        self,
        ch: int,
        ch_mult: Sequence[int],
        num_res_blocks: int,
        out_ch: int,
        z_channels: int,
        embed_dim: int,
        scale_factor: float,
        attn_levels: Sequence[int] = (),
        norm_groups: int | None = GROUPS,
    ) -> None:
        super().__init__()
        # Of those that are as most, files say nothing.
        if not attn_levels:
            self.init_kwargs.pop("attn_levels")
        if norm_groups == GROUPS:
            self.init_kwargs.pop("norm_groups")
        self.out_ch, self.embed_dim, self.scale_factor = out_ch, embed_dim, scale_factor
        self.factor = 2 ** (len(ch_mult) - 1)
        self.decoder = Decoder(
            ch, ch_mult, num_res_blocks, out_ch, z_channels, attn_levels, norm_groups
        )
        self.post_quant_conv = Conv2d(embed_dim, z_channels, 1)
        self.widest = ch * max(ch_mult[:2])
        self.dtype = torch.float32

    def set_dtype(self, dtype: torch.dtype) -> "LatentDecoder":
        """Run the tower in `dtype` from now on; for inference: its weights are converted once, in place.

        What comes before it, the codebook's decisions too, stays float32.
        """
        self.dtype = dtype
        self.decoder.to(dtype)
        return self

    def image_bytes(self, side: int) -> int:
        """Memory that one image of latents of this side takes on its way, about: four tensors of its widest layer."""
        return 4 * self.widest * (self.factor * side) ** 2 * self.dtype.itemsize

    def forward(self, z: Tensor) -> Tensor:
        """Decode.

        Args:
            z: latents as the diffusion network has them, [N, embed_dim, H, W].
        Returns:
            Images, about [-1, 1]: float32 [N, out_ch, factor H, factor W].
        """
        return self._decoded(z / self.scale_factor)

    def _decoded(self, z: Tensor) -> Tensor:
        images: Tensor = self.decoder(self.post_quant_conv(z).to(self.dtype))
        return images.to(torch.float32)


class KLDecoder(LatentDecoder):
    """The decoder of a KL autoencoder: `LatentDecoder`; the defaults are those of KL-f8, as U-ViT uses it."""

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


class VQDecoder(LatentDecoder):
    """The decoder of a VQ autoencoder, which first replaces each latent vector by the nearest of its codebook.

    The defaults are those of VQ-f4, as LDM-4 uses it.

    Args:
        n_embed: entries of the codebook.
        others: see `LatentDecoder`.
    """

    def __init__(
        self,
        ch: int = 128,
        ch_mult: Sequence[int] = (1, 2, 4),
        num_res_blocks: int = 2,
        out_ch: int = 3,
        z_channels: int = 3,
        embed_dim: int = 3,
        scale_factor: float = 1.0,
        n_embed: int = 8192,
        attn_levels: Sequence[int] = (),
        norm_groups: int | None = GROUPS,
    ) -> None:
        super().__init__(
            ch, ch_mult, num_res_blocks, out_ch, z_channels, embed_dim, scale_factor, attn_levels, norm_groups
        )  # fmt: skip
        self.quantize = nn.ModuleDict({"embedding": embedding(n_embed, embed_dim)})

    def indices(self, z: Tensor) -> Tensor:
        """Which entry of the codebook is nearest to each vector of z [N, embed_dim, H, W]: [N, H, W]."""
        vectors = z.detach().permute(0, 2, 3, 1)  # (N, H, W, embed_dim)
        codebook = cast(Tensor, self.quantize["embedding"].weight).detach()
        return nearest(vectors.flatten(0, 2), codebook).reshape(vectors.shape[:3])

    def quantized(self, z: Tensor) -> Tensor:
        """The entries of the codebook nearest to the vectors of z, in its shape."""
        return self.quantize["embedding"](self.indices(z)).permute(0, 3, 1, 2)

    def forward(self, z: Tensor, quantize: bool = True) -> Tensor:
        """Decode; see `LatentDecoder.forward`. Without `quantize`, the latents are decoded as they are."""
        z = z / self.scale_factor
        return self._decoded(self.quantized(z) if quantize else z)


DECODERS: dict[str, type[LatentDecoder]] = {"KLDecoder": KLDecoder, "VQDecoder": VQDecoder}


def nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Which entry of the codebook is nearest to each vector; of two equally near, the first.

    The squared differences are summed as they are, not by a matrix product, which rounds: the nearest is a decision.
    (torch.cdist without products launches a block a pair on a GPU: 34 million of them an image of LDM-4.)

    Args:
        vectors: [V, d].
        codebook: [K, d].
    Returns:
        Indices [V].
    """
    at_once = max(1, DISTANCES.get(vectors.device.type, DISTANCES["cpu"]) // len(codebook))
    found = []
    for part in vectors.split(at_once):
        distances = part.new_zeros([len(part), len(codebook)])
        for dim in range(part.shape[1]):
            difference = part[:, dim, None] - codebook[:, dim]
            distances.addcmul_(difference, difference)
        found.append(distances.argmin(1))
    return torch.cat(found)
