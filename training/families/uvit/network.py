"""U-ViT: a vision transformer with long skips.

Every block after the middle takes the tokens d of its mirror block: x <- skip_linear(cat([x, rho_i d_i])) (Skip-Tuning,
https://arxiv.org/abs/2402.15170). State-dict names are those of the published checkpoints.

Reference: Bao et al., 2023, "All are Worth Words: A ViT Backbone for Diffusion Models",
https://arxiv.org/abs/2209.12152
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.blocks.layers import Conv2d, Linear, PositionalEmbedding, embedding
from training.blocks.skip_block import SkipBlock
from training.blocks.transformer import Dense, LayerNorm, class_token
from training.blocks.unet_block import SkipTarget
from training.families.latent.discrete import DiscretePrecond, NoiseTable
from training.families.latent.precond import LatentPrecond
from training.kernels import onednn


class Attention(nn.Module):
    """Self-attention over tokens: softmax(q k^T / sqrt(d)) v in each head; the channels of qkv are (q|k|v, head, d)."""

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Dense(dim, 3 * dim, bias=qkv_bias)
        self.proj = Dense(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Mix tokens [N, T, D]."""
        N, T, D = x.shape
        q, k, v = self.qkv(x).view(N, T, 3, self.num_heads, D // self.num_heads).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(onednn.attention(q, k, v).transpose(1, 2).reshape(N, T, D))


class Mlp(nn.Module):
    """fc2(gelu(fc1(x)))."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Dense(dim, hidden)
        self.fc2 = Dense(hidden, dim)

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

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, qkv_bias: bool, skip: bool = False) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim)
        self.attn = Attention(dim, num_heads, qkv_bias)
        self.norm2 = LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.skip_linear = Dense(2 * dim, dim) if skip else None

    def forward(
        self, x: Tensor, dtype: torch.dtype, skip: Tensor | None = None, skip_scale: Tensor | None = None
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
            if skip_scale is not None:
                skip = skip * skip_scale.to(skip.dtype).reshape(-1, 1, 1)
            x = self.skip_linear(torch.cat([x, skip], dim=-1).to(dtype))
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
        return F.conv2d(x, self.proj.weight.to(x.dtype), bias, stride=self.proj.stride).flatten(2).mT


class UViT(nn.Module):
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
            raise ValueError(f"images of {img_size} pixels do not divide into patches of {patch_size}")
        if embed_dim % 2 or embed_dim % num_heads:
            raise ValueError(f"embed_dim {embed_dim} must be even and divisible by num_heads, {num_heads}")
        self.patch_size, self.in_chans = patch_size, in_chans
        self.extras, self.null_class = 1 + (num_classes > 0), null_class
        block = partial(Block, embed_dim, num_heads, mlp_ratio, qkv_bias)

        self.pos_embed = nn.Parameter(torch.randn(1, self.extras + (img_size // patch_size) ** 2, embed_dim).mul_(0.02))
        self.patch_embed = PatchEmbedding(patch_size, in_chans, embed_dim)
        self.embed_time = PositionalEmbedding(embed_dim)
        self.time_embed: nn.Sequential | None = None
        if mlp_time_embed:
            self.time_embed = nn.Sequential(
                Linear(embed_dim, 4 * embed_dim), nn.SiLU(), Linear(4 * embed_dim, embed_dim)
            )
        self.label_emb = embedding(num_classes, embed_dim) if num_classes > 0 else None
        self.in_blocks = nn.ModuleList(block() for _ in range(depth // 2))
        self.mid_block = block()
        self.out_blocks = nn.ModuleList(block(skip=True) for _ in range(depth // 2))
        self.norm = LayerNorm(embed_dim)
        self.decoder_pred = Linear(embed_dim, patch_size**2 * in_chans)
        self.final_layer = Conv2d(in_chans, in_chans, 3) if conv else None

    @property
    def num_skips(self) -> int:
        """k, the number of long skip connections."""
        return len(self.out_blocks)

    def forward(
        self,
        x: Tensor,
        noise_labels: Tensor,
        class_labels: Tensor | None,
        augment_labels: None = None,
        skip_scale: Tensor | None = None,
        skip_target: SkipTarget = "full",
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
        Returns:
            [N, C, H, W].
        Raises:
            ValueError: if skip_scale or skip_target do not fit.
        """
        N, dtype = x.shape[0], x.dtype
        self._check_skip_scale(skip_scale, N, skip_target)
        patches = self.patch_embed(x)
        tokens = [self._time_token(noise_labels).expand(N, 1, -1), patches]
        if self.label_emb is not None:
            tokens.insert(0, class_token(self.label_emb, class_labels, self.null_class).expand(N, 1, -1))
        h = torch.cat(tokens, dim=1) + self.pos_embed

        skips = []
        for block in self.in_blocks:
            h = block(h, dtype)
            skips.append(h)
        h = self.mid_block(h, dtype)
        for i, block in enumerate(self.out_blocks):
            h = block(h, dtype, skips.pop(), None if skip_scale is None else skip_scale[..., i])

        h = self.decoder_pred(self.norm(h)[:, self.extras :].to(dtype))  # (N, patches, p * p * C)
        p, side = self.patch_size, x.shape[-1] // self.patch_size
        image = h.reshape(N, side, side, p, p, self.in_chans).permute(0, 5, 1, 3, 2, 4).reshape(x.shape)
        return image if self.final_layer is None else self.final_layer(image)

    def _time_token(self, times: Tensor) -> Tensor:
        token = self.embed_time(times)
        return (token if self.time_embed is None else self.time_embed(token))[:, None]

    def check_skip_target(self, target: str) -> None:
        """Raise ValueError for a skip_target other than "full"."""
        if target != "full":
            raise ValueError(
                f"skip_target {target!r} is not possible: a U-ViT joins its skips by one linear map; use full"
            )

    def _check_skip_scale(self, scale: Tensor | None, batch: int, target: str) -> None:
        self.check_skip_target(target)
        if scale is not None and tuple(scale.shape) not in ((self.num_skips,), (batch, self.num_skips)):
            raise ValueError(
                f"skip_scale has shape {tuple(scale.shape)}; this network has {self.num_skips} long skips and takes "
                f"({self.num_skips},) or, one row an image, ({batch}, {self.num_skips})"
            )


class UViTPrecond(LatentPrecond):
    """A denoiser D(x; sigma) of latents from a U-ViT; the defaults are those of U-ViT-H for ImageNet's latents.

    Args:
        img_resolution, img_channels: of the latents x.
        label_dim: number of classes, "no class" not included; 0 if unconditional.
        use_fp16, prediction, first_stage: see `LatentPrecond`.
        beta_schedule, beta_start, beta_end, num_timesteps, first_timestep, rounding: see `NoiseTable`.
        model_kwargs: the other keywords of `UViT`.
    """

    parts = (NoiseTable, UViT)

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        prediction: Any = "eps",
        beta_schedule: str = "scaled_linear",
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        num_timesteps: int = 1000,
        first_timestep: int = 1,
        rounding: Any = "fractional",
        first_stage: dict[str, Any] | None = None,
        **model_kwargs: Any,
    ) -> None:
        num_classes = label_dim + 1 if label_dim else -1
        model = UViT(img_size=img_resolution, in_chans=img_channels, num_classes=num_classes, **model_kwargs)
        super().__init__(
            model, img_resolution, img_channels, label_dim, use_fp16, prediction, first_stage,
            beta_schedule=beta_schedule, beta_start=beta_start, beta_end=beta_end, num_timesteps=num_timesteps,
            first_timestep=first_timestep, rounding=rounding,
        )  # fmt: skip
        self.init_kwargs |= model_kwargs

    def set_dtype(self, dtype: torch.dtype) -> "UViTPrecond":
        """Compute the products of the blocks in `dtype` from now on; for inference: converts their weights in place.

        Embeddings stay float32, and so do the tokens until the first long skip, as under torch's autocast. The
        decoder's precision: see `LatentPrecond.set_dtype`.
        """
        super().set_dtype(dtype)
        _convert_blocks(self.model, dtype)
        return self


class UViTImagePrecond(DiscretePrecond):
    """A denoiser D(x; sigma) of images from a U-ViT; the defaults are those that it was published with for ImageNet-64.

    Args:
        img_resolution, img_channels: of the images x.
        label_dim: number of classes; 0 if unconditional.
        use_fp16, prediction: see `DiscretePrecond`.
        beta_schedule, beta_start, beta_end, num_timesteps: see `DiscretePrecond`.
        null_class: whether the network has a class for "no class", which label_dim does not count.
        model_kwargs: the other keywords of `UViT`.
    """

    parts = (NoiseTable, UViT)

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        prediction: Any = "eps",
        beta_schedule: str = "vp",
        beta_start: float = 0.1,
        beta_end: float = 20.0,
        num_timesteps: int = 1000,
        null_class: bool = False,
        **model_kwargs: Any,
    ) -> None:
        num_classes = label_dim + null_class if label_dim else -1
        model = UViT(
            img_size=img_resolution, in_chans=img_channels, num_classes=num_classes, null_class=null_class,
            **model_kwargs,
        )  # fmt: skip
        super().__init__(
            model, img_resolution, img_channels, label_dim, use_fp16, prediction, beta_schedule=beta_schedule,
            beta_start=beta_start, beta_end=beta_end, num_timesteps=num_timesteps,
        )  # fmt: skip
        self.init_kwargs |= {"null_class": null_class, **model_kwargs}
        self.has_no_class = null_class

    def set_dtype(self, dtype: torch.dtype) -> "UViTImagePrecond":
        """See `UViTPrecond.set_dtype`."""
        self.dtype = dtype
        _convert_blocks(self.model, dtype)
        return self


def _convert_blocks(model: Any, dtype: torch.dtype) -> None:
    for blocks in (model.in_blocks, model.mid_block, model.out_blocks):
        blocks.to(dtype)
