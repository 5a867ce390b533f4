"""U-ViT: a vision transformer with long skips.

Every block after the middle takes the tokens d of its mirror block: x <- skip_linear(cat([x, rho_i d_i])) (Skip-Tuning,
https://arxiv.org/abs/2402.15170). State-dict names are those of the published checkpoints.

Reference: Bao et al., 2023, "All are Worth Words: A ViT Backbone for Diffusion Models",
https://arxiv.org/abs/2209.12152
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.blocks.layers import Conv2d, Init, Linear, PositionalEmbedding, drawn, embedding
from training.blocks.raw_network import RawNetwork
from training.blocks.skip_block import SkipBlock, SkipJoin, scaled
from training.blocks.transformer import Dense, LayerNorm, class_token
from training.blocks.unet_block import SkipTarget
from training.kernels import compute

SMALL = Init("normal", weight=0.02)  # of the published network's linear maps


class Attention(nn.Module):
    """Self-attention over tokens: softmax(q k^T / sqrt(d)) v in each head; the channels of qkv are (q|k|v, head, d)."""

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Dense(dim, 3 * dim, qkv_bias, SMALL)
        self.proj = Dense(dim, dim, init=SMALL)

    def forward(self, x: Tensor) -> Tensor:
        """Mix tokens [N, T, D]."""
        N, T, D = x.shape
        q, k, v = (
            self.qkv(x)
            .view(N, T, 3, self.num_heads, D // self.num_heads)
            .permute(2, 0, 3, 1, 4)
            .unbind(0)
        )
        return self.proj(compute.attention(q, k, v).transpose(1, 2).reshape(N, T, D))


class Mlp(nn.Module):
    """fc2(gelu(fc1(x)))."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Dense(dim, hidden, init=SMALL)
        self.fc2 = Dense(hidden, dim, init=SMALL)

    def forward(self, x: Tensor) -> Tensor:
        """Transform tokens [N, T, D]."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(SkipBlock):
    """Transformer block, after the join with a long skip if it takes one.

    x <- skip_linear(cat([x, rho d]));  x <- x + attn(norm1(x));  x <- x + mlp(norm2(x))

    Args:
        dim: D, length of a token; num_heads divides it.
        num_heads, mlp_ratio, qkv_bias: heads, hidden units in D, whether qkv has a bias.
        skip: whether the block takes a long skip.
    """

    channel_axis = -1

    def __init__(
        self, dim: int, num_heads: int, mlp_ratio: float, qkv_bias: bool, skip: bool = False
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim)
        self.attn = Attention(dim, num_heads, qkv_bias)
        self.norm2 = LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.skip_linear = Dense(2 * dim, dim, init=SMALL) if skip else None

    def forward(
        self,
        x: Tensor,
        dtype: torch.dtype,
        skip: Tensor | None = None,
        skip_scale: Tensor | None = None,
    ) -> Tensor:
        """Transform tokens.

        Args:
            x: tokens [N, T, D]; sums with them keep the wider of their dtype and `dtype`.
            dtype: what products are computed in.
            skip: tokens d [N, T, D] of the mirror block, for a block that takes them.
            skip_scale: rho, a scalar tensor or one per image [N]; None joins the skip unscaled.
        Returns:
            [N, T, D].
        """
        if self.skip_linear is not None and skip is not None:
            x = self.skip_linear(torch.cat([x, scaled(skip, skip_scale)], dim=-1).to(dtype))
        x = x + self.attn(self.norm1(x).to(dtype))
        return x + self.mlp(self.norm2(x).to(dtype))

    def joined_weight(self) -> Tensor:
        """Of skip_linear, [D, 2 D]."""
        assert self.skip_linear is not None
        return self.skip_linear.weight


class PatchEmbedding(nn.Module):
    """One token for each patch: a convolution whose stride is its kernel."""

    def __init__(self, patch_size: int, in_chans: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to tokens [N, (H / p) (W / p), D], row by row."""
        bias = None if self.proj.bias is None else self.proj.bias.to(x.dtype)
        return (
            F.conv2d(x, self.proj.weight.to(x.dtype), bias, stride=self.proj.stride).flatten(2).mT
        )


class UViT(RawNetwork):
    """The raw network of U-ViT; constructor keywords as published.

    Tokens: label (if conditional), time, patches.

    Args:
        img_size: side of the image or latent, divisible by patch_size.
        patch_size, in_chans: side of a patch, image channels in and out.
        embed_dim: D, even, divisible by num_heads.
        depth: blocks but the middle one, which an odd depth counts; depth // 2 of them take long skips.
        num_heads, mlp_ratio, qkv_bias: see `Block`.
        mlp_time_embed: whether the time embedding passes two more layers.
        num_classes: the class "no class" included; -1 if unconditional.
        conv: whether a 3x3 convolution ends the network.
        null_class: whether the last class stands for "no class".
    Raises:
        ValueError: if sizes do not divide as said.
    """

    def __init__(
        self,
        img_size: int = 32,
        patch_size: int = 2,
        in_chans: int = 4,
        embed_dim: int = 1152,
        depth: int = 28,
        num_heads: int = 16,
        mlp_ratio: float = 4,
        qkv_bias: bool = False,
        mlp_time_embed: bool = False,
        num_classes: int = -1,
        conv: bool = True,
        null_class: bool = True,
    ) -> None:
        super().__init__()
        if img_size % patch_size:
            raise ValueError(
                f"images of {img_size} pixels do not divide into patches of {patch_size}"
            )
        if embed_dim % 2 or embed_dim % num_heads:
            raise ValueError(
                f"embed_dim {embed_dim} must be even and divisible by num_heads, {num_heads}"
            )
        self.patch_size, self.in_chans = patch_size, in_chans
        self.extras, self.null_class = 1 + (num_classes > 0), null_class
        block = partial(Block, embed_dim, num_heads, mlp_ratio, qkv_bias)

        tokens = self.extras + (img_size // patch_size) ** 2
        self.pos_embed = nn.Parameter(drawn(torch.randn, 1, tokens, embed_dim).mul_(0.02))
        self.patch_embed = PatchEmbedding(patch_size, in_chans, embed_dim)
        self.embed_time = PositionalEmbedding(embed_dim)
        self.time_embed: nn.Sequential | None = None
        if mlp_time_embed:
            self.time_embed = nn.Sequential(
                Linear(embed_dim, 4 * embed_dim, init=SMALL),
                nn.SiLU(),
                Linear(4 * embed_dim, embed_dim, init=SMALL),
            )
        self.label_emb = embedding(num_classes, embed_dim) if num_classes > 0 else None
        self.in_blocks = nn.ModuleList(block() for _ in range(depth // 2))
        self.mid_block = block()
        self.out_blocks = nn.ModuleList(block(skip=True) for _ in range(depth // 2))
        self.norm = LayerNorm(embed_dim)
        self.decoder_pred = Linear(embed_dim, patch_size**2 * in_chans, init=SMALL)
        self.final_layer = Conv2d(in_chans, in_chans, 3) if conv else None

    @property
    def skip_levels(self) -> tuple[int, ...]:
        """See `RawNetwork.skip_levels`: there is one resolution."""
        return (0,) * len(self.out_blocks)

    def forward(
        self,
        x: Tensor,
        noise_labels: Tensor,
        class_labels: Tensor | None,
        augment_labels: None = None,
        skip_scale: Tensor | None = None,
        skip_target: SkipTarget = "full",
        skip_join: SkipJoin | None = None,
    ) -> Tensor:
        """Predicted noise.

        Args:
            x: noisy image of about unit variance [N, C, H, W]; its dtype is what products are computed in.
            noise_labels: times [N] or [1], any number.
            class_labels: one-hot [N, num_classes - 1] or [1, ..]; a row of zeros is "no class". Without "no class",
                [N, num_classes].
            augment_labels: None; the argument stands where EDM's networks have it.
            skip_scale: rho of each long skip, deepest first, [k] or per image [N, k]; None joins them unscaled.
            skip_target: "full": a skip meets a single linear map, so nothing else can be scaled.
            skip_join: see `training.precond.Precond.forward`; it is given the patches' tokens, as maps [N, D, h, w].
        Returns:
            [N, C, H, W].
        Raises:
            ValueError: if skip_scale or skip_target do not fit.
        """
        N, dtype = x.shape[0], x.dtype
        self.check_skips(skip_scale, N, skip_target)
        patches = self.patch_embed(x)
        tokens = [self._time_token(noise_labels).expand(N, 1, -1), patches]
        if self.label_emb is not None:
            tokens.insert(
                0, class_token(self.label_emb, class_labels, self.null_class).expand(N, 1, -1)
            )
        h = torch.cat(tokens, dim=1) + self.pos_embed

        skips = []
        for block in self.in_blocks:
            h = block(h, dtype)
            skips.append(h)
        h = self.mid_block(h, dtype)
        for i, block in enumerate(self.out_blocks):
            skip = skips.pop()
            if skip_join is not None:
                h, skip = self._joined(skip_join, i, h, skip)
            h = block(h, dtype, skip, None if skip_scale is None else skip_scale[..., i])

        h = self.decoder_pred(self.norm(h)[:, self.extras :].to(dtype))  # (N, patches, p * p * C)
        p, side = self.patch_size, x.shape[-1] // self.patch_size
        image = (
            h.reshape(N, side, side, p, p, self.in_chans).permute(0, 5, 1, 3, 2, 4).reshape(x.shape)
        )
        return image if self.final_layer is None else self.final_layer(image)

    def _joined(self, join: SkipJoin, layer: int, h: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
        """What `join` makes of the tokens of patches; those of time and class stay."""
        (before, u), (skip_before, d) = (
            (tokens[:, : self.extras], tokens[:, self.extras :]) for tokens in (h, skip)
        )
        side = math.isqrt(u.shape[1])
        u, d = join(layer, *(t.unflatten(1, (side, side)).permute(0, 3, 1, 2) for t in (u, d)))
        return (
            torch.cat([before, u.flatten(2).mT], dim=1),
            torch.cat([skip_before, d.flatten(2).mT], dim=1),
        )

    def _time_token(self, times: Tensor) -> Tensor:
        token = self.embed_time(times)
        return (token if self.time_embed is None else self.time_embed(token))[:, None]

    def check_skip_target(self, target: str) -> None:
        """Raise ValueError for a skip_target other than "full"."""
        if target != "full":
            raise ValueError(
                f"skip_target {target!r} is not possible: a U-ViT joins its skips by one linear map; use full"
            )
