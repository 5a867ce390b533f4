"""Tensors into a feature network: all of them, or one line that says which do not fit."""

from collections.abc import Mapping

from torch import Tensor, nn

from torch_utils.weights import check_names


def load_weights(net: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Make `tensors` the weights of `net`, without a copy. The batch norms' counters of training steps may be absent.

    Args:
        net: may be on the meta device.
        tensors: name -> value.
    Raises:
        ValueError: as `torch_utils.weights.check_names`.
    """
    check_names(net.state_dict(), tensors, optional=".num_batches_tracked")
    net.load_state_dict(tensors, strict=False, assign=True)
