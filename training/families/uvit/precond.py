"""U-ViT's networks as denoisers: of latents at discrete or continuous times, and of images at continuous ones."""

from typing import Any

import torch

from training.families.latent.discrete import DiscretePrecond, NoiseTable
from training.families.latent.precond import DiscreteLatentPrecond
from training.families.uvit.network import UViT


class UViTPrecond(DiscreteLatentPrecond):
    """A denoiser D(x; sigma) of latents from a U-ViT; the defaults are those of U-ViT-H for ImageNet's latents.

    Args:
        img_resolution, img_channels: of the latents x.
        label_dim: number of classes, "no class" not included; 0 if unconditional.
        use_fp16, prediction, first_stage: see `DiscreteLatentPrecond`.
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
        model = UViT(
            img_size=img_resolution, in_chans=img_channels, num_classes=num_classes, **model_kwargs
        )
        super().__init__(
            model, img_resolution, img_channels, label_dim, use_fp16, prediction, first_stage,
            beta_schedule=beta_schedule, beta_start=beta_start, beta_end=beta_end, num_timesteps=num_timesteps,
            first_timestep=first_timestep, rounding=rounding,
        )  # fmt: skip

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
        self.has_no_class = null_class

    def set_dtype(self, dtype: torch.dtype) -> "UViTImagePrecond":
        """See `UViTPrecond.set_dtype`."""
        self.dtype = dtype
        _convert_blocks(self.model, dtype)
        return self


def _convert_blocks(model: Any, dtype: torch.dtype) -> None:
    for blocks in (model.in_blocks, model.mid_block, model.out_blocks):
        blocks.to(dtype)
