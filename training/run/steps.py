"""What a step of training consists of: its random numbers, its parts, the optimiser's move, and the average."""

from collections.abc import Iterator

import torch
from torch import nn

from torch_utils import distributed
from training.run.config import TrainingConfig
from training.run.optimizer import sum_over_ranks


def generator(
    config: TrainingConfig, images_seen: int, device: torch.device, use: int = 0
) -> torch.Generator:
    """For one use of randomness in the present step of this rank."""
    numbers = (config.seed, images_seen // config.batch, distributed.rank(), use)
    # Of integers: the same in every process.
    return torch.Generator(device).manual_seed(hash(numbers) % 2**63)


def parts(config: TrainingConfig, share: int) -> Iterator[slice]:
    """The rows of this rank's share of a batch that are held at once."""
    size = config.batch_gpu or share
    return (slice(first, first + size) for first in range(0, share, size))


def descend(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """One step along the gradients, averaged over all ranks; the gradients are gone afterwards."""
    params = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    grads = [p.grad for p in params if p.grad is not None]
    sum_over_ranks(grads)
    for grad in grads:
        torch.nan_to_num(
            grad.div_(distributed.world_size()), nan=0.0, posinf=1e5, neginf=-1e5, out=grad
        )
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


@torch.no_grad()
def follow(mean: nn.Module, net: nn.Module, decay: float) -> None:
    """mean <- decay mean + (1 - decay) net, weight by weight."""
    torch._foreach_lerp_(list(mean.parameters()), list(net.parameters()), 1 - decay)
