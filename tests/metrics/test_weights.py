"""Weights of a feature network: floats, dense and finite, or one line."""

import pytest
import torch
from torch import Tensor, nn

from metrics.weights import load_weights


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2))


def test_weights_of_the_kind_that_the_network_has() -> None:
    one, other = net(), net()
    lean = {
        name: value
        for name, value in one.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    load_weights(other, lean)
    assert torch.equal(other.state_dict()["0.weight"], lean["0.weight"])
    load_weights(other, {name: value.half() for name, value in lean.items()})
    assert other.state_dict()["0.weight"].dtype == torch.float16


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.full([2, 1, 3, 3], torch.nan), "0.weight holds NaN or infinity"),
        (
            torch.zeros(2, 1, 3, 3).index_fill(0, torch.tensor([1]), torch.inf),
            "0.weight holds NaN or infinity",
        ),
        (
            torch.zeros(2, 1, 3, 3, dtype=torch.int8),
            "0.weight is int8, torch.strided; not plain floats",
        ),
        (
            torch.zeros(2, 1, 3, 3, dtype=torch.complex64),
            "0.weight is complex64, torch.strided; not plain floats",
        ),
        (
            torch.zeros(2, 1, 3, 3).to_sparse(),
            "0.weight is float32, torch.sparse_coo; not plain floats",
        ),
        (torch.zeros(2, 1, 3), r"1 of the wrong shape \(0.weight \[2, 1, 3\] for \[2, 1, 3, 3\]\)"),
    ],
)
def test_others_are_refused(value: Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_weights(net(), net().state_dict() | {"0.weight": value})
