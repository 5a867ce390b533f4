"""The table of all solvers; from noise to images with one of them, and back."""

import pkgutil
from collections.abc import Callable

import torch
from torch import Tensor

from sampling import names
from sampling.denoiser import Denoiser
from sampling.names import Ending
from sampling.sigmas import with_ending
from sampling.solver import Solver

Sampler = Callable[[Denoiser, Tensor, Tensor], Tensor]

SOLVERS: dict[str, Solver] = {
    name: pkgutil.resolve_name(f"{__package__}.{place}") for name, place in names.SOLVERS.items()
}
# As plain functions, those that follow the ODE both ways.
SAMPLERS: dict[str, Callable[..., Tensor]] = {
    name: solver.function for name, solver in SOLVERS.items() if solver.inverts
}


def sample(
    sampler: Sampler, denoise: Denoiser, noise: Tensor, nodes: Tensor, ending: Ending = "zero"
) -> Tensor:
    """From noise to denoised images: start at nodes[0] * noise, solve, and end as told.

    Args:
        sampler: an entry of SAMPLERS, its settings bound with functools.partial.
        denoise: D(x; sigma).
        noise: N(0, I) draws [N, C, H, W]; integrated in float64.
        nodes: decreasing positive noise levels, from SIGMAS.
        ending: `zero`: a last step to 0; `sigma_min`: stop at the last node; `denoise`: the same, and replace x by
            D(x; sigma_min), which is not thresholded: one more evaluation.
    Returns:
        The images, float64 [N, C, H, W].
    Raises:
        ValueError: for settings out of range.
    """
    sigmas = with_ending(nodes, ending)
    x = sampler(denoise, noise.to(torch.float64) * sigmas[0].to(noise.device), sigmas)
    return denoise(x, sigmas[-1].to(x)) if ending == "denoise" else x


def invert(sampler: Sampler, denoise: Denoiser, images: Tensor, nodes: Tensor) -> Tensor:
    r"""From images to the noise that the ODE leads back to them: integrate from sigma_min up to sigma_max.

    noise = x(sigma_max) / sigma_max,  x(sigma_min) = images

    Args:
        sampler: an entry of SAMPLERS, its settings bound with functools.partial; without churn.
        denoise: D(x; sigma).
        images: [N, C, H, W], taken as the state at sigma_min; at sigma = 0 the ODE's right side is 0 / 0.
        nodes: decreasing positive noise levels, from SIGMAS.
    Returns:
        Noise, float64 [N, C, H, W]; near N(0, I) if the images are the network's.
    Raises:
        ValueError: for noise levels out of range.
    """
    return sampler(denoise, images.to(torch.float64), nodes.flip(0)) / float(nodes[0])
