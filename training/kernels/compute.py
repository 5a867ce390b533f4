"""What layers compute with: each operation, by the kernel that training/kernels/choose.py names."""

import torch
import torch.nn.functional as F
from torch import Tensor

from training.kernels import choose, cuda, onednn, winograd
from training.kernels.kept import Kept


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, kept: Kept, stored: Tensor
) -> Tensor:
    """F.conv2d that keeps the resolution.

    Args:
        x: [N, C, H, W].
        weight: [O, C, k, k], k odd, in the dtype of x.
        bias: [O] in the dtype of x, or None.
        kept: what was made of the weight in earlier calls.
        stored: the parameter that the weight comes from.
    Returns:
        [N, O, H, W].
    """
    match choose.convolution(x, weight):
        case "winograd":
            kernel = kept.get(stored, "winograd", lambda: winograd.transform(weight))
            return winograd.conv3x3(
                x, kernel, x.new_zeros(weight.shape[0]) if bias is None else bias
            )
        case "onednn":
            kernel = kept.get(stored, f"packed {x.dtype}", lambda: onednn.packed_kernel(weight, x))
            return onednn.conv2d(x, kernel, bias)
        case _:
            return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """F.linear: x W^T + b.

    Args:
        x: [..., C].
        weight: [O, C] in the dtype of x.
        bias: [O] or None.
    """
    if choose.product(x, weight) == "onednn":
        return onednn.linear(x, weight, bias)
    return F.linear(x, weight, bias)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """F.scaled_dot_product_attention: softmax(q k^T / sqrt(d)) v, of q, k, v [N, heads, T, d]."""
    match choose.attention(q):
        case "onednn":
            return onednn.attention(q, k, v)
        case "cuda":
            return cuda.attention(q, k, v)
        case _:
            return F.scaled_dot_product_attention(q, k, v)


def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
) -> Tensor:
    """F.group_norm, times scale, plus shift, both [N, C, 1, 1] or None."""
    if choose.norm(x) == "cuda":
        return cuda.group_norm(x, groups, weight, bias, eps, scale, shift)
    y = F.group_norm(x, groups, weight.to(x.dtype), bias.to(x.dtype), eps)
    return y if scale is None or shift is None else torch.addcmul(shift, y, scale)
