"""LDM: latent diffusion's U-Net and its class embedding.

Classes enter by cross-attention on one token. Every output block takes a long skip d: cat([u, rho_i d_i])
(Skip-Tuning, https://arxiv.org/abs/2402.15170). State-dict names are those of the published checkpoints, but for the
class embedding's, which here begin with "model.", and the decoder's, see `training.families.latent.precond`.

Reference: Rombach et al., 2022, "High-Resolution Image Synthesis with Latent Diffusion Models",
https://arxiv.org/abs/2112.10752
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.blocks.layers import Conv2d, GroupNorm, Linear, PositionalEmbedding, embedding
from training.blocks.raw_network import RawNetwork
from training.blocks.skip_block import SkipJoin
from training.blocks.tower import Place, Tower
from training.blocks.transformer import Dense, LayerNorm, class_token
from training.blocks.unet_block import SkipTarget
from training.families.latent.discrete import NoiseTable
from training.families.latent.precond import DiscreteLatentPrecond
from training.families.ldm.blocks import (
    GROUPS,
    ZERO,
    AttentionBlock,
    Downsample,
    ResBlock,
    SpatialTransformer,
    Upsample,
)


def _attention(
    channels: int, heads: int, context_dim: int | None, depth: int, norm_groups: int | None
) -> nn.Module:
    """Plain attention or, where there is a context, a spatial transformer of that depth."""
    if heads < 1 or channels % heads:
        raise ValueError(f"{channels} channels do not divide into {heads} attention heads")
    if context_dim is None:
        return AttentionBlock(channels, heads, norm_groups)
    return SpatialTransformer(channels, context_dim, heads, depth, norm_groups)


def _block(
    place: Place,
    emb_channels: int,
    attention: Callable[[int], nn.Module],
    norm_groups: int | None,
) -> nn.ModuleList:
    """What stands at a place of the towers: a layer, and attention where it belongs."""
    layer: nn.Module
    if place.name == "conv":
        layer = Conv2d(place.in_channels, place.out_channels, 3)
    elif place.name == "down":
        layer = Downsample(place.out_channels)
    else:
        layer = ResBlock(place.in_channels, place.out_channels, emb_channels, norm_groups)

    layers = nn.ModuleList([layer])
    if place.attention:
        layers.append(attention(place.out_channels))
    return layers


class LDMUNet(RawNetwork):
    """The U-Net of LDM; constructor keywords as published.

    Args:
        in_channels, out_channels: of the latents in and of the prediction.
        model_channels, channel_mult: level l has model_channels * channel_mult[l] channels.
        num_res_blocks: residual blocks a level (the decoder has one more).
        attention_resolutions: by how much a level is smaller than the latents, for the levels with attention; the
            middle has it too.
        num_heads, num_head_channels: heads, or channels a head; give one of them.
        context_dim: length of a token of the context, which spatial transformers attend to; None: there is no context,
            and attention is plain.
        transformer_depth: transformer blocks in each spatial transformer.
        norm_groups: groups of the norms, which divide all channels; None: min(32, channels // 4), which differs below
            128 channels. There 32 groups are too many: with one channel a group the time would cancel.
    Raises:
        ValueError: if channels do not divide as said.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        model_channels: int = 192,
        channel_mult: Sequence[int] = (1, 2, 3, 5),
        num_res_blocks: int = 2,
        attention_resolutions: Sequence[int] = (8, 4, 2),
        num_heads: int | None = None,
        num_head_channels: int | None = None,
        context_dim: int | None = None,
        transformer_depth: int = 1,
        norm_groups: int | None = GROUPS,
    ) -> None:
        super().__init__()
        if (num_heads is None) == (num_head_channels is None):
            raise ValueError("give either num_heads or num_head_channels")
        emb_channels = 4 * model_channels
        widths = [model_channels * mult for mult in channel_mult]
        attended = [level for level in range(len(widths)) if 2**level in attention_resolutions]
        tower = Tower(in_channels, model_channels, widths, num_res_blocks, attended)

        def attention(channels: int) -> nn.Module:
            heads = num_heads or channels // (num_head_channels or channels)
            return _attention(channels, heads, context_dim, transformer_depth, norm_groups)

        self.embed_time = PositionalEmbedding(model_channels)
        self.time_embed = nn.Sequential(
            Linear(model_channels, emb_channels), nn.SiLU(), Linear(emb_channels, emb_channels)
        )
        self.input_blocks = nn.ModuleList()
        for place in tower.encoder():
            self.input_blocks.append(_block(place, emb_channels, attention, norm_groups))

        levels: list[int] = []
        self.middle_block, self.output_blocks = nn.ModuleList(), nn.ModuleList()
        for place in tower.decoder():
            if place.name == "up":  # in LDM the end of the block before it
                self.output_blocks[-1].append(Upsample(place.out_channels))  # type: ignore[operator]
            elif place.takes_skip:
                levels.append(len(widths) - 1 - place.level)
                self.output_blocks.append(_block(place, emb_channels, attention, norm_groups))
            else:
                self.middle_block.extend(_block(place, emb_channels, attention, norm_groups))

        self._skip_levels = tuple(levels)
        width = tower.widths[0]
        self.out = nn.Sequential(
            GroupNorm(width, groups=norm_groups),
            nn.SiLU(),
            Conv2d(width, out_channels, 3, init=ZERO),
        )

    @property
    def skip_levels(self) -> tuple[int, ...]:
        """See `RawNetwork.skip_levels`."""
        return self._skip_levels

    def forward(
        self,
        x: Tensor,
        noise_labels: Tensor,
        context: Tensor | None = None,
        skip_scale: Tensor | None = None,
        skip_target: SkipTarget = "full",
        skip_join: SkipJoin | None = None,
    ) -> Tensor:
        """Predicted noise.

        Args:
            x: noisy latents of about unit variance [N, C, H, W]; its dtype is what is computed in.
            noise_labels: times [N] or [1].
            context: tokens [N, S, context_dim] or [1, S, context_dim]; None for a network without.
            skip_scale, skip_target, skip_join: see `training.precond.Precond.forward`.
        Returns:
            [N, C, H, W].
        Raises:
            ValueError: if skip_scale or skip_target do not fit.
        """
        self.check_skips(skip_scale, x.shape[0], skip_target)
        emb = F.silu(self.time_embed(self.embed_time(noise_labels.to(torch.float32))))
        if context is not None:
            context = context.to(x.dtype).expand(x.shape[0], -1, -1)

        skips = []
        for block in self.input_blocks:
            x = _run(block, x, emb, context)
            skips.append(x)
        x = _run(self.middle_block, x, emb, context)
        for i, block in enumerate(self.output_blocks):
            skip = skips.pop()
            if skip_join is not None:
                x, skip = skip_join(i, x, skip)
            rho = None if skip_scale is None else skip_scale[..., i]
            x = _run(block, x, emb, context, skip, rho, skip_target)
        return self.out(x)


def _run(block: nn.Module, x: Tensor, emb: Tensor, context: Tensor | None, *join: Any) -> Tensor:
    """The layers of a block, one after the other; the first of them takes the long skip."""
    for layer in block.children():
        if isinstance(layer, ResBlock):
            x, join = layer(x, emb, *join), ()
        else:
            x = layer(x, context) if isinstance(layer, SpatialTransformer) else layer(x)
    return x


class ClassEmbedder(nn.Module):
    """A token for each class.

    Args:
        num_classes: the last of them, "no class", included.
        dim: length of a token.
    """

    def __init__(self, num_classes: int, dim: int) -> None:
        super().__init__()
        self.embedding = embedding(num_classes, dim)

    def forward(self, labels: Tensor | None) -> Tensor:
        """See `training.blocks.transformer.class_token`."""
        return class_token(self.embedding, labels)


class ConditionedUNet(RawNetwork):
    """The U-Net of LDM and, if it has classes, what makes its context of them."""

    def __init__(self, unet: LDMUNet, embedder: ClassEmbedder | None) -> None:
        super().__init__()
        self.diffusion_model, self.cond_stage_model = unet, embedder

    @property
    def skip_levels(self) -> tuple[int, ...]:
        """See `RawNetwork.skip_levels`."""
        return self.diffusion_model.skip_levels

    def check_skip_target(self, target: str) -> None:
        """See `RawNetwork.check_skip_target`."""
        self.diffusion_model.check_skip_target(target)

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
        """Predicted noise; see `LDMUNet.forward`, and `class_token` for the labels."""
        context = None if self.cond_stage_model is None else self.cond_stage_model(class_labels)
        return self.diffusion_model(x, noise_labels, context, skip_scale, skip_target, skip_join)


class LDMPrecond(DiscreteLatentPrecond):
    """A denoiser D(x; sigma) of latents from LDM's U-Net; the defaults are those of LDM-4 for ImageNet (cin256-v2).

    Args:
        img_resolution, img_channels: of the latents x.
        label_dim: number of classes, "no class" not included; 0 if unconditional.
        use_fp16, prediction, first_stage: see `DiscreteLatentPrecond`.
        beta_schedule, beta_start, beta_end, num_timesteps, first_timestep, rounding: see
            `training.families.latent.discrete.NoiseTable`.
        context_dim: length of a class's token; needed with classes, and only with them.
        model_kwargs: the other keywords of `LDMUNet`.
    Raises:
        ValueError: if a choice is unknown, or keywords do not fit each other.
    """

    parts = (NoiseTable, LDMUNet)

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        prediction: Any = "eps",
        beta_schedule: str = "scaled_linear",
        beta_start: float = 0.0015,
        beta_end: float = 0.0195,
        num_timesteps: int = 1000,
        first_timestep: int = 0,
        rounding: Any = "nearest",
        first_stage: dict[str, Any] | None = None,
        context_dim: int | None = None,
        **model_kwargs: Any,
    ) -> None:
        if (context_dim is None) != (label_dim == 0):
            raise ValueError(
                f"label_dim is {label_dim} and context_dim {context_dim}: the two need each other"
            )
        unet = LDMUNet(img_channels, img_channels, context_dim=context_dim, **model_kwargs)
        embedder = None if context_dim is None else ClassEmbedder(label_dim + 1, context_dim)
        super().__init__(
            ConditionedUNet(unet, embedder), img_resolution, img_channels, label_dim, use_fp16, prediction, first_stage,
            beta_schedule=beta_schedule, beta_start=beta_start, beta_end=beta_end, num_timesteps=num_timesteps,
            first_timestep=first_timestep, rounding=rounding,
        )  # fmt: skip

    def set_dtype(self, dtype: torch.dtype) -> "LDMPrecond":
        """Run the blocks of the U-Net in `dtype` from now on; for inference: converts their weights in place.

        Embeddings stay float32; the decoder's precision: see `LatentPrecond.set_dtype`.
        """
        super().set_dtype(dtype)
        for module in self.model.modules():
            if isinstance(
                module, Conv2d | nn.Conv2d | nn.Conv1d | nn.GroupNorm | LayerNorm | Dense
            ):
                module.to(dtype)
        return self
