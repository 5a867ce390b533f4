"""What all trainings optimise with: Adam, and gradients summed over ranks."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from torch_utils import distributed
from torch_utils.weights import check_like


def adam(
    parameters: Iterable[Tensor], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.Adam:
    """Adam with eps = 1e-8; on CUDA one kernel updates all parameters at once.

    Reference: Kingma and Ba, 2015, Alg. 1, https://arxiv.org/abs/1412.6980

    Args:
        parameters: all on one device.
        lr: learning rate; those that change it set it before each step.
        betas: of the two moments.
    """
    every = list(parameters)
    fused = all(parameter.device.type == "cuda" for parameter in every)
    return torch.optim.Adam(every, lr=lr, betas=betas, eps=1e-8, fused=fused or None)


def take_moments(optimizer: torch.optim.Optimizer, saved: Any) -> None:
    """Go on with the moments of `adam`'s state_dict; the settings stay those of the run.

    Args:
        optimizer: over the same parameters.
        saved: from a file.
    Raises:
        ValueError: if a moment is not of its parameter's shape and dtype.
    """
    moments = saved["state"] if isinstance(saved, dict) else None
    if not isinstance(moments, dict):
        raise ValueError("there is something else in the place of the optimizer's moments")

    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, found in moments.items():
        if type(index) is not int or not 0 <= index < len(parameters):
            raise ValueError(
                f"the optimizer has moments of {len(parameters)} parameters, not of number {index!r}"
            )
        like = parameters[index].detach()
        check_like(found, {"step": torch.zeros([]), "exp_avg": like, "exp_avg_sq": like})
        if not 1 <= float(found["step"]) < float("inf"):
            raise ValueError(f"the optimizer has made {float(found['step'])} steps")

    settings = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": settings})


def sum_over_ranks(gradients: Sequence[Tensor]) -> None:
    """Replace each gradient by its sum over all ranks, in place and in one exchange: there may be hundreds of them.

    Raises:
        RuntimeError: if another rank stopped.
    """
    if distributed.world_size() == 1 or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    flat = distributed.all_reduce_sum(flat)
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, total in zip(gradients, flat.split(sizes), strict=True):
        gradient.copy_(total.view(gradient.shape))
