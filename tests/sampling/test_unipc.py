"""UniPC and DPM-Solver++ where the exact answer is known, and against the formulas written out."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import gaussian_case as gaussian
import pytest
import torch
from torch import Tensor

from sampling.denoiser import Thresholded
from sampling.dpmpp import dpmpp
from sampling.sigmas import SIGMAS
from sampling.unipc import unipc

A, C = (
    torch.randn(2, 3, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(s))
    for s in (1, 2)
)
SIGMAS_USED = SIGMAS["edm"](7, 0.05, 20.0)
X = 20 * torch.randn(2, 3, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def linear(x: Tensor, sigma: Tensor) -> Tensor:
    """D = a + c lambda, lambda = -log sigma: the state does not matter."""
    return A - C * sigma.log()


def linear_solution(x: Tensor, start: Any, end: Any) -> Tensor:
    """x_t = (t/s) x + (1 - t/s) a + c (lambda_t - 1 - (t/s) (lambda_s - 1)) solves dx/dsigma = (x - D) / sigma."""
    q = end / start
    return q * x + (1 - q) * A + C * (-math.log(end) - 1 - q * (-math.log(start) - 1))


def last_step_error(solver: Callable[..., Tensor]) -> float:
    """Error that the steps after the first add, for D linear in lambda."""
    first, *_, last = SIGMAS_USED.tolist()
    return float((solver(linear, X, SIGMAS_USED) - linear_solution(X, first, last)).abs().max())


@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_exact_unipc_solves_a_linear_denoiser_from_its_first_corrected_step_on(
    order: int, variant: str
) -> None:
    solver = partial(unipc, order=order, variant=variant, exact=True, lower_order_final=False)
    # The last step is not corrected, and a predictor of order 1 knows no slope.
    assert (last_step_error(solver) < 1e-12) == (order > 1)


@pytest.mark.parametrize("variant", ["bh1", "bh2"])
def test_unipc_3_solves_a_linear_denoiser_once_its_first_step_is_exact(variant: str) -> None:
    solver = partial(unipc, order=3, variant=variant, lower_order_final=False)
    first, second, *_, last = SIGMAS_USED.tolist()
    # Only the corrector of the first step is inexact (its coefficient is 0.5); every later one has order >= 2.
    # Its error is known, and the linear ODE carries it on by the factor sigma / sigma'.
    z = math.log(second / first)
    B = z if variant == "bh1" else math.expm1(z)
    base = (second / first) * X - math.expm1(z) * linear(X, SIGMAS_USED[0])
    corrected = base - B * 0.5 * (linear(X, SIGMAS_USED[1]) - linear(X, SIGMAS_USED[0]))
    expected = linear_solution(corrected, second, last)
    assert torch.allclose(solver(linear, X, SIGMAS_USED), expected, atol=1e-12)


def test_noise_prediction_solves_noise_that_is_linear_in_lambda() -> None:
    """d = a + c lambda in dx/dsigma = d: x_t - x_s = (a + c) (t - s) + c (t lambda_t - s lambda_s)."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return x - sigma * linear(x, sigma)

    s, *_, t = SIGMAS_USED.tolist()
    expected = X + (A + C) * (t - s) + C * (-t * math.log(t) + s * math.log(s))
    for variant in ("bh1", "bh2"):
        solver = partial(
            unipc, variant=variant, predict="noise", exact=True, lower_order_final=False
        )
        assert torch.allclose(solver(denoise, X, SIGMAS_USED), expected, atol=1e-11)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("variant", ["bh1", "bh2"])
def test_order_2_step_written_out(variant: str, exact: bool) -> None:
    """Three steps, the middle one corrected with order 2, from the formulas with the 2x2 system solved by hand."""
    s0, s1, s2, s3 = levels = [10.0, 4.0, 1.0, 0.3]
    sigmas = torch.tensor(levels, dtype=torch.float64)
    x0 = gaussian.state(10.0)

    def denoised(x: Tensor, sigma: float) -> Tensor:
        return gaussian.denoise(x, torch.tensor(sigma, dtype=torch.float64))

    def step(start: float, end: float) -> tuple[float, ...]:
        z = math.log(end / start)
        phi1 = math.expm1(z) / z
        phi2 = (phi1 - 1) / z
        phi3 = (phi2 - 1 / 2) / z
        B = z if variant == "bh1" else math.expm1(z)
        return z, B, z * phi2 / B, 2 * z * phi3 / B  # b_1, b_2

    z, B, b1, _ = step(s0, s1)
    D0 = denoised(x0, s0)
    base = s1 / s0 * x0 - math.expm1(z) * D0
    D1 = denoised(base, s1)
    x1 = base - B * (b1 if exact else 0.5) * (D1 - D0)

    z, B, b1, b2 = step(s1, s2)
    r = math.log(s1 / s0) / -z
    slope = (D0 - D1) / r
    base = s2 / s1 * x1 - math.expm1(z) * D1
    D2 = denoised(base - B * (b1 if exact else 0.5) * slope, s2)
    c1 = (b2 - b1) / (r - 1)  # c1 + c2 = b1, r c1 + c2 = b2
    x2 = base - B * (c1 * slope + (b1 - c1) * (D2 - D1))

    z, B, b1, _ = step(s2, s3)
    slope = (D1 - D2) / (math.log(s2 / s1) / -z)
    x3 = s3 / s2 * x2 - math.expm1(z) * D2 - B * (b1 if exact else 0.5) * slope
    result = unipc(
        gaussian.denoise, x0, sigmas, order=2, variant=variant, exact=exact, lower_order_final=False
    )
    assert torch.allclose(result, x3, rtol=1e-13, atol=1e-13)


def test_coefficients_hold_for_tiny_and_huge_steps() -> None:
    for ratio in (1 + 1e-7, 1.001, 1e6):
        sigmas = torch.tensor([20 * ratio**3, 20 * ratio**2, 20 * ratio, 20], dtype=torch.float64)
        for predict in ("x0", "noise"):
            x = gaussian.state(float(sigmas[0]))
            result = unipc(gaussian.denoise, x, sigmas, predict=predict)
            assert torch.isfinite(result).all()
            if ratio < 2:
                exact = gaussian.solution(x, float(sigmas[0]), 20.0)
                assert torch.allclose(result, exact, rtol=1e-8)


def test_bh1_and_bh2_are_the_same_solver_when_solved_exactly() -> None:
    """B cancels from R c = b / B once no coefficient is set by hand."""
    x = gaussian.state(20.0)
    results = [
        unipc(gaussian.denoise, x, SIGMAS_USED, variant=v, exact=True) for v in ("bh1", "bh2")
    ]
    assert torch.allclose(*results, rtol=1e-12)
    results = [unipc(gaussian.denoise, x, SIGMAS_USED, variant=v) for v in ("bh1", "bh2")]
    assert not torch.allclose(*results, rtol=1e-5)


@pytest.mark.parametrize("solver", [unipc, dpmpp])
def test_thresholding_is_that_of_the_denoiser(solver: Any) -> None:
    x = gaussian.state(20.0).reshape(2, 1, 2, 2)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return 3 * gaussian.denoise(x.reshape(2, 4, 1, 1), sigma).reshape(x.shape)

    thresholded = solver(denoise, x, SIGMAS_USED, thresholding=True)
    assert torch.equal(thresholded, solver(Thresholded(denoise), x, SIGMAS_USED))
    assert not torch.allclose(thresholded, solver(denoise, x, SIGMAS_USED))


def test_dpmpp_2m_written_out() -> None:
    """Alg. 2 of Lu et al. (2022b) with alpha = 1."""
    s0, s1, s2 = 10.0, 4.0, 1.0
    x0 = gaussian.state(10.0)
    D0 = gaussian.denoise(x0, torch.tensor(s0))
    x1 = s1 / s0 * x0 + (1 - s1 / s0) * D0
    D1 = gaussian.denoise(x1, torch.tensor(s1))
    r = math.log(s0 / s1) / math.log(s1 / s2)
    x2 = s2 / s1 * x1 + (1 - s2 / s1) * ((1 + 1 / (2 * r)) * D1 - 1 / (2 * r) * D0)
    sigmas = torch.tensor([s0, s1, s2], dtype=torch.float64)
    result = dpmpp(gaussian.denoise, x0, sigmas, lower_order_final=False)
    assert torch.allclose(result, x2, rtol=1e-6)


def test_unknown_settings_are_refused() -> None:
    x = gaussian.state(20.0)
    with pytest.raises(ValueError, match="unknown UniPC variant 'bh3': choose from bh1, bh2"):
        unipc(gaussian.denoise, x, SIGMAS_USED, variant="bh3")
    with pytest.raises(ValueError, match="unknown UniPC prediction 'v': choose from x0, noise"):
        unipc(gaussian.denoise, x, SIGMAS_USED, predict="v")
