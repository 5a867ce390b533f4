"""How strong the long skips are: norms of what they carry, and of the weights that read it."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sampling.onestep import euler
from sampling.samplers import sample
from training.blocks.skip_block import SkipBlock

See = Callable[[SkipBlock, Tensor, Tensor, Tensor | None], Tensor]


@torch.no_grad()
def skip_norms(
    net: Any, x: Tensor, sigma: Tensor | float, class_labels: Tensor | None = None
) -> Tensor:
    r"""Strength of each long skip relative to the features it joins.

    prop_i = ||rho_i d_i||_2 / ||u_i||_2, the norms over channels and pixels (or tokens) of one image, i from the
    deepest layer.

    The paper's ratio is ||d_i|| / ||u_i|| of networks as they are, which this is at rho = 1 (a plain network); its
    number for a network is the mean over layers (and images): skip_norms(...).mean(). With Skip-Tuning the ratio is
    of the two parts of what the block concatenates, in EDM2 before mp_cat weights them. Where only one path of the
    block sees the scaled skip (a `target` other than "full"), it is that path's, for "norm_output" before the
    normalisation.

    Reference: Skip-Tuning, section 3 and Figure 2, https://arxiv.org/abs/2402.15170

    Args:
        net: a network of any family (its skips enter `training.blocks.skip_block.SkipBlock`s), plain or
            `skip.tuned.SkipTuned`; not compiled.
        x: noisy images [N, C, H, W], image + sigma noise.
        sigma: noise level in data units, a scalar or [N].
        class_labels: one-hot [N, L], or None.
    Returns:
        float64 [N, k].
    Raises:
        ValueError: if the long skips of this network cannot be seen.
    """

    ratios, _ = _at_long_skips(net, _ratio, x, sigma, class_labels)
    return torch.stack(ratios, dim=1)


def _ratio(block: SkipBlock, u: Tensor, d: Tensor, rho: Tensor | None) -> Tensor:
    # Rounded as the block rounds it.
    factor = 1.0 if rho is None else rho.to(d.dtype).to(torch.float64).abs()
    return factor * (image_norms(d) / image_norms(u))


@torch.no_grad()
def trajectory_norms(
    net: Any, noise: Tensor, nodes: Tensor, class_labels: Tensor | None = None
) -> Tensor:
    """The mean of `skip_norms` over the states that a sampler passes, one at each noise level.

    The sampler is Euler's method, which asks the network once at each level.

    Args:
        net, class_labels: as for `skip_norms`.
        noise: N(0, I) draws [N, C, H, W].
        nodes: decreasing positive noise levels; the first is that of the pure noise where sampling begins.
    Returns:
        float64 [N, k].
    Raises:
        ValueError: as `skip_norms`, or for noise levels out of range.
    """
    seen: list[Tensor] = []

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        ratios, D = _at_long_skips(net, _ratio, x.float(), sigma.float(), class_labels)
        seen.append(torch.stack(ratios, dim=1))
        return D.to(x.dtype)

    sample(euler, denoise, noise, nodes)
    return torch.stack(seen).mean(0)


@torch.no_grad()
def slice_norms(net: Any) -> tuple[Tensor, Tensor]:
    """Frobenius norms of the weights that read u_i, and of those that read d_i.

    They are the two slices W[:, :C_u] and W[:, C_u:] of the first linear map that reads both, W [out, C_u + C_d, ...]:
    a 3x3 convolution, of EDM2 with the weights as it uses them, or a U-ViT's skip_linear. rho does not enter. Which
    channels are whose is learnt from one network call on an empty image.

    Reference: Skip-Tuning, Figure 10, https://arxiv.org/abs/2402.15170; it does not say which convolution is meant.

    Args:
        net: as for `skip_norms`.
    Returns:
        (u, d), each float64 [k], deepest layer first.
    Raises:
        ValueError: if the long skips of this network cannot be seen.
    """

    def slices(block: SkipBlock, u: Tensor, d: Tensor, rho: Tensor | None) -> Tensor:
        axis = block.channel_axis
        parts = block.joined_weight().split([u.shape[axis], d.shape[axis]], dim=1)
        return torch.stack([torch.linalg.vector_norm(part, dtype=torch.float64) for part in parts])

    device = next(net.parameters()).device
    empty = torch.zeros(
        [1, net.img_channels, net.img_resolution, net.img_resolution], device=device
    )
    first_class = torch.eye(net.label_dim, device=device)[:1] if net.label_dim else None
    found, _ = _at_long_skips(net, slices, empty, 1.0, first_class)
    u, d = torch.stack(found).unbind(1)
    return u, d


def image_norms(x: Tensor) -> Tensor:
    """L2 norm of each image of x [N, ...], summed in float64: [N]."""
    return torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim)), dtype=torch.float64)


def _at_long_skips(
    net: Any, see: See, x: Tensor, sigma: Tensor | float, class_labels: Tensor | None
) -> tuple[list[Tensor], Tensor]:
    """What `see(block, u, d, rho)` gives at each block that takes a long skip, deepest first, and D, of one call."""
    seen: list[Tensor] = []

    def look(block: SkipBlock, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = inspect.signature(block.forward).bind(*args, **kwargs).arguments
        if given.get("skip") is not None:
            seen.append(see(block, given["x"], given["skip"], given.get("skip_scale")))

    blocks = [module for module in net.modules() if isinstance(module, SkipBlock)]
    handles = [block.register_forward_pre_hook(look, with_kwargs=True) for block in blocks]
    try:
        D = net(x, sigma, class_labels)
    finally:
        for handle in handles:
            handle.remove()
    if not seen or len(seen) != net.num_skips:
        raise ValueError(
            f"{len(seen)} of the network's {net.num_skips} long skips were seen: this needs a network "
            "whose skips enter SkipBlocks, and not compiled"
        )
    return seen, D
