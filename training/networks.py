"""The U-Nets of EDM: ADM (DhariwalUNet), DDPM++ and NCSN++ (SongUNet), with scalable long skips.

Constructor keywords and state-dict names are those of the published checkpoints. What is new is `skip_scale`: every
decoder block that takes a long skip computes cat([u, rho_i * d_i]) (Skip-Tuning, https://arxiv.org/abs/2402.15170).

Reference: Karras et al., 2022, https://arxiv.org/abs/2206.00364; Dhariwal & Nichol, 2021,
https://arxiv.org/abs/2105.05233; Song et al., 2021, https://arxiv.org/abs/2011.13456
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from training.blocks.layers import (
    Conv2d,
    FourierEmbedding,
    GroupNorm,
    Init,
    Linear,
    PositionalEmbedding,
)
from training.blocks.skip_block import SkipJoin
from training.blocks.tower import Place, Tower, levels_of
from training.blocks.unet import UNet
from training.blocks.unet_block import SKIP_TARGETS, SkipTarget, UNetBlock

__all__ = ["SKIP_TARGETS", "DhariwalUNet", "SkipTarget", "SongUNet", "UNetBlock"]


class DhariwalUNet(UNet):
    """ADM: the U-Net of Dhariwal and Nichol, as EDM trains it on ImageNet-64.

    Args:
        img_resolution: side of the image in pixels; divisible by 2 ** (levels - 1).
        in_channels, out_channels: image channels in and out.
        label_dim: number of classes, 0 if unconditional.
        augment_dim: number of augmentation labels, 0 if trained without.
        model_channels, channel_mult: channels of level l are model_channels * channel_mult[l].
        channel_mult_emb: length of the conditioning vector, in model_channels.
        num_blocks: residual blocks a level (the decoder has one more).
        attn_resolutions: resolutions with self-attention.
        dropout, label_dropout: probabilities, in training only.
        adaptive_scale: whether the conditioning vector scales and shifts, or (LSUN's consistency models) is added; see
            `UNetBlock`.
        channels_per_head: of the self-attention.
        norm_groups: groups of every norm; None: min(32, channels // 4).
    """

    def __init__(
        self,
        img_resolution: int,
        in_channels: int,
        out_channels: int,
        label_dim: int = 0,
        augment_dim: int = 0,
        model_channels: int = 192,
        channel_mult: Sequence[int] = (1, 2, 3, 4),
        channel_mult_emb: int = 4,
        num_blocks: int = 3,
        attn_resolutions: Sequence[int] = (32, 16, 8),
        dropout: float = 0.10,
        label_dropout: float = 0.0,
        adaptive_scale: bool = True,
        channels_per_head: int = 64,
        norm_groups: int | None = None,
    ) -> None:
        super().__init__()
        _check_levels(img_resolution, len(channel_mult))
        self.label_dropout = label_dropout
        emb_channels = model_channels * channel_mult_emb
        widths = [model_channels * mult for mult in channel_mult]
        attended = levels_of(attn_resolutions, img_resolution, len(widths))
        tower = Tower(in_channels, widths[0], widths, num_blocks, attended)

        init = Init("kaiming_uniform", weight=math.sqrt(1 / 3), bias=math.sqrt(1 / 3))
        zero = Init("kaiming_uniform", weight=0.0)
        label_init = Init("kaiming_normal", weight=math.sqrt(label_dim))
        block = partial(
            UNetBlock, emb_channels=emb_channels, channels_per_head=channels_per_head, dropout=dropout,
            adaptive_scale=adaptive_scale, norm_groups=norm_groups, init=init, init_zero=zero,
        )  # fmt: skip

        self.map_noise = PositionalEmbedding(model_channels)
        self.map_augment = (
            Linear(augment_dim, model_channels, bias=False, init=zero) if augment_dim else None
        )
        self.map_layer0 = Linear(model_channels, emb_channels, init=init)
        self.map_layer1 = Linear(emb_channels, emb_channels, init=init)
        self.map_label = (
            Linear(label_dim, emb_channels, bias=False, init=label_init) if label_dim else None
        )

        def layer(place: Place) -> tuple[Place, nn.Module]:
            if place.name == "conv":
                return place, Conv2d(place.in_channels, place.out_channels, 3, init=init)
            down, up = place.name == "down", place.name == "up"
            return place, block(
                place.in_channels, place.out_channels, down=down, up=up, attention=place.attention
            )

        self._build(img_resolution, map(layer, tower.encoder()), map(layer, tower.decoder()))
        channels = tower.widths[0]
        self.out_norm = GroupNorm(channels, groups=norm_groups)
        self.out_conv = Conv2d(channels, out_channels, 3, init=zero)

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
        """Raw network output F [N, out_channels, H, W]; arguments as in `Precond.forward`, the noise as c_noise."""
        self.check_skips(skip_scale, x.shape[0], skip_target)
        emb = self.map_noise(noise_labels)
        if self.map_augment is not None and augment_labels is not None:
            emb = emb + self.map_augment(augment_labels)
        emb = self.map_layer1(F.silu(self.map_layer0(emb)))
        if self.map_label is not None and class_labels is not None:
            emb = emb + self.map_label(self._drop_labels(class_labels))
        emb = F.silu(emb)

        skips = []
        for module in self.enc.values():
            x = module(x, emb) if isinstance(module, UNetBlock) else module(x)
            skips.append(x)
        for name in self.dec:
            x = self._decode(name, x, skips, emb, skip_scale, skip_target, skip_join)
        return self.out_conv(F.silu(self.out_norm(x)))


class SongUNet(UNet):
    """DDPM++ and NCSN++: the U-Nets of Song et al., as EDM trains them on CIFAR-10, FFHQ and AFHQv2.

    DDPM++ is the default; NCSN++ has embedding_type="fourier", encoder_type="residual", resample_filter=(1, 3, 3, 1)
    and channel_mult_noise=2. Only the last block of a decoder level has attention.

    Args:
        embedding_type: "positional" or "fourier" noise embedding.
        channel_mult_noise: length of the noise embedding, in model_channels.
        encoder_type: "standard"; "residual" or "skip": the image itself, resampled, also enters every level.
        decoder_type: "standard"; "skip": every level adds its own image to the output.
        resample_filter: taps of the resampling filter.
        The other arguments are as in `DhariwalUNet`; attention has one head.
    """

    def __init__(
        self,
        img_resolution: int,
        in_channels: int,
        out_channels: int,
        label_dim: int = 0,
        augment_dim: int = 0,
        model_channels: int = 128,
        channel_mult: Sequence[int] = (1, 2, 2, 2),
        channel_mult_emb: int = 4,
        num_blocks: int = 4,
        attn_resolutions: Sequence[int] = (16,),
        dropout: float = 0.10,
        label_dropout: float = 0.0,
        embedding_type: str = "positional",
        channel_mult_noise: int = 1,
        encoder_type: str = "standard",
        decoder_type: str = "standard",
        resample_filter: Sequence[int] = (1, 1),
    ) -> None:
        super().__init__()
        _check_levels(img_resolution, len(channel_mult))
        _one_of("embedding_type", embedding_type, "positional", "fourier")
        _one_of("encoder_type", encoder_type, "standard", "skip", "residual")
        _one_of("decoder_type", decoder_type, "standard", "skip")
        self.label_dropout = label_dropout
        emb_channels = model_channels * channel_mult_emb
        noise_channels = model_channels * channel_mult_noise
        widths = [model_channels * mult for mult in channel_mult]
        attended = levels_of(attn_resolutions, img_resolution, len(widths))
        tower = Tower(in_channels, model_channels, widths, num_blocks, attended)

        init, zero = Init("xavier_uniform"), Init("xavier_uniform", weight=1e-5)
        block = partial(
            UNetBlock, emb_channels=emb_channels, num_heads=1, dropout=dropout, skip_scale=math.sqrt(0.5), eps=1e-6,
            resample_filter=resample_filter, resample_proj=True, adaptive_scale=False,
            init=init, init_zero=zero, init_attn=Init("xavier_uniform", weight=math.sqrt(0.2)),
        )  # fmt: skip
        conv = partial(Conv2d, resample_filter=resample_filter, init=init)

        self.map_noise: PositionalEmbedding | FourierEmbedding
        if embedding_type == "positional":
            self.map_noise = PositionalEmbedding(noise_channels, endpoint=True)
        else:
            self.map_noise = FourierEmbedding(noise_channels)
        self.map_label = Linear(label_dim, noise_channels, init=init) if label_dim else None
        self.map_augment = (
            Linear(augment_dim, noise_channels, bias=False, init=init) if augment_dim else None
        )
        self.map_layer0 = Linear(noise_channels, emb_channels, init=init)
        self.map_layer1 = Linear(emb_channels, emb_channels, init=init)

        encoder = _song_encoder(tower, encoder_type, block, conv)
        decoder = _song_decoder(
            tower, decoder_type, block, conv, partial(Conv2d, init=zero), out_channels
        )
        self._build(img_resolution, encoder, decoder)

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
        """Raw network output F [N, out_channels, H, W]; arguments as in `Precond.forward`, the noise as c_noise."""
        self.check_skips(skip_scale, x.shape[0], skip_target)
        emb = self._embed(noise_labels, class_labels, augment_labels)

        skips: list[Tensor] = []
        image = x
        for name, module in self.enc.items():
            if "aux_down" in name:
                image = module(image)
            elif "aux_skip" in name:
                x = skips[-1] = x + module(image)
            elif "aux_residual" in name:
                x = skips[-1] = image = (x + module(image)) / math.sqrt(2)
            else:
                x = module(x, emb) if isinstance(module, UNetBlock) else module(x)
                skips.append(x)

        output: Tensor | None = None
        normed = x
        for name, module in self.dec.items():
            if "aux_up" in name:
                output = module(output)
            elif "aux_norm" in name:
                normed = module(x)
            elif "aux_conv" in name:
                level_image = module(F.silu(normed))
                output = level_image if output is None else output + level_image
            else:
                x = self._decode(name, x, skips, emb, skip_scale, skip_target, skip_join)
        assert output is not None  # level 0 always has an aux_conv
        return output

    def _embed(
        self, noise_labels: Tensor, class_labels: Tensor | None, augment_labels: Tensor | None
    ) -> Tensor:
        emb = self.map_noise(noise_labels)
        # Published order: sines, then cosines.
        emb = emb.reshape(emb.shape[0], 2, -1).flip(1).reshape(emb.shape)
        if self.map_label is not None and class_labels is not None:
            labels = self._drop_labels(class_labels) * math.sqrt(self.map_label.in_features)
            emb = emb + self.map_label(labels)
        if self.map_augment is not None and augment_labels is not None:
            emb = emb + self.map_augment(augment_labels)
        return F.silu(self.map_layer1(F.silu(self.map_layer0(emb))))


Make = Callable[..., nn.Module]


def _song_encoder(
    tower: Tower, encoder_type: str, block: Make, conv: Make
) -> Iterator[tuple[Place, nn.Module]]:
    """The layers of the way down; where the image comes along, also those that resample it and mix it in."""
    image_channels = tower.in_channels
    for place in tower.encoder():
        channels = place.out_channels
        if place.name == "conv":
            yield place, conv(place.in_channels, channels, 3)
            continue
        yield (
            place,
            block(
                place.in_channels, channels, down=place.name == "down", attention=place.attention
            ),
        )

        if place.name == "down" and encoder_type == "skip":
            yield place.beside("down"), conv(image_channels, image_channels, 0, down=True)
            yield place.beside("skip"), conv(image_channels, channels, 1)
        if place.name == "down" and encoder_type == "residual":
            yield (
                place.beside("residual"),
                conv(image_channels, channels, 3, down=True, convolve_first=True),
            )
            image_channels = channels


def _song_decoder(
    tower: Tower, decoder_type: str, block: Make, conv: Make, last_conv: Make, out_channels: int
) -> Iterator[tuple[Place, nn.Module]]:
    """The layers of the way up, and those that make an image: at the end, or ("skip") of every level."""
    for place in tower.decoder():
        attention = place.attention and (place.last or not place.takes_skip)
        yield (
            place,
            block(
                place.in_channels, place.out_channels, up=place.name == "up", attention=attention
            ),
        )

        if place.last and (decoder_type == "skip" or place.level == 0):
            if decoder_type == "skip" and place.level < len(tower.widths) - 1:
                yield place.beside("up"), conv(out_channels, out_channels, 0, up=True)
            yield place.beside("norm"), GroupNorm(place.out_channels, eps=1e-6)
            yield place.beside("conv"), last_conv(place.out_channels, out_channels, 3)


def _check_levels(img_resolution: int, levels: int) -> None:
    if levels < 1 or img_resolution % 2 ** (levels - 1):
        raise ValueError(
            f"channel_mult has {levels} levels, but images of side {img_resolution} cannot be halved {levels - 1} times"
        )


def _one_of(name: str, value: str, *choices: str) -> None:
    if value not in choices:
        raise ValueError(f"unknown {name} {value!r}; choose from {', '.join(choices)}")
