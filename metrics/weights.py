"""Tensors into a feature network: all of them, or one line that says which do not fit."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from torch_utils.weights import check_names


def load_weights(net: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Make `tensors` the weights of `net`, without a copy. The batch norms' counters of training steps may be absent.

    Args:
        net: may be on the meta device.
        tensors: name -> value.
    Raises:
        ValueError: as `torch_utils.weights.check_names`, or if a weight is of another kind than the network's, or holds
            NaN or infinity.
    """
    expected = net.state_dict()
    check_names(expected, tensors, optional=".num_batches_tracked")
    for name, value in tensors.items():
        if (
            value.layout != torch.strided
            or value.is_floating_point() != expected[name].is_floating_point()
        ):
            raise ValueError(
                f"{name} is {str(value.dtype).removeprefix('torch.')}, {value.layout}; not plain floats"
            )
        if value.is_floating_point() and not torch.isfinite(value.sum(dtype=torch.float64)):
            raise ValueError(f"{name} holds NaN or infinity")
    net.load_state_dict(tensors, strict=False, assign=True)
