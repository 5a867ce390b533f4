"""From uint8 images to what a feature network reads.

Inception-v3 features are published with three resizes to 299 x 299, and the FID depends on which one.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

SIZE = 299


def check_images(images: Tensor, detector: str, channels: tuple[int, ...] = (1, 3)) -> None:
    """Refuse what a detector cannot read.

    Args:
        images: should be uint8 [N, C, H, W].
        detector: its name, for the message.
        channels: the C it reads.
    Raises:
        ValueError: if they are of another type or shape.
    """
    wanted = (
        f"{detector} reads uint8 images [N, C, H, W] with C = {' or '.join(map(str, channels))}"
    )
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in channels:
        raise ValueError(
            f"{wanted}, not {str(images.dtype).removeprefix('torch.')} {list(images.shape)}"
        )


def as_rgb(images: Tensor) -> Tensor:
    """Grayscale [N, 1, H, W] repeated to [N, 3, H, W]; RGB as it is."""
    return images.expand(-1, 3, -1, -1)


def resize_tensorflow(x: Tensor) -> Tensor:
    r"""Bilinear resize to 299 x 299 as in TensorFlow 1: what EDM, ADM's evaluator and torch-fidelity use.

    Output pixel i reads the source at i * n / 299, without the half-pixel offset; beyond the last pixel, the last
    pixel. That is the resize with aligned corners of the image with its last row and column doubled, to 300 x 300:
    (n + 1 - 1) / (300 - 1) = n / 299.

    Reference: Parmar et al., 2022, "On Aliased Resizing", https://arxiv.org/abs/2104.11222

    Args:
        x: floating point [N, C, H, W].
    Returns:
        [N, C, 299, 299], in the range of `x`.
    """
    if x.shape[2:] == (SIZE, SIZE):
        return x
    padded = F.pad(x, (0, 1, 0, 1), mode="replicate")
    return F.interpolate(padded, size=(SIZE + 1, SIZE + 1), mode="bilinear", align_corners=True)[
        ..., :SIZE, :SIZE
    ]


def resize_torch(x: Tensor) -> Tensor:
    """Bilinear resize to 299 x 299 with half-pixel centres and no antialiasing: what pytorch-fid uses.

    Args:
        x: floating point [N, C, H, W].
    Returns:
        [N, C, 299, 299], in the range of `x`.
    """
    return F.interpolate(x, size=(SIZE, SIZE), mode="bilinear", align_corners=False)


def resize_clean(x: Tensor) -> Tensor:
    r"""Bicubic resize to 299 x 299 as PIL does it channel by channel in floating point: what clean-fid uses.

    Output pixel i is a mean of the source, weighted by k((j + 1/2 - (i + 1/2) n / 299) / s), s = max(n / 299, 1), with
    Keys' cubic k of a = -1/2. Where the image shrinks, the cubic widens with it, so that nothing aliases. Nothing is
    rounded; what overshoots is cut to [0, 255].

    Reference: Parmar et al., 2022, "On Aliased Resizing", https://arxiv.org/abs/2104.11222

    Args:
        x: floating point [N, C, H, W], in [0, 255].
    Returns:
        [N, C, 299, 299], in [0, 255].
    """
    if x.shape[2:] == (SIZE, SIZE):
        return x
    # In float32, places of the source are rounded: 2e-5 of 255 at 700 pixels. On mps there is nothing else.
    wide = x if x.device.type == "mps" else x.double()
    resized = F.interpolate(wide, size=(SIZE, SIZE), mode="bicubic", antialias=True)
    return resized.clamp(0, 255).to(x.dtype)


# An affine map and a bilinear resize commute; mapped first, the small image is mapped instead of the large one.


def prepare_tensorflow(images: Tensor, dtype: torch.dtype) -> Tensor:
    """(x - 128) / 128 and `resize_tensorflow`: uint8 [N, 3, H, W] -> [N, 3, 299, 299] in [-1, 127/128]."""
    return resize_tensorflow((images.to(dtype) - 128) / 128)


def prepare_torch(images: Tensor, dtype: torch.dtype) -> Tensor:
    """2 x / 255 - 1 and `resize_torch`: uint8 [N, 3, H, W] -> [N, 3, 299, 299] in [-1, 1]."""
    return resize_torch(images.to(dtype) * (2 / 255) - 1)


def prepare_clean(images: Tensor, dtype: torch.dtype) -> Tensor:
    """`resize_clean` and (x - 128) / 128: uint8 [N, 3, H, W] -> [N, 3, 299, 299] in [-1, 127/128]."""
    return (resize_clean(images.to(dtype)) - 128) / 128


PREPARATIONS: dict[str, Callable[[Tensor, torch.dtype], Tensor]] = {
    "tensorflow": prepare_tensorflow,
    "torch": prepare_torch,
    "clean": prepare_clean,
}
