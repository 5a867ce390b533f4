"""What a metric accepts as features: numpy or torch, checked in one place."""

import numpy as np
import torch
from torch import Tensor

ArrayLike = np.ndarray | Tensor


def as_features(
    value: ArrayLike,
    name: str = "features",
    dtype: torch.dtype | None = torch.float64,
    at_least: int = 1,
) -> Tensor:
    """Features as a checked tensor, copied only where type or place must change.

    Args:
        value: [N, d], one row per image, of any real type.
        name: what the messages call it.
        dtype: of the result; None keeps float32 and float64 as they are and makes float64 of others.
        at_least: the fewest rows that the metric can use.
    Returns:
        [N, d], on the device of `value`, or on the CPU where that device (mps) has no float64.
    Raises:
        ValueError: if it is not a matrix, has too few rows, or holds NaN or infinity.
    """
    if isinstance(value, np.ndarray):
        # Torch warns of arrays that it could write to and must not.
        value = np.require(value, requirements="W")
    tensor = torch.as_tensor(value).detach()
    if tensor.ndim != 2 or tensor.shape[1] == 0:
        raise ValueError(f"{name} have shape {list(tensor.shape)}; need [N, d], one row per image")
    if len(tensor) < at_least:
        raise ValueError(f"{name} have {len(tensor)} rows; this needs at least {at_least}")
    tensor = tensor.cpu() if tensor.device.type == "mps" else tensor
    tensor = tensor.to(dtype or (torch.float32 if tensor.dtype == torch.float32 else torch.float64))
    finite = torch.isfinite(tensor.sum(1))  # a sum is cheap, and hides neither NaN nor infinity
    if not finite.all():
        row = int(torch.nonzero(~finite)[0])
        raise ValueError(
            f"{name} hold NaN or infinity, first in row {row}; was the image or the network damaged?"
        )
    return tensor


def as_pair(
    first: ArrayLike,
    second: ArrayLike,
    names: tuple[str, str],
    dtype: torch.dtype | None = torch.float64,
    at_least: int = 1,
) -> tuple[Tensor, Tensor]:
    """Two sets of features of one dimension, on the device of the first.

    Args:
        first, second: [M, d] and [N, d].
        names: what the messages call them.
        dtype, at_least: as for `as_features`.
    Returns:
        The two tensors.
    Raises:
        ValueError: as `as_features`, or if the dimensions differ.
    """
    a, b = (
        as_features(value, name, dtype, at_least)
        for value, name in zip((first, second), names, strict=True)
    )
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"{names[0]} have {a.shape[1]} dimensions and {names[1]} {b.shape[1]}; use the same detector for both"
        )
    return a, b.to(a.device)
