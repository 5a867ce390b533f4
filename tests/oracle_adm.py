"""An independent ADM, written as plainly as possible: NCHW, eager, einsum and float32 softmax attention.

It reads the weights of an EDMPrecond(DhariwalUNet) by name and shares no code with training/. Tests hold the real
network against it; benchmarks/network.py times the real network against it.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def denoise(
    weights: dict[str, Tensor],
    x: Tensor,
    sigma: Tensor,
    labels: Tensor | None = None,
    rho: Tensor | None = None,
    sigma_data: float = 0.5,
) -> Tensor:
    """D(x; sigma) of EDM over ADM; x [N,C,H,W] and sigma [N], rho [k] or None."""
    s = sigma.reshape(-1, 1, 1, 1)
    total = s**2 + sigma_data**2
    raw = unet(weights, x / total.sqrt(), sigma.log() / 4, labels, rho)
    return sigma_data**2 / total * x + s * sigma_data / total.sqrt() * raw


def unet(
    p: dict[str, Tensor], x: Tensor, c_noise: Tensor, labels: Tensor | None, rho: Tensor | None
) -> Tensor:
    """The raw network: names starting with model., as published."""
    half = p["model.map_layer0.weight"].shape[1] // 2
    angles = c_noise[:, None] * (1 / 10000) ** (torch.arange(half, device=c_noise.device) / half)
    emb = torch.cat([angles.cos(), angles.sin()], dim=1)
    emb = F.silu(emb @ p["model.map_layer0.weight"].T + p["model.map_layer0.bias"])
    emb = emb @ p["model.map_layer1.weight"].T + p["model.map_layer1.bias"]
    if labels is not None:
        emb = emb + labels @ p["model.map_label.weight"].T
    emb = F.silu(emb)

    names = list(dict.fromkeys(".".join(key.split(".")[:3]) for key in p))
    skips, taken = [], 0
    for name in (n for n in names if n.startswith("model.enc.")):
        if name.endswith("_conv"):
            x = F.conv2d(x, p[name + ".weight"], p[name + ".bias"], padding=1)
        else:
            x = block(p, name, x, emb)
        skips.append(x)
    for name in (n for n in names if n.startswith("model.dec.")):
        if "_block" in name:
            skip = skips.pop()
            x = torch.cat([x, skip if rho is None else skip * rho[taken]], dim=1)
            taken += 1
        x = block(p, name, x, emb)
    return F.conv2d(
        F.silu(norm(p, "model.out_norm", x)),
        p["model.out_conv.weight"],
        p["model.out_conv.bias"],
        padding=1,
    )


def norm(p: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """Group norm over min(32, C // 4) groups."""
    return F.group_norm(x, min(32, x.shape[1] // 4), p[name + ".weight"], p[name + ".bias"])


def block(p: dict[str, Tensor], name: str, x: Tensor, emb: Tensor) -> Tensor:
    """One residual block, with attention if it has a qkv weight."""

    def resample(y: Tensor) -> Tensor:
        taps = p.get(name + ".conv0.resample_filter")
        if taps is None:
            return y
        taps = taps.expand(y.shape[1], 1, 2, 2)
        if name.endswith("_up"):
            return F.conv_transpose2d(y, taps * 4, stride=2, groups=y.shape[1])
        return F.conv2d(y, taps, stride=2, groups=y.shape[1])

    h = F.silu(norm(p, name + ".norm0", x))
    h = F.conv2d(resample(h), p[name + ".conv0.weight"], p[name + ".conv0.bias"], padding=1)
    scale, shift = (emb @ p[name + ".affine.weight"].T + p[name + ".affine.bias"])[
        :, :, None, None
    ].chunk(2, dim=1)
    h = F.silu(norm(p, name + ".norm1", h) * (1 + scale) + shift)
    h = F.conv2d(h, p[name + ".conv1.weight"], p[name + ".conv1.bias"], padding=1)
    x = resample(x)
    if name + ".skip.weight" in p:
        x = F.conv2d(x, p[name + ".skip.weight"], p[name + ".skip.bias"])
    x = x + h
    if name + ".qkv.weight" not in p:
        return x
    N, C, H, W = x.shape
    qkv = F.conv2d(norm(p, name + ".norm2", x), p[name + ".qkv.weight"], p[name + ".qkv.bias"])
    q, k, v = qkv.reshape(N * (C // 64), 64, 3, H * W).unbind(2)
    w = (
        torch.einsum("ncq,nck->nqk", q.float(), (k / math.sqrt(64)).float())
        .softmax(dim=2)
        .to(x.dtype)
    )
    a = torch.einsum("nqk,nck->ncq", w, v).reshape(N, C, H, W)
    return x + F.conv2d(a, p[name + ".proj.weight"], p[name + ".proj.bias"])
