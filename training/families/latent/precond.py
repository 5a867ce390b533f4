"""Denoisers of latents, and the decoder that turns their latents into images."""

from typing import Any

import torch
from torch import Tensor, nn

from dnnlib.keywords import check_keywords, shown
from training.families.latent.autoencoder import DECODERS, LatentDecoder
from training.families.latent.discrete import DiscretePrecond, Prediction
from training.precond_base import Precond

AT_ONCE = 16  # images decoded together on a GPU, where their activations take no more than
# Bytes, about; fixed, so that the last digits do not depend on what else is on the card.
MEMORY = 4 * 2**30


class LatentPrecond(Precond):
    """A denoiser D(x; sigma) of latents x, with or without a decoder: images = first_stage_model(x).

    The decoder is a part of the network: a file that `save_network` writes holds it. A subclass has a second base,
    which knows the noise levels, and calls `take_decoder` once that is built.

    Attributes:
        first_stage_model: the decoder, or None.
    """

    first_stage_model: LatentDecoder | None

    def take_decoder(self, first_stage: dict[str, Any] | None) -> None:
        """Build the decoder of a file.

        Args:
            first_stage: "class", a name in DECODERS, and its keywords; None: there is none yet.
        Raises:
            ValueError: if a choice is unknown, or the decoder does not fit the latents.
        """
        self.first_stage_model = None
        if first_stage is None:
            return
        kwargs = dict(first_stage)
        name = kwargs.pop("class", None)
        if name not in list(DECODERS):  # a list or table from a file is no key
            raise ValueError(f"unknown decoder {shown(name)}; choose from {', '.join(DECODERS)}")
        check_keywords(kwargs, [DECODERS[name]])
        self.attach(DECODERS[name](**kwargs))

    def attach(self, decoder: LatentDecoder) -> None:
        """Take `decoder` for the latents, instead of one that was there.

        Raises:
            ValueError: if its latents have another number of channels.
        """
        if decoder.embed_dim != self.img_channels:
            raise ValueError(
                f"the autoencoder has latents of {decoder.embed_dim} channels, the network of {self.img_channels}"
            )
        self.first_stage_model = decoder
        self.init_kwargs["first_stage"] = {"class": type(decoder).__name__, **decoder.init_kwargs}

    @property
    def image_channels(self) -> int:
        """Of the images that `decode` gives; ValueError if there is no decoder."""
        return self._decoder().out_ch

    @property
    def image_resolution(self) -> int:
        """Side of the images that `decode` gives, in pixels; ValueError if there is no decoder."""
        return self._decoder().factor * self.img_resolution

    def decode(self, x: Tensor) -> Tensor:
        """Images of latents, few at a time: the memory does not depend on the size of the batch.

        On a CPU one at a time and in float32, so that no image depends on its batch. On a GPU up to AT_ONCE, as many as
        about MEMORY holds, and in what `set_dtype` said.

        Args:
            x: latents [N, img_channels, H, W].
        Returns:
            Images, about [-1, 1]: [N, image_channels, f H, f W].
        Raises:
            ValueError: if there is no decoder.
            RuntimeError: if half precision was too narrow for an image.
        """
        decoder = self._decoder()
        at_once = 1
        if x.device.type == "cuda":
            at_once = min(max(MEMORY // decoder.image_bytes(x.shape[-1]), 1), AT_ONCE)
        images = torch.cat([decoder(latents) for latents in x.to(torch.float32).split(at_once)])
        if decoder.dtype != torch.float32 and not images.isfinite().all():
            raise RuntimeError(
                f"the decoder returned NaN or infinity in {str(decoder.dtype).removeprefix('torch.')}: choose another "
                "precision, as --dtype float32"
            )
        return images

    def set_dtype(self, dtype: torch.dtype) -> "LatentPrecond":
        """Compute in `dtype` from now on, see `training.precond.Precond.set_dtype`; on CUDA so does the decoder."""
        self.dtype = dtype
        if self.first_stage_model is not None and next(self.parameters()).device.type == "cuda":
            self.first_stage_model.set_dtype(dtype)
        return self

    def channels_last(self) -> "LatentPrecond":
        """See `training.precond.Precond.channels_last`; the decoder's weights too."""
        super().channels_last()
        if self.first_stage_model is not None:
            self.first_stage_model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self

    def _decoder(self) -> LatentDecoder:
        if self.first_stage_model is None:
            raise ValueError(
                "this network makes latents, and its file holds no decoder: give that of its autoencoder, "
                "as --autoencoder=PATH|URL"
            )
        return self.first_stage_model


class DiscreteLatentPrecond(LatentPrecond, DiscretePrecond):
    """The same with discrete times, or with those of the VP process: LDM's and U-ViT's networks.

    Args:
        model, img_resolution, img_channels, label_dim, use_fp16, prediction, table: see `DiscretePrecond`.
        first_stage: see `LatentPrecond.take_decoder`.
    Raises:
        ValueError: if a choice is unknown, or the decoder does not fit the latents.
    """

    def __init__(
        self,
        model: nn.Module,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        prediction: Prediction = "eps",
        first_stage: dict[str, Any] | None = None,
        **table: Any,
    ) -> None:
        super().__init__(
            model, img_resolution, img_channels, label_dim, use_fp16, prediction, **table
        )
        self.take_decoder(first_stage)
