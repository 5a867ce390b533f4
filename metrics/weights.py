"""Tensors into a feature network: all of them, or one line that says which do not fit."""

from collections.abc import Mapping

from torch import Tensor, nn

NAMES_SHOWN = 3


def load_weights(net: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Make `tensors` the weights of `net`, without a copy. The batch norms' counters of training steps may be absent.

    Args:
        net: may be on the meta device.
        tensors: name -> value.
    Raises:
        ValueError: if a name is missing or unexpected, or a shape is another; the first of them are named.
    """
    expected = net.state_dict()
    missing = [name for name in expected if name not in tensors and not name.endswith(".num_batches_tracked")]
    unexpected = [name for name in tensors if name not in expected]
    shapes = [
        f"{name} {list(tensors[name].shape)} for {list(value.shape)}"
        for name, value in expected.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    lists = {"missing": missing, "unexpected": unexpected, "of the wrong shape": shapes}
    problems = [
        f"{len(names)} {problem} ({', '.join(names[:NAMES_SHOWN])}{', ...' if len(names) > NAMES_SHOWN else ''})"
        for problem, names in lists.items()
        if names
    ]
    if problems:
        raise ValueError(f"the tensors do not fit the network: {'; '.join(problems)}")
    net.load_state_dict(tensors, strict=False, assign=True)
