"""Convolutions, matrix products and attention on a CPU, by oneDNN's own operators.

The operators are those that torch.compile's CPU backend emits. When they pay: training/kernels/choose.py.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b, as F.linear.

    Args:
        x: [..., C].
        weight: [O, C].
        bias: [O] or None.
    """
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def packed_kernel(weight: Tensor, x: Tensor, groups: int = 1) -> Tensor:
    """The weight [O, C / groups, k, k] of a convolution in the memory that oneDNN reads, for inputs of x's shape.

    F.conv2d brings weights into it in each call, a good part of its time where images are small and channels many.
    """
    padding = [weight.shape[-1] // 2] * 2
    packed: Tensor = torch._C._nn.mkldnn_reorder_conv2d_weight(  # type: ignore[call-arg]  # torch's stub is behind
        weight.to_mkldnn(), padding, [1, 1], [1, 1], groups, list(x.shape)
    )
    return packed


def conv2d(x: Tensor, kernel: Tensor, bias: Tensor | None, groups: int = 1) -> Tensor:
    """The convolution that keeps the resolution, of a weight or of a `packed_kernel`."""
    padding = [kernel.shape[-1] // 2] * 2
    if not kernel.is_mkldnn:
        return F.conv2d(x, kernel, bias, padding=padding, groups=groups)
    y: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, kernel, bias, padding, [1, 1], [1, 1], groups, "none", [], ""
    )
    return y


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v, as F.scaled_dot_product_attention, whose kernel for CPUs has its products from MKL.

    Args:
        q, k, v: [N, heads, T, d].
    Returns:
        [N, heads, T, d].
    """
    y, d = torch.empty_like(q), q.shape[-1]
    product = torch.ops.mkldnn._linear_pointwise
    for image in range(q.shape[0]):
        for head in range(q.shape[1]):  # one at a time: T x T weights of one head stay in the cache
            mine, keys, values = (x[image, head].contiguous() for x in (q, k, v.mT))
            weights = product(mine * d**-0.5, keys, None, "none", [], "").softmax(-1)
            y[image, head] = product(weights, values, None, "none", [], "")
    return y


@functools.cache
def computes(dtype: torch.dtype) -> bool:
    """Whether oneDNN has products and convolutions in `dtype` here; it needs AVX-512 or newer for bfloat16, or raises.

    Tried rather than asked: ONEDNN_MAX_CPU_ISA can forbid what the processor has.
    """
    if not torch.backends.mkldnn.is_available() or not hasattr(
        torch.ops.mkldnn, "_linear_pointwise"
    ):
        return False
    x, weight = torch.ones(1, 16, 4, 4, dtype=dtype), torch.ones(16, 16, 1, 1, dtype=dtype)
    try:
        torch.ops.mkldnn._linear_pointwise(x[..., 0, 0], weight[..., 0, 0], None, "none", [], "")
        conv2d(x, packed_kernel(weight, x), None)
    except RuntimeError:
        return False
    return True
