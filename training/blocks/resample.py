"""Twice the resolution or half of it, by a filter that is the outer product of its taps with themselves."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_TAPS = 64  # of a filter; the published ones have 2 and 4


def check_taps(taps: Sequence[float]) -> None:
    """Raise ValueError for a filter without taps, or with more than any network has."""
    if not 1 <= len(taps) <= MAX_TAPS:
        raise ValueError(f"the resampling filter has {len(taps)} taps; need 1 to {MAX_TAPS}")


def filter_of(taps: Sequence[float], device: torch.device | str) -> Tensor:
    """The filter of these taps: float32 [1, 1, t, t], of unit sum."""
    row = torch.tensor(taps, dtype=torch.float32, device=device)
    return (torch.outer(row, row) / row.sum() ** 2)[None, None]


def is_box(taps: Sequence[float]) -> bool:
    """Whether the filter is the mean of 2x2 pixels."""
    return len(taps) == 2 and taps[0] == taps[1]


def double(x: Tensor, kernel: Tensor | None) -> Tensor:
    """Spread each pixel of x [N, C, H, W] by the filter, times 4: [N, C, 2 H, 2 W]; None is a 2x2 box."""
    if kernel is None:  # the same numbers as the convolution below, several times faster
        return F.interpolate(x, scale_factor=2, mode="nearest")
    weight = (kernel * 4).to(x.dtype).expand(x.shape[1], 1, -1, -1)
    return F.conv_transpose2d(
        x, weight, stride=2, padding=(kernel.shape[-1] - 1) // 2, groups=x.shape[1]
    )


def halve(x: Tensor, kernel: Tensor | None, pad: int | None = None) -> Tensor:
    """Filter x [N, C, H, W] and keep every second pixel: [N, C, H / 2, W / 2].

    Args:
        x: the image or features.
        kernel: the filter; None is a 2x2 box.
        pad: zeros around x; None: as many as halve its resolution exactly.
    """
    if kernel is None:
        return F.avg_pool2d(x, 2)
    pad = (kernel.shape[-1] - 1) // 2 if pad is None else pad
    return F.conv2d(
        x,
        kernel.to(x.dtype).expand(x.shape[1], 1, -1, -1),
        stride=2,
        padding=pad,
        groups=x.shape[1],
    )
