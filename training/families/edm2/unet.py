"""The magnitude-preserving U-Net of EDM2, with scalable long skips.

Every operation keeps the expected magnitude of its input: weights are normalised as they are used, sums and
concatenations are weighted by the balance t of their second part. There are no biases and no group norms.
Constructor keywords and state-dict names are those of the published checkpoints. What is new is `skip_scale`: every
decoder block that takes a long skip computes mp_cat(u, rho_i * d_i) (Skip-Tuning, https://arxiv.org/abs/2402.15170).

Reference: Karras et al., 2023, "Analyzing and Improving the Training Dynamics of Diffusion Models", configuration G,
https://arxiv.org/abs/2312.02696
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.blocks.resample import check_taps
from training.blocks.skip_block import SkipBlock, SkipJoin, scaled
from training.blocks.tower import Place, Tower, levels_of
from training.blocks.unet import UNet
from training.blocks.unet_block import SkipTarget
from training.families.edm2.layers import (
    MPConv,
    MPFourier,
    mp_cat,
    mp_silu,
    mp_sum,
    normalized,
    resampled,
)
from training.precond import EDMScaled


class EDM2Block(SkipBlock):
    r"""Residual block with optional 2x resampling, self-attention, and a long skip joined to its input.

    x <- mp_cat(x, rho * skip) where there is one;  encoder: x <- pixel_norm(conv_skip(resampled(x)))
    y = mp_sum(shortcut(x), conv_res1(mp_silu(conv_res0(mp_silu(x)) * (1 + gain * emb_linear(emb)))), res_balance)
    y <- mp_sum(y, attn_proj(attention(pixel-normed q, k, v)), attn_balance) where there are heads.

    The shortcut is conv_skip in the decoder (if the channel counts differ), x itself in the encoder.

    Args:
        in_channels: channels of the input, the long skip's included.
        out_channels: channels of the output.
        emb_channels: length of the conditioning vector.
        flavor: "enc" or "dec".
        resample_mode: "keep", "up" or "down".
        resample_filter: taps of the resampling filter.
        attention: whether to add self-attention, with channels_per_head channels a head; where there are fewer than
            that, there is none, as in the published code.
        dropout: probability, in training only.
        res_balance, attn_balance, concat_balance: the weight t of the residual branch, of attention, of the skip.
        clip_act: the output is clipped to [-clip_act, clip_act]; None leaves it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        emb_channels: int,
        flavor: str = "enc",
        resample_mode: str = "keep",
        resample_filter: Sequence[float] = (1, 1),
        attention: bool = False,
        channels_per_head: int = 64,
        dropout: float = 0.0,
        res_balance: float = 0.3,
        attn_balance: float = 0.3,
        clip_act: float | None = 256,
        concat_balance: float = 0.5,
    ) -> None:
        super().__init__()
        self.flavor = flavor
        self.resample_mode = resample_mode
        self.resample_filter = tuple(resample_filter)
        self.num_heads = out_channels // channels_per_head if attention else 0
        if self.num_heads and out_channels % self.num_heads:
            raise ValueError(
                f"attention over {out_channels} channels cannot have {self.num_heads} heads"
            )
        check_taps(self.resample_filter)
        self.dropout, self.clip_act = dropout, clip_act
        self.res_balance = res_balance
        self.attn_balance = attn_balance
        self.concat_balance = concat_balance

        self.emb_gain = nn.Parameter(torch.zeros([]))
        self.conv_res0 = MPConv(out_channels if flavor == "enc" else in_channels, out_channels, 3)
        self.emb_linear = MPConv(emb_channels, out_channels, 0)
        self.conv_res1 = MPConv(out_channels, out_channels, 3)
        self.conv_skip = (
            MPConv(in_channels, out_channels, 1) if in_channels != out_channels else None
        )
        self.attn_qkv = MPConv(out_channels, out_channels * 3, 1) if self.num_heads else None
        self.attn_proj = MPConv(out_channels, out_channels, 1) if self.num_heads else None

    def forward(
        self,
        x: Tensor,
        emb: Tensor,
        skip: Tensor | None = None,
        skip_scale: Tensor | None = None,
        skip_target: SkipTarget = "full",
    ) -> Tensor:
        """Transform features, after joining the long skip: x <- mp_cat(x, skip_scale * skip).

        Args:
            x: features u [N, C, H, W].
            emb: conditioning vectors [N, emb_channels] (or [1, emb_channels]).
            skip: encoder features d [N, C', H, W], or None for a block without a long skip; C + C' = in_channels.
            skip_scale: rho, a scalar tensor or one per image [N]; None joins the skip unscaled.
            skip_target: "full"; the block has no norm and no other path.
        Returns:
            [N, out_channels, H', W'].
        """
        if skip is not None:
            x = mp_cat(x, scaled(skip, skip_scale), self.concat_balance)

        x = resampled(x, self.resample_mode, self.resample_filter)
        if self.flavor == "enc":
            x = normalized(x if self.conv_skip is None else self.conv_skip(x), dim=1)

        gain = self.emb_linear(emb) * self.emb_gain + 1
        y = mp_silu(self.conv_res0(mp_silu(x)) * gain[:, :, None, None].to(x.dtype))
        y = self.conv_res1(F.dropout(y, p=self.dropout, training=self.training))

        if self.flavor == "dec" and self.conv_skip is not None:
            x = self.conv_skip(x)
        x = mp_sum(x, y, self.res_balance)
        if self.attn_qkv is not None and self.attn_proj is not None:
            x = mp_sum(x, self.attn_proj(self._mixed(self.attn_qkv(x))), self.attn_balance)
        return x if self.clip_act is None else x.clamp(-self.clip_act, self.clip_act)

    def joined_weight(self) -> Tensor:
        """Of conv_res0 as it is used, [out_channels, in_channels, 3, 3]; the weights of mp_cat are not in it."""
        return self.conv_res0.effective(torch.float32)

    def _mixed(self, qkv: Tensor) -> Tensor:
        """Cosine attention in each head; the channels of qkv are ordered (head, d, q|k|v)."""
        N, C, H, W = qkv.shape
        # (N, heads, d, 3, HW)
        parts = normalized(qkv.reshape(N, self.num_heads, -1, 3, H * W), dim=2)
        q, k, v = parts.permute(3, 0, 1, 4, 2).unbind(0)  # (N, heads, HW, d)
        y = F.scaled_dot_product_attention(q, k, v)
        return y.transpose(2, 3).reshape(N, C // 3, H, W)


class EDM2UNet(UNet):
    """The raw network of EDM2.

    Args:
        img_resolution: side of the image in pixels; divisible by 2 ** (levels - 1).
        img_channels: of the image; a channel of ones is added to them.
        label_dim: number of classes, 0 if unconditional.
        model_channels, channel_mult: channels of level l are model_channels * channel_mult[l].
        channel_mult_noise, channel_mult_emb: lengths of the noise embedding and of the conditioning vector, in
            model_channels; None means as the first level, and as the widest level.
        num_blocks: residual blocks a level (the decoder has one more).
        attn_resolutions: resolutions with self-attention.
        label_balance, concat_balance: the weight t of the class embedding, and of the long skips.
        block_kwargs: keywords of `EDM2Block`.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        model_channels: int = 192,
        channel_mult: Sequence[int] = (1, 2, 3, 4),
        channel_mult_noise: int | None = None,
        channel_mult_emb: int | None = None,
        num_blocks: int = 3,
        attn_resolutions: Sequence[int] = (16, 8),
        label_balance: float = 0.5,
        concat_balance: float = 0.5,
        **block_kwargs: Any,
    ) -> None:
        super().__init__()
        widths = [model_channels * mult for mult in channel_mult]
        noise_channels = model_channels * channel_mult_noise if channel_mult_noise else widths[0]
        emb_channels = model_channels * channel_mult_emb if channel_mult_emb else max(widths)
        attended = levels_of(attn_resolutions, img_resolution, len(widths))
        tower = Tower(img_channels + 1, widths[0], widths, num_blocks, attended)

        self.label_balance = label_balance
        self.out_gain = nn.Parameter(torch.zeros([]))
        self.emb_fourier = MPFourier(noise_channels)
        self.emb_noise = MPConv(noise_channels, emb_channels, 0)
        self.emb_label = MPConv(label_dim, emb_channels, 0) if label_dim else None
        block: Callable[..., EDM2Block] = partial(
            EDM2Block, emb_channels=emb_channels, **block_kwargs
        )
        down = partial(block, flavor="enc")
        up = partial(block, flavor="dec", concat_balance=concat_balance)

        def encoder(place: Place) -> tuple[Place, nn.Module]:
            if place.name == "conv":
                return place, MPConv(place.in_channels, place.out_channels, 3)
            mode = "down" if place.name == "down" else "keep"
            return place, down(
                place.in_channels, place.out_channels, resample_mode=mode, attention=place.attention
            )

        def decoder(place: Place) -> tuple[Place, nn.Module]:
            mode = "up" if place.name == "up" else "keep"
            return place, up(
                place.in_channels, place.out_channels, resample_mode=mode, attention=place.attention
            )

        self._build(img_resolution, map(encoder, tower.encoder()), map(decoder, tower.decoder()))
        self.out_conv = MPConv(widths[0], img_channels, 3)

    def forward(
        self,
        x: Tensor,
        noise_labels: Tensor,
        class_labels: Tensor | None,
        augment_labels: Tensor | None = None,
        skip_scale: Tensor | None = None,
        skip_target: SkipTarget = "full",
        skip_join: SkipJoin | None = None,
    ) -> Tensor:
        """Raw network output F [N, img_channels, H, W]; arguments as in `Precond.forward`, the noise as c_noise.

        Raises:
            ValueError: for a skip_target other than "full", augment_labels, or a skip_scale that does not fit.
        """
        self.check_skips(skip_scale, x.shape[0], skip_target)
        if augment_labels is not None:
            raise ValueError(
                "EDM2 networks are trained without augmentation and take no augment_labels"
            )
        emb = self.emb_noise(self.emb_fourier(noise_labels))
        if self.emb_label is not None and class_labels is not None:
            labels = self.emb_label(class_labels.to(emb.dtype) * math.sqrt(class_labels.shape[1]))
            emb = mp_sum(emb, labels, self.label_balance)
        emb = mp_silu(emb)

        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        skips = []
        for module in self.enc.values():
            x = module(x, emb) if isinstance(module, EDM2Block) else module(x)
            skips.append(x)
        for name in self.dec:
            x = self._decode(name, x, skips, emb, skip_scale, skip_target, skip_join)
        return self.out_conv(x) * self.out_gain.to(x.dtype)

    def check_skip_target(self, target: str) -> None:
        """See `RawNetwork.check_skip_target`; there is "full" alone."""
        super().check_skip_target(target)
        if target != "full":
            raise ValueError(
                f"skip_target {target!r} needs blocks with a norm, and EDM2's have none: use 'full'"
            )


class EDM2Precond(EDMScaled):
    """EDM's preconditioning around EDM2's network, and the network's estimate of its own loss.

    Published snapshots name this class "Precond"; they store float16 weights, of which ours are float32 copies. The
    published code divides the gains in float16: its output differs from ours by about 2e-4 of its largest value.

    Args:
        img_resolution, img_channels: of the images x.
        label_dim: number of classes, 0 if unconditional.
        use_fp16: run the raw network in float16 on CUDA devices.
        sigma_data: standard deviation of the data.
        logvar_channels: of the noise embedding that the loss estimate starts from.
        unet_kwargs: keywords of `EDM2UNet`.
    """

    parts = (EDM2UNet, EDM2Block)
    model_name = "unet"
    unet: EDM2UNet

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        sigma_data: float = 0.5,
        logvar_channels: int = 128,
        **unet_kwargs: Any,
    ) -> None:
        unet = EDM2UNet(img_resolution, img_channels, label_dim, **unet_kwargs)
        super().__init__(
            unet, img_resolution, img_channels, label_dim, use_fp16, sigma_data=sigma_data
        )
        self.logvar_fourier = MPFourier(logvar_channels)
        self.logvar_linear = MPConv(logvar_channels, 1, 0)

    @property
    def model(self) -> EDM2UNet:  # type: ignore[override]
        """The raw network; published under the name `unet`."""
        return self.unet

    def logvar(self, sigma: Tensor) -> Tensor:
        """Logarithm of the loss that the network expects at noise levels sigma, scalar or [N]: [N, 1, 1, 1]."""
        c_noise = self.scalings(sigma.to(torch.float32).reshape(-1)).c_noise
        return self.logvar_linear(self.logvar_fourier(c_noise)).reshape(-1, 1, 1, 1)
