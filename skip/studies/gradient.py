"""The paper's measure of a network's complexity: the norm of its gradient with respect to its input."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from sampling.noise import first_draws
from skip.studies.norms import image_norms

Function = Literal["raw", "denoiser"]
Probe = Literal["ones", "random"]
FUNCTIONS: tuple[Function, ...] = get_args(Function)
PROBES: tuple[Probe, ...] = get_args(Probe)


def gradient_norm(
    net: Any,
    x: Tensor,
    sigma: Tensor | float,
    class_labels: Tensor | None = None,
    function: Function = "raw",
    probe: Probe = "ones",
    seeds: Sequence[int] | None = None,
) -> Tensor:
    r"""||v^T dU/dx||_2 of each image; the paper's number is the mean over images.

    U is an image, so the gradient needs a weight v for each of its values:
        ones     v = 1: the gradient of the sum of the output
        random   v ~ N(0, I), fixed by the image's seed; then E_v ||v^T J||^2 = ||J||_F^2
    and the function is one of
        raw       F, the network between its scalings, with respect to its own input c_in x
        denoiser  D(x; sigma) with respect to x

    Reference: Skip-Tuning, Eq. 3, Table 1 and Figure 3, https://arxiv.org/abs/2402.15170; it states neither v nor which
    function U is.

    Args:
        net: a denoiser, plain or `skip.tuned.SkipTuned`, not compiled; for "raw" one whose `net.model` is F.
        x: noisy images [N, C, H, W], image + sigma noise.
        sigma: noise level in data units, a scalar or [N].
        class_labels: one-hot [N, L], or None.
        function, probe: as above.
        seeds: one per image, for a random probe. It is drawn after the noise and the class that the same seeds give,
            hence independent of them.
    Returns:
        float64 [N].
    Raises:
        ValueError: if a choice is unknown, a random probe has no seeds, or the network does not show its raw part.
    """
    if function not in FUNCTIONS:
        raise ValueError(f"unknown function {function!r}; choose from {', '.join(FUNCTIONS)}")
    if probe not in PROBES:
        raise ValueError(f"unknown probe {probe!r}; choose from {', '.join(PROBES)}")
    if probe == "random" and seeds is None:
        raise ValueError("a random probe needs seeds, one per image")
    with torch.inference_mode(False), torch.enable_grad():
        # Copies, for tensors made in inference mode cannot take part in a graph.
        x, sigma = x.detach().clone(), torch.as_tensor(sigma, device=x.device).clone()
        class_labels = None if class_labels is None else class_labels.clone()
        if function == "raw":
            point, output = _raw(net, x, sigma, class_labels)
        else:
            point = x.requires_grad_()
            output = net(point, sigma, class_labels)
        v = torch.ones_like(output) if probe == "ones" else _probe(net, output, seeds or [])
        (gradient,) = torch.autograd.grad(output, point, v)
    return image_norms(gradient)


def _probe(net: Any, output: Tensor, seeds: Sequence[int]) -> Tensor:
    """v ~ N(0, I) like the output [N, C, H, W], the float64 draw that follows the noise and the class."""
    if len(seeds) != len(output):
        raise ValueError(
            f"{len(seeds)} seeds for {len(output)} images; a random probe needs one per image"
        )
    random = first_draws(seeds, output.shape[1:], net.label_dim).random
    return random.randn(output.shape, torch.float64).to(output)


def _raw(
    net: Any, x: Tensor, sigma: Tensor | float, class_labels: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The input c_in x of the raw network, as a leaf of the graph, and F of it [N, C, H, W]."""
    model = getattr(net, "model", None)
    if not isinstance(model, nn.Module):
        raise ValueError('this denoiser has no raw network net.model; choose function "denoiser"')
    points: list[Tensor] = []
    outputs: list[Tensor] = []

    def enter(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        points.append(args[0].detach().requires_grad_())
        return points[-1], *args[1:]

    def leave(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        # iDDPM's network has more channels, of which D makes no use.
        outputs.append(output[:, : x.shape[1]])

    handles = [model.register_forward_pre_hook(enter), model.register_forward_hook(leave)]
    try:
        net(x, sigma, class_labels)
    finally:
        for handle in handles:
            handle.remove()
    if len(points) != 1 or len(outputs) != 1:
        raise ValueError(
            f"the denoiser called its raw network {len(points)} times where hooks see it; function "
            '"raw" needs one call of a network that is not compiled'
        )
    return points[0], outputs[0]
