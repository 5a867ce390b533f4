from typing import Any

import pytest
import torch
from conftest import golden_json
from torch import Tensor

from sampling.adams import deis, deis_weights, ipndm, ipndm_v
from sampling.time_axes import VPTime

DEIS_RUNS = [e for e in golden_json("samplers")["diffsampler"] if "deis_coeff_list" in e]


@pytest.mark.parametrize("entry", DEIS_RUNS, ids=lambda e: e["name"].split("/")[-1])
def test_weights_match_the_recorded_ones(entry: dict[str, Any]) -> None:
    variant = entry["solver"].removeprefix("deis_")
    levels = entry["t_steps"]
    for s, recorded in enumerate(entry["deis_coeff_list"]):
        if recorded:
            used = levels[s + 1 - len(recorded) : s + 2]
            weights = torch.tensor(deis_weights(used, variant, exact=False), dtype=torch.float64)
            expected = torch.tensor(recorded, dtype=torch.float64)
            assert ((weights - expected) / expected).abs().max() < 1e-9
            exact = torch.tensor(deis_weights(used, variant, exact=True), dtype=torch.float64)
            assert (exact - expected).abs().max() < 4e-5 * expected.abs().max()


@pytest.mark.parametrize("variant", ["tab", "rhoab", "logrho"])
@pytest.mark.parametrize("levels", [[80.0, 24.0, 5.0, 0.9], [0.1, 0.02, 0.005, 0.002], [80.0, 5.0, 0.002],
                                    [0.01, 0.3, 2.0, 40.0, 70.0]])  # fmt: skip
def test_exact_weights_integrate_polynomials_on_their_axis(levels: Any, variant: str) -> None:
    """sum_j w_j p(tau_j) = integral of p d sigma, by a brute-force integral of each power of tau."""
    weights = torch.tensor(deis_weights(levels, variant, exact=True), dtype=torch.float64)
    vp = VPTime.fitted(0.002, 80.0)
    points = torch.tensor(levels, dtype=torch.float64)
    fine = points[-2] + (points[-1] - points[-2]) * torch.linspace(
        0, 1, 400_001, dtype=torch.float64
    )
    axis = {"tab": vp.time, "rhoab": torch.clone, "logrho": torch.log}[variant]
    tau, tau_fine = axis(points), axis(fine)
    for power in range(len(weights)):
        expected = torch.trapezoid(tau_fine**power, fine)
        assert torch.isclose((weights * tau[:-1].flip(0) ** power).sum(), expected, rtol=2e-8)


@pytest.mark.parametrize("solver", [ipndm, deis], ids=["ipndm", "deis-rhoab"])
@pytest.mark.parametrize("order", [2, 3, 4])
def test_polynomial_derivatives_are_solved_exactly_once_started(solver: Any, order: int) -> None:
    """dx/dsigma = q(sigma), q of degree order - 1: all that can be wrong are the order - 1 starting steps."""
    settings = {"order": order} | ({"variant": "rhoab"} if solver is deis else {})
    levels = [10.0 - s for s in range(9)]

    def q(sigma: Any) -> Any:
        return sum(c * sigma**k for k, c in enumerate([0.3, -0.2, 0.1, 0.05][:order]))

    def antiderivative(sigma: float) -> float:
        return sum(
            c * sigma ** (k + 1) / (k + 1) for k, c in enumerate([0.3, -0.2, 0.1, 0.05][:order])
        )

    def run(end: int) -> float:
        x = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
        sigmas = torch.tensor(levels[: end + 1], dtype=torch.float64)
        return float(solver(lambda x, sigma: x - sigma * q(sigma), x, sigmas, **settings))

    start = order  # the first step whose weights are of full order starts at node order - 1
    for end in range(start, 9):
        grown = run(end) - run(start)
        assert grown == pytest.approx(
            antiderivative(levels[end]) - antiderivative(levels[start]), abs=1e-11
        )
    assert abs(run(start) - antiderivative(levels[start]) + antiderivative(levels[0])) > 1e-3


def test_even_steps_make_deis_in_sigma_the_weights_of_ipndm() -> None:
    sigmas = torch.arange(10, 0, -1, dtype=torch.float64)
    x = torch.randn(2, 1, 2, 2, dtype=torch.float64)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return x / (1 + sigma**2)

    for order in (1, 2, 3, 4):
        expected = ipndm(denoise, x, sigmas, order=order)
        assert torch.allclose(
            deis(denoise, x, sigmas, order=order, variant="rhoab"), expected, rtol=1e-12
        )


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_exact_ipndm_v_is_deis_in_sigma(order: int) -> None:
    sigmas = torch.tensor([80.0, 30.0, 17.0, 9.0, 2.0, 0.4], dtype=torch.float64)
    x = torch.randn(2, 1, 2, 2, dtype=torch.float64)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return x / (1 + sigma**2)

    expected = deis(denoise, x, sigmas, order=order, variant="rhoab")
    assert torch.equal(ipndm_v(denoise, x, sigmas, order=order, exact=True), expected)
    published = ipndm_v(denoise, x, sigmas, order=order)
    assert torch.allclose(published, expected, rtol=1e-12) == (order <= 2)


def test_unknown_variant_is_refused() -> None:
    with pytest.raises(
        ValueError, match="unknown DEIS variant 'rhob': choose from tab, rhoab, logrho"
    ):
        deis(lambda x, sigma: x, torch.zeros(1), torch.tensor([2.0, 1.0, 0.5]), variant="rhob")
