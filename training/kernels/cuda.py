"""What torch's own operators do slowly on CUDA: group norm in channels-last memory, and attention with wide heads.

benchmarks/README.md has what both take on an H200; the thresholds are in training/kernels/choose.py.
"""

import torch
from torch import Tensor


def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
) -> Tensor:
    r"""Group normalisation and modulation, in the memory format of x.

    scale * ((x - mean) / sqrt(var + eps) * weight + bias) + shift = a x + b, with a and b by image and channel

    Moments, a and b are float32; under torch.compile all of it becomes a kernel or two.

    Args:
        x: [N, C, H, W].
        groups: G, which divides C; each image's moments are over the pixels and the C / G channels of a group.
        weight, bias: [C].
        eps: see the formula.
        scale, shift: [N, C, 1, 1] or [1, C, 1, 1], both or neither.
    Returns:
        [N, C, H, W] in the dtype and memory format of x.
    """
    N, C, H, W = x.shape
    var, mean = _moments(x.permute(0, 2, 3, 1).reshape(N, H * W, groups, C // groups))
    a = (var + eps).rsqrt()[:, :, None] * weight.float().view(groups, -1)  # (N, G, C / G)
    b = bias.float().view(groups, -1) - mean[:, :, None] * a
    a, b = a.reshape(N, C, 1, 1), b.reshape(N, C, 1, 1)
    if scale is not None and shift is not None:
        a, b = a * scale.float(), b * scale.float() + shift.float()

    if torch.compiler.is_compiling():
        return (x.float() * a + b).to(x.dtype)
    # Computed in float32, without a float32 copy of x.
    return torch.addcmul(b, x, a, out=torch.empty_like(x))


def _moments(y: Tensor) -> tuple[Tensor, Tensor]:
    """Variance and mean of y [N, P, G, D] over P and D, in float32: [N, G] each."""
    if y.dtype == torch.float32 or torch.compiler.is_compiling():
        var, mean = torch.var_mean(y.float(), (1, 3), correction=0)
        return var, mean
    # In half precision var_mean would round the moments, and a float32 copy of y is another pass over memory.
    mean = y.mean((1, 3), dtype=torch.float32)
    power = torch.linalg.vector_norm(y, 2, (1, 3), dtype=torch.float32).square() / (
        y.shape[1] * y.shape[3]
    )
    return (power - mean.square()).clamp_min(0), mean


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v as two matrix products, with the softmax between them in float32."""
    weights = (q * q.shape[-1] ** -0.5) @ k.mT
    return weights.softmax(-1, dtype=torch.float32).to(v.dtype) @ v
