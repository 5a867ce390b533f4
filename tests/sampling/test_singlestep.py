import math
from functools import partial
from typing import Any

import gaussian_case as gaussian
import pytest
import torch
from torch import Tensor

from sampling.denoiser import Thresholded
from sampling.onestep import dpm_2
from sampling.sigmas import SIGMAS, with_ending
from sampling.singlestep import dpm_singlestep, singlestep_orders


@pytest.mark.parametrize("predict", ["x0", "noise"])
@pytest.mark.parametrize("grid", ["edm", "logsnr"])
@pytest.mark.parametrize("way", ["down", "up"])
def test_order_3_converges_with_order_3(predict: Any, grid: str, way: str) -> None:
    """With 3k + 2 evaluations: the last step, of order 2, is then as exact as all the others together."""
    start, end = (20.0, 0.05) if way == "down" else (0.05, 20.0)
    errors = []
    for evaluations in (80, 161):
        sigmas = SIGMAS[grid](evaluations + 1, 0.05, 20.0)
        x = gaussian.state(start)
        got = dpm_singlestep(
            gaussian.denoise, x, sigmas if way == "down" else sigmas.flip(0), predict=predict
        )
        exact = gaussian.solution(x, start, end)
        errors.append(float(((got - exact) / (exact - gaussian.MEAN)).abs().max()))
    assert errors[1] < 1e-3
    assert 2.6 < math.log2(errors[0] / errors[1]) / math.log2(161 / 80) < 3.4


def test_the_steps_are_those_of_the_authors() -> None:
    assert [singlestep_orders(n, 3) for n in range(8)] == [
        [], [1], [2], [2, 1], [3, 1], [3, 2], [3, 2, 1], [3, 3, 1],
    ]  # fmt: skip
    assert singlestep_orders(50, 3) == [3] * 16 + [2]  # U-ViT's release
    assert (singlestep_orders(4, 2), singlestep_orders(5, 2)) == ([2, 2], [2, 2, 1])
    assert singlestep_orders(2, 1) == [1, 1]
    assert all(sum(singlestep_orders(n, order)) == n for n in range(30) for order in (1, 2, 3))


@pytest.mark.parametrize("evaluations", range(1, 8))
@pytest.mark.parametrize("ending", ["zero", "sigma_min"])
def test_each_level_is_evaluated_once(evaluations: int, ending: Any) -> None:
    seen: list[float] = []

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        seen.append(float(sigma))
        return gaussian.denoise(x, sigma)

    sigmas = with_ending(SIGMAS["edm"](evaluations + 1, 0.05, 20.0), ending)
    dpm_singlestep(denoise, gaussian.state(20.0), sigmas)
    assert seen == sigmas[:-1].tolist()


def test_order_2_on_a_geometric_grid_is_the_midpoint_rule_of_dpm_solver() -> None:
    """With every second level in the middle: DPM-Solver-2, as `dpm_2` has it in sigma."""
    sigmas = SIGMAS["logsnr"](9, 0.05, 20.0)
    got = dpm_singlestep(gaussian.denoise, gaussian.state(20.0), sigmas, order=2, predict="noise")
    expected = dpm_2(gaussian.denoise, gaussian.state(20.0), sigmas[::2])
    assert torch.allclose(got, expected, atol=1e-12)


def test_thresholding_is_that_of_the_denoiser() -> None:
    sigmas, x = SIGMAS["edm"](8, 0.05, 20.0), gaussian.state(20.0)
    got = dpm_singlestep(gaussian.denoise, x, sigmas, thresholding=True)
    assert torch.equal(got, dpm_singlestep(Thresholded(gaussian.denoise), x, sigmas))
    assert not torch.equal(got, dpm_singlestep(gaussian.denoise, x, sigmas))


def test_what_it_does_not_know_is_refused() -> None:
    run = partial(dpm_singlestep, gaussian.denoise, gaussian.state(1.0), torch.tensor([1.0, 0.0]))
    for order in (0, 4):
        with pytest.raises(ValueError, match=f"dpm_singlestep has orders 1 to 3, got {order}"):
            run(order=order)
    with pytest.raises(ValueError, match="unknown dpm_singlestep prediction 'v': choose from x0"):
        run(predict="v")
