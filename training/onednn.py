"""Large float32 matrix products on processors that are not Intel's: by oneDNN instead of MKL.

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


def preferred(x: Tensor) -> bool:
    """Whether products of `x` go to oneDNN: float32, in inference, on a processor where MKL is the slower one."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
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
    if min(weight.shape) < MIN_FEATURES or not preferred(x):
        return F.linear(x, weight, bias)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def batched_linear(x: Tensor, weight: Tensor) -> Tensor:
    """x W^T of each pair: [B, M, C] and [B, O, C] to [B, M, O]."""
    if preferred(x):
        return torch.stack(list(map(linear, x, weight)))
    return torch.bmm(x, weight.mT)


@functools.cache
def _faster_than_mkl() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    intel = not cpuinfo.exists() or "GenuineIntel" in cpuinfo.read_text()
    return not intel and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
