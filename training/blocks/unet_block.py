"""The residual block that both U-Nets are built of, and where a long skip enters it.

Reference: Karras et al., 2022, Appendix F, https://arxiv.org/abs/2206.00364; the skip coefficient: Skip-Tuning,
https://arxiv.org/abs/2402.15170
"""

from collections.abc import Sequence
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from training.blocks.layers import Conv2d, GroupNorm, Init, Linear, attention
from training.blocks.skip_block import SkipBlock, scaled
from training.names import SkipTarget

SKIP_TARGETS: tuple[SkipTarget, ...] = get_args(SkipTarget)


class UNetBlock(SkipBlock):
    r"""Residual block with optional 2x resampling, self-attention, and a long skip joined to its input.

    h = conv1(dropout(silu(modulate(norm1(conv0(silu(norm0(x)))), affine(emb)))));  y = (h + shortcut(x)) * s
    y = (y + proj(attention(norm2(y)))) * s  where there are heads; s is the residual scale.

    Args:
        in_channels: channels of the input, the long skip's included.
        out_channels: channels of the output.
        emb_channels: length of the conditioning vector.
        up, down: resample by 2 inside the block.
        attention: whether to add self-attention.
        num_heads: number of heads; None means out_channels // channels_per_head. Where that is 0, there is no
            attention, as in EDM.
        dropout: probability, in training only.
        skip_scale: s, the published keyword for the factor on residual sums (not Skip-Tuning's rho).
        eps: of the group norms.
        resample_filter: taps of the resampling filter.
        resample_proj: whether a resampling shortcut has a 1x1 convolution even at equal channels.
        adaptive_scale: modulate norm1 by scale and shift (ADM) or by shift before it (DDPM++, NCSN++).
        norm_groups: groups of the norms; None: min(32, channels // 4).
        init, init_zero, init_attn: initial values of the convolutions, of the last ones, of the qkv convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        emb_channels: int,
        up: bool = False,
        down: bool = False,
        attention: bool = False,
        num_heads: int | None = None,
        channels_per_head: int = 64,
        dropout: float = 0.0,
        skip_scale: float = 1.0,
        eps: float = 1e-5,
        resample_filter: Sequence[int] = (1, 1),
        resample_proj: bool = False,
        adaptive_scale: bool = True,
        norm_groups: int | None = None,
        init: Init | None = None,
        init_zero: Init | None = None,
        init_attn: Init | None = None,
    ) -> None:
        super().__init__()
        init, init_zero = init or Init(), init_zero or Init(weight=0.0)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.num_heads = (num_heads or out_channels // channels_per_head) if attention else 0
        if self.num_heads and out_channels % self.num_heads:
            raise ValueError(
                f"attention over {out_channels} channels cannot have {self.num_heads} heads"
            )
        self.dropout = dropout
        self.residual_scale = float(skip_scale)
        self.adaptive_scale = adaptive_scale

        resample: dict[str, Any] = {"up": up, "down": down, "resample_filter": resample_filter}
        self.norm0 = GroupNorm(in_channels, eps, norm_groups)
        self.conv0 = Conv2d(in_channels, out_channels, 3, **resample, init=init)
        self.affine = Linear(emb_channels, out_channels * (2 if adaptive_scale else 1), init=init)
        self.norm1 = GroupNorm(out_channels, eps, norm_groups)
        self.conv1 = Conv2d(out_channels, out_channels, 3, init=init_zero)
        self.skip: Conv2d | None = None  # the shortcut, under its published name
        if out_channels != in_channels or up or down:
            kernel = 1 if resample_proj or out_channels != in_channels else 0
            self.skip = Conv2d(in_channels, out_channels, kernel, **resample, init=init)
        if self.num_heads:
            self.norm2 = GroupNorm(out_channels, eps, norm_groups)
            self.qkv = Conv2d(out_channels, out_channels * 3, 1, init=init_attn or init)
            self.proj = Conv2d(out_channels, out_channels, 1, init=init_zero)

    def forward(
        self,
        x: Tensor,
        emb: Tensor,
        skip: Tensor | None = None,
        skip_scale: Tensor | float | None = None,
        skip_target: SkipTarget = "full",
    ) -> Tensor:
        """Transform features, after joining the long skip: x <- cat([x, skip_scale * skip]).

        Args:
            x: features u [N, C, H, W].
            emb: conditioning vectors [N, emb_channels] (or [1, emb_channels]).
            skip: encoder features d [N, C', H, W], or None for a block without a long skip; C + C' = in_channels.
            skip_scale: rho, a scalar or one per image [N]; None joins the skip unscaled.
            skip_target: who sees the scaled skip: "full" both paths; "shortcut" only the residual shortcut;
                "norm_input" only norm0; "norm_output" scales norm0's output on the skip's channels instead.
        Returns:
            [N, out_channels, H', W'].
        Raises:
            ValueError: if skip_target is unknown.
        """
        main, shortcut = self._join(x, skip, skip_scale, skip_target)
        inplace = not torch.is_grad_enabled()
        h = self.norm0(main)
        if skip is not None and skip_scale is not None and skip_target == "norm_output":
            h = torch.cat([h[:, : x.shape[1]], scaled(h[:, x.shape[1] :], skip_scale)], dim=1)
        h = self.conv0(F.silu(h, inplace=inplace))

        params = self.affine(emb)[:, :, None, None].to(h.dtype)
        if self.adaptive_scale:
            scale, shift = params.chunk(2, dim=1)
            h = self.norm1(h, scale + 1, shift)
        else:
            h = self.norm1(h + params)
        h = self.conv1(
            F.dropout(F.silu(h, inplace=inplace), p=self.dropout, training=self.training)
        )

        h = self._summed(h, shortcut if self.skip is None else self.skip(shortcut))
        if self.num_heads:
            h = self._summed(self.proj(attention(self.qkv, self.norm2(h), self.num_heads)), h)
        return h

    def _summed(self, fresh: Tensor, other: Tensor) -> Tensor:
        """(fresh + other) * s; in inference the sum needs no new tensor."""
        total = fresh + other if torch.is_grad_enabled() else fresh.add_(other)
        return total if self.residual_scale == 1 else total * self.residual_scale

    def joined_weight(self) -> Tensor:
        """Of conv0, [out_channels, in_channels, 3, 3]."""
        assert self.conv0.weight is not None  # its kernel is 3x3
        return self.conv0.weight

    def _join(
        self, x: Tensor, skip: Tensor | None, scale: Tensor | float | None, target: SkipTarget
    ) -> tuple[Tensor, Tensor]:
        """The inputs of the main path and of the shortcut."""
        if target not in SKIP_TARGETS:
            raise ValueError(
                f"unknown skip_target {target!r}; choose from {', '.join(SKIP_TARGETS)}"
            )
        if skip is None:
            return x, x

        if scale is None or target == "norm_output":
            plain = torch.cat([x, skip], dim=1)
            return plain, plain

        tuned = torch.cat([x, scaled(skip, scale)], dim=1)
        if target == "full":
            return tuned, tuned

        plain = torch.cat([x, skip], dim=1)
        if target == "shortcut":
            return plain, tuned
        return tuned, plain  # norm_input
