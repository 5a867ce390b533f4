"""Large matrix products on processors that are not Intel's: by oneDNN instead of MKL.

F.linear, torch.bmm and a 1x1 convolution call MKL, whose fastest kernels run on Intel's processors only; on an AMD EPYC
oneDNN's product is two to four times as fast (benchmarks/README.md). The op is the one that torch.compile's CPU backend
emits for a linear layer.
"""

import functools
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

MIN_FEATURES = 128  # below this a product is too small for its library to matter
MIN_TOKENS = 256  # of attention


def preferred(x: Tensor, *dtypes: torch.dtype) -> bool:
    """Whether products of `x` go to oneDNN: float32, in inference, on a processor where MKL is the slower one.

    Args:
        x: a factor.
        dtypes: that are fit instead of float32.
    """
    return (
        x.device.type == "cpu"
        and x.dtype in (dtypes or (torch.float32,))
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and _faster_than_mkl()
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b, as F.linear.

    Args:
        x: [..., C].
        weight: [O, C].
        bias: [O] or None.
    """
    if min(weight.shape) < MIN_FEATURES or not preferred(x, torch.float32, torch.bfloat16):
        return F.linear(x, weight, bias)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def batched_linear(x: Tensor, weight: Tensor) -> Tensor:
    """x W^T of each pair: [B, M, C] and [B, O, C] to [B, M, O]."""
    if preferred(x):
        return torch.stack(list(map(linear, x, weight)))
    return torch.bmm(x, weight.mT)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v, as F.scaled_dot_product_attention, whose kernel for CPUs has its products from MKL.

    Args:
        q, k, v: [N, heads, T, d].
    Returns:
        [N, heads, T, d].
    """
    T, d = q.shape[2:]
    if T < MIN_TOKENS or not preferred(q, torch.float32, torch.bfloat16):
        return F.scaled_dot_product_attention(q, k, v)
    y = torch.empty_like(q)
    product = torch.ops.mkldnn._linear_pointwise
    for image in range(q.shape[0]):
        for head in range(q.shape[1]):  # one at a time: T x T weights of one head stay in the cache
            mine, keys, values = (x[image, head].contiguous() for x in (q, k, v.mT))
            weights = product(mine * d**-0.5, keys, None, "none", [], "").softmax(-1)
            y[image, head] = product(weights, values, None, "none", [], "")
    return y


@functools.cache
def _faster_than_mkl() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    intel = not cpuinfo.exists() or "GenuineIntel" in cpuinfo.read_text()
    return not intel and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
