"""The KL-f8 decoder of Stable Diffusion, which turns U-ViT's latents into images; state-dict names as published.

Reference: Rombach et al., 2022, "High-Resolution Image Synthesis with Latent Diffusion Models",
https://arxiv.org/abs/2112.10752
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from torch_utils.weights import check_names, read_state_dict
from training import onednn
from training.layers import Conv2d


class ResidualBlock(nn.Module):
    """x + conv2(silu(norm2(conv1(silu(norm1(x)))))), with a 1x1 convolution on x where the channels change."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1 = _group_norm(in_channels)
        self.conv1 = Conv2d(in_channels, out_channels, 3)
        self.norm2 = _group_norm(out_channels)
        self.conv2 = Conv2d(out_channels, out_channels, 3)
        self.nin_shortcut = Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, out_channels, H, W]."""
        h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return h + (x if self.nin_shortcut is None else self.nin_shortcut(x))


class PixelAttention(nn.Module):
    """x + proj_out(attention over the pixels of norm(x)), one head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _group_norm(channels)
        self.q, self.k, self.v, self.proj_out = (Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        h = self.norm(x)
        q, k, v = (part(h).flatten(2).mT[:, None] for part in (self.q, self.k, self.v))  # (N, 1, H * W, C)
        return x + self.proj_out(onednn.attention(q, k, v)[:, 0].mT.reshape(x.shape))


class KLDecoder(nn.Module):
    """Latents to images: decoder(post_quant_conv(z / scale_factor)); names as in the published autoencoder.

    Reference: Rombach et al., 2022, https://arxiv.org/abs/2112.10752

    Args:
        ch, ch_mult: level l has ch * ch_mult[l] channels, multiples of 32; every level but the first doubles the side.
        num_res_blocks: residual blocks a level, less one.
        out_ch, z_channels, embed_dim: channels of the image, inside the decoder, and of the latents.
        scale_factor: what latents were multiplied by for the diffusion network.
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
    ) -> None:
        super().__init__()
        self.scale_factor = scale_factor
        width = ch * ch_mult[-1]
        decoder, levels = nn.ModuleDict(), {}
        decoder["conv_in"] = Conv2d(z_channels, width, 3)
        decoder["mid"] = nn.ModuleDict(
            {
                "block_1": ResidualBlock(width, width),
                "attn_1": PixelAttention(width),
                "block_2": ResidualBlock(width, width),
            }
        )
        for level, mult in reversed(list(enumerate(ch_mult))):
            widths = [width] + [ch * mult] * (num_res_blocks + 1)
            blocks = nn.ModuleList(ResidualBlock(a, b) for a, b in itertools.pairwise(widths))
            levels[level] = nn.ModuleDict({"block": blocks})
            if level:
                levels[level]["upsample"] = nn.ModuleDict({"conv": Conv2d(ch * mult, ch * mult, 3)})
            width = ch * mult
        decoder["up"] = nn.ModuleList(levels[level] for level in range(len(ch_mult)))
        decoder["norm_out"] = _group_norm(width)
        decoder["conv_out"] = Conv2d(width, out_ch, 3)
        self.decoder: Any = decoder
        self.post_quant_conv = Conv2d(embed_dim, z_channels, 1)

    def forward(self, z: Tensor) -> Tensor:
        """Decode.

        Args:
            z: latents as the diffusion network has them, [N, embed_dim, H, W].
        Returns:
            Images, about [-1, 1]: [N, out_ch, 2^l H, 2^l W], l the levels but one.
        """
        part = self.decoder
        x = part["conv_in"](self.post_quant_conv(z / self.scale_factor))
        for name in ("block_1", "attn_1", "block_2"):
            x = part["mid"][name](x)
        for level in reversed(part["up"]):
            for block in level["block"]:
                x = block(x)
            if "upsample" in level:
                x = level["upsample"]["conv"](F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return part["conv_out"](F.silu(part["norm_out"](x)))


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


def read_kl_decoder(path: Path, scale_factor: float = 0.18215) -> KLDecoder:
    """The decoder of a published autoencoder (autoencoder_kl_ema.pth), whose sizes follow from the shapes.

    Args:
        path: a torch.save archive of its state_dict; the encoder's tensors are left alone.
        scale_factor: see `KLDecoder`.
    Returns:
        The decoder, in eval mode and without gradients.
    Raises:
        ValueError: if the file is damaged, asks to execute something, or holds no such decoder.
    """
    tensors = {n: v for n, v in read_state_dict(path).items() if n.startswith(("decoder.", "post_quant_conv."))}
    try:
        levels = len({name.split(".")[2] for name in tensors if name.startswith("decoder.up.")})
        widths = [len(tensors[f"decoder.up.{level}.block.0.conv1.weight"]) for level in range(levels)]
        out_ch, ch = tensors["decoder.conv_out.weight"].shape[:2]
        z_channels, embed_dim = tensors["post_quant_conv.weight"].shape[:2]
        blocks = sum(name.startswith("decoder.up.0.block.") and name.endswith(".conv2.weight") for name in tensors)
        mults = [width // ch for width in widths]
        decoder = KLDecoder(ch, mults, blocks - 1, out_ch, z_channels, embed_dim, scale_factor)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise ValueError(f"the file is no state_dict of a KL autoencoder ({error!r})") from error
    check_names(decoder.state_dict(), tensors)
    decoder.load_state_dict(tensors, strict=True)
    return decoder.eval().requires_grad_(False)
