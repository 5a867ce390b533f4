from typing import Any

import pytest
import torch
from torch import Tensor

from sampling.denoiser import Counted, Finite, Thresholded, bind

SIGMA = torch.tensor(2.0, dtype=torch.float64)


def test_bind_gives_the_network_float32_and_returns_the_dtype_of_the_state() -> None:
    seen = {}

    def net(x: Tensor, sigma: Tensor, class_labels: Tensor | None = None) -> Tensor:
        seen.update(x=x, sigma=sigma, labels=class_labels)
        return x / 2

    x, labels = torch.randn(3, 2, 4, 4, dtype=torch.float64), torch.eye(3)
    D = bind(net, labels)(x, SIGMA)
    assert seen["x"].dtype == seen["sigma"].dtype == torch.float32
    assert seen["labels"] is labels
    assert D.dtype == torch.float64
    assert torch.equal(D, (x.float() / 2).double())


def test_counted_counts_calls() -> None:
    counted = Counted(lambda x, sigma: x)
    for _ in range(3):
        counted(torch.zeros(2, 1, 1, 1), SIGMA)
    assert counted.nfe == 3


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_finite_names_the_noise_level_and_who_is_to_blame(bad: Any) -> None:
    x = torch.ones(2, 1, 2, 2)
    assert torch.equal(Finite(lambda x, sigma: x)(x, SIGMA), x)

    def broken(x: Tensor, sigma: Tensor) -> Tensor:
        D = x.clone()
        D[1, 0, 0, 0] = bad
        return D

    with pytest.raises(RuntimeError, match=r"returned NaN or infinity at sigma = 2\b"):
        Finite(broken)(x, SIGMA)
    with pytest.raises(RuntimeError, match=r"was given NaN or infinity at sigma = 2\b"):
        Finite(broken)(x * bad, SIGMA)


def test_a_check_at_the_end_names_the_first_noise_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a device, where nothing is read before."""
    finite = Finite(lambda x, sigma: x / (sigma - 3))
    with monkeypatch.context() as patch:
        patch.setattr(finite, "check", lambda: None)
        x = torch.ones(1, 1, 2, 2)
        for sigma in (5.0, 3.0, 2.0):
            x = finite(x, torch.tensor(sigma))
    with pytest.raises(RuntimeError, match=r"returned NaN or infinity at sigma = 3\b"):
        finite.check()
    finite.check()  # it was told


def test_thresholding_clamps_and_divides_each_image_by_its_own_quantile() -> None:
    wild = torch.linspace(-4, 4, 1001, dtype=torch.float64).reshape(1, 1, 7, 143)
    tame = torch.linspace(-0.9, 0.5, 1001, dtype=torch.float64).reshape(1, 1, 7, 143)
    out = Thresholded(lambda x, sigma: x)(torch.cat([wild, tame]), SIGMA)
    q = 4 * 0.995  # |D| is uniform on [0, 4]
    assert torch.allclose(out[0], wild[0].clamp(-q, q) / q, atol=4e-3)
    assert out[0].max() == 1 and out[0].min() == -1
    assert (out[0] == 1).sum() in range(2, 5)
    assert torch.equal(out[1], tame[0])  # the floor of q is 1: an image within [-1, 1] stays
