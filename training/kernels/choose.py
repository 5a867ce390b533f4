"""Which kernel computes a layer: the one place that decides, and that can say what it decided.

    plain      torch's own operator: always possible, and the only one with gradients or under torch.compile
    onednn     training/kernels/onednn.py: large layers on a CPU
    winograd   training/kernels/winograd.py: large 3x3 convolutions on a CPU
    cuda       training/kernels/cuda.py: what torch's own operators do slowly there

Each function takes the tensors of one call, and returns a name.
"""

import contextlib
import functools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from training.kernels import onednn

Kernel = Literal["plain", "onednn", "winograd", "cuda"]
Operation = Literal["convolution", "product", "attention", "norm"]

# From these sizes on another kernel pays (benchmarks/README.md).
MIN_FEATURES = 128  # channels of oneDNN's products and convolutions, and of Winograd's; below it moving data costs more
MIN_TOKENS = 256  # of attention by oneDNN
MIN_RESOLUTION = 32  # of Winograd's convolutions
# Values of x from which CUDA's norm is ours. F.group_norm copies x into NCHW memory and the convolution behind it
# copies the result back, four passes over x; below this the launches of about eight small kernels cost more. On an
# H200 the operators alone take equally long at 2^24.6 values.
MIN_VALUES = 2**24
# Of a head: CUDA's flash kernel takes no more. Wider ones go to two matrix products, which on an H200 take 0.83 of the
# fused operator's time with 384 channels, 0.59 with 512.
FLASH_CHANNELS = 256

CPUINFO = Path("/proc/cpuinfo")
FLOATS = (torch.float32, torch.bfloat16)  # that oneDNN computes in

# For tests: send everything to this kernel that it can compute, whatever its size and the processor.
forced: Kernel | None = None
_watched: Counter[tuple[Operation, Kernel]] | None = None


@contextlib.contextmanager
def watched() -> Iterator[Counter[tuple[Operation, Kernel]]]:
    """What is chosen within the block: how often each kernel for each operation."""
    global _watched
    before, _watched = _watched, Counter()
    try:
        yield _watched
    finally:
        _watched = before


def convolution(x: Tensor, weight: Tensor) -> Kernel:
    """For a convolution that keeps the resolution.

    Weights must be in channels-last memory for another kernel than the plain one, as `Precond.channels_last` puts them.

    Args:
        x: [N, C, H, W].
        weight: [O, C, k, k] in the dtype of x.
    """
    if _winograd_fits(x, weight):
        return _told("convolution", "winograd")
    if packs(x, weight):
        return _told("convolution", "onednn")
    return _told("convolution", "plain")


def product(x: Tensor, weight: Tensor) -> Kernel:
    """For x W^T: large products leave MKL, F.linear's library, where its fastest kernels do not run.

    Args:
        x: [..., C].
        weight: [O, C] in the dtype of x.
    """
    large = forced == "onednn" or min(weight.shape) >= MIN_FEATURES
    if large and _onednn_multiplies(x):
        return _told("product", "onednn")
    return _told("product", "plain")


def attention(q: Tensor) -> Kernel:
    """For softmax(q k^T / sqrt(d)) v; q: [N, heads, T, d]."""
    if q.device.type == "cuda":
        # In training the products would keep the weights of all pairs of tokens.
        wide = q.shape[-1] > FLASH_CHANNELS and not torch.is_grad_enabled()
        return _told("attention", "cuda" if wide and forced != "plain" else "plain")
    large = forced == "onednn" or q.shape[2] >= MIN_TOKENS
    if large and _onednn_multiplies(q):
        return _told("attention", "onednn")
    return _told("attention", "plain")


def norm(x: Tensor) -> Kernel:
    """For the group norm of x [N, C, H, W]: ours on CUDA, in inference, where x is channels-last and large."""
    if (
        x.device.type == "cuda"
        and not torch.is_grad_enabled()
        and x.is_contiguous(memory_format=torch.channels_last)
        and not x.is_contiguous()
        and (torch.compiler.is_compiling() or x.numel() >= MIN_VALUES)
        and forced != "plain"
    ):
        return _told("norm", "cuda")
    return _told("norm", "plain")


def packs(x: Tensor, weight: Tensor) -> bool:
    """Whether a convolution of x is oneDNN's, of a weight that was packed once."""
    return (
        _in_inference(x)
        and x.dtype in FLOATS
        and (forced == "onednn" or min(weight.shape[:2]) >= MIN_FEATURES)
        and weight.is_contiguous(memory_format=torch.channels_last)
        and forced != "plain"
        and onednn.computes(x.dtype)
    )


def _winograd_fits(x: Tensor, weight: Tensor) -> bool:
    return (
        _in_inference(x)
        and x.dtype == torch.float32
        and weight.shape[2:] == (3, 3)
        and forced in (None, "winograd")
        and (
            forced is not None
            or (min(weight.shape[:2]) >= MIN_FEATURES and min(x.shape[2:]) >= MIN_RESOLUTION)
        )
        and x.shape[2] % 4 == x.shape[3] % 4 == 0
        and weight.is_contiguous(memory_format=torch.channels_last)
    )


def _onednn_multiplies(x: Tensor) -> bool:
    return (
        _in_inference(x)
        and x.dtype in FLOATS
        and forced != "plain"
        and (forced == "onednn" or faster_than_mkl())
        and onednn.computes(x.dtype)
    )


def _in_inference(x: Tensor) -> bool:
    """Whether x is on a CPU, without gradients and outside of torch.compile."""
    return (
        x.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling()
    )


@functools.cache
def faster_than_mkl() -> bool:
    """Whether oneDNN's products are the faster ones: MKL's best kernels run on Intel's processors only."""
    return CPUINFO.exists() and "GenuineIntel" not in CPUINFO.read_text()


def _told(operation: Operation, kernel: Kernel) -> Kernel:
    if _watched is not None:
        _watched[operation, kernel] += 1
    return kernel
