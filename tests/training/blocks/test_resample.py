"""Resampling against its definition, one pixel at a time."""

import pytest
import torch
from conftest import relative_error
from torch import Tensor

from training.blocks.resample import check_taps, double, filter_of, halve, is_box


def by_hand(x: Tensor, taps: tuple[int, ...], up: bool) -> Tensor:
    """Zeros between the pixels (up) or every second pixel (down), around a convolution with taps x taps, in float64."""
    row = torch.tensor(taps, dtype=torch.float64) / sum(taps)
    before, pad = len(taps) // 2 if up else (len(taps) - 1) // 2, len(taps)
    if up:
        spread = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3], dtype=torch.float64)
        spread[..., ::2, ::2] = 4 * x.double()
        x, row = spread, row.flip(0)
    padded = torch.nn.functional.pad(x.double(), [pad] * 4)
    y = torch.zeros_like(x, dtype=torch.float64)
    for i, a in enumerate(row):
        for j, b in enumerate(row):
            top, left = pad - before + i, pad - before + j
            y += a * b * padded[..., top : top + x.shape[2], left : left + x.shape[3]]
    return y if up else y[..., ::2, ::2]


@pytest.mark.parametrize("taps", [(1, 1), (1, 3, 3, 1), (1, 2, 4, 3)])
def test_resampled_as_defined(taps: tuple[int, ...]) -> None:
    x, kernel = torch.randn(2, 3, 6, 8), filter_of(taps, "cpu")
    assert float(kernel.sum()) == pytest.approx(1)
    assert relative_error(halve(x, kernel), by_hand(x, taps, up=False)) < 1e-6
    assert relative_error(double(x, kernel), by_hand(x, taps, up=True)) < 1e-6
    assert halve(x, kernel).dtype == double(x, kernel).dtype == torch.float32


def test_a_box_is_the_same_filter() -> None:
    x, kernel = torch.randn(2, 3, 6, 8), filter_of((1, 1), "cpu")
    assert is_box((1, 1)) and is_box((3, 3)) and not is_box((1, 2)) and not is_box((1, 1, 1, 1))
    assert relative_error(double(x, None), double(x, kernel)) < 1e-6
    assert relative_error(halve(x, None), halve(x, kernel)) < 1e-6


def test_filters_have_one_to_64_taps() -> None:
    check_taps([1] * 64)
    for count in (0, 65):
        with pytest.raises(
            ValueError, match=f"the resampling filter has {count} taps; need 1 to 64"
        ):
            check_taps([1] * count)
