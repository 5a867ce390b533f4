"""Solvers of the SDE: on Gaussian data their result is linear in the draws, so its distribution is known exactly."""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import gaussian_case as gaussian
import pytest
import torch
from gaussian_case import MEAN, STD
from torch import Tensor

from sampling.ancestral import ancestral_step, euler_a
from sampling.denoiser import Counted
from sampling.dpmpp import dpmpp
from sampling.dpmpp_sde import dpmpp_m_sde, dpmpp_sde
from sampling.noise import SeedNoise
from sampling.onestep import euler
from sampling.sa_solver import sa_solver
from sampling.samplers import SAMPLERS, SOLVERS
from sampling.sigmas import SIGMAS, with_ending

EVERYWHERE: dict[str, Any] = {"S_min": 0.0, "S_max": math.inf}
FULL: dict[str, Any] = {"lower_order_final": False}
# With the order of convergence of the variance.
SDES: dict[str, tuple[Any, int]] = {
    "euler_a": (euler_a, 1),
    "euler_a-half": (partial(euler_a, eta=0.5), 1),
    "dpmpp_sde": (dpmpp_sde, 2),
    "dpmpp_sde-half": (partial(dpmpp_sde, eta=0.5), 2),
    "dpmpp_m_sde-1": (partial(dpmpp_m_sde, order=1), 1),
    "dpmpp_m_sde-2": (partial(dpmpp_m_sde, order=2, **FULL), 2),
    "dpmpp_m_sde-3": (partial(dpmpp_m_sde, order=3, **FULL), 2),
    "sa_solver": (sa_solver, 2),
    "sa_solver-2-exact": (
        partial(sa_solver, order=2, corrector_order=0, exact=True, **EVERYWHERE, **FULL),
        2,
    ),
    "sa_solver-2": (partial(sa_solver, order=2, corrector_order=2, **EVERYWHERE, **FULL), 2),
}
STOCHASTIC = ["euler_a", "dpmpp_sde", "dpmpp_m_sde", "sa_solver"]


class Fed:
    """randn_like that gives listed draws, then refuses."""

    def __init__(self, count: int) -> None:
        generator = torch.Generator().manual_seed(count)
        shape = [2, 4, 1, 1]
        self.draws = [
            torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(count)
        ]
        self.given = 0

    def __call__(self, x: Tensor) -> Tensor:
        assert x.dtype == torch.float64 and x.shape == self.draws[self.given].shape
        self.given += 1
        return self.draws[self.given - 1]


def variance(solver: Any, sigmas: Tensor) -> Tensor:
    """Of the result, from data at sigmas[0]: the squared coefficients of all draws, added up."""
    draws = 2 * len(sigmas)
    ones = torch.eye(draws, dtype=torch.float64).reshape(draws, draws, 1, 1, 1)
    given = iter(ones[1:])

    def randn_like(x: Tensor) -> Tensor:
        return next(given).expand_as(x)

    start = MEAN + (STD**2 + sigmas[0] ** 2).sqrt() * ones[0]
    result = solver(gaussian.denoise, start, sigmas, randn_like=randn_like) - MEAN
    return (result**2).sum(0)


@pytest.mark.parametrize("name", SDES)
def test_the_variance_converges_to_that_of_the_data(name: str) -> None:
    solver, order = SDES[name]
    errors = []
    for steps in (60, 120):
        got = variance(solver, SIGMAS["edm"](steps + 1, 0.05, 20.0))
        errors.append(float((got / (STD[0] ** 2 + 0.05**2) - 1).abs().max()))
    assert errors[1] < {1: 0.07, 2: 0.005}[order]
    assert order - 0.2 < math.log2(errors[0] / errors[1]) < order + 0.6


@pytest.mark.parametrize("name", SDES)
def test_a_constant_denoiser_leaves_the_noise_of_the_last_level(name: str) -> None:
    """Whatever the steps: x - D is then noise alone, and of the right level after each of them."""
    D = torch.randn(1, 4, 1, 1, dtype=torch.float64)
    coefficients = []
    sigmas = torch.tensor([20.0, 9.0, 2.0, 0.7, 0.3], dtype=torch.float64)
    for which in range(9):
        given = iter(torch.eye(9, dtype=torch.float64)[which])
        first = float(next(given))

        def randn_like(x: Tensor, given: Any = given) -> Tensor:
            return torch.full_like(x, float(next(given)))

        x = D + 20 * first
        got = SDES[name][0](lambda x, sigma: D, x, sigmas, randn_like=randn_like)
        coefficients.append(got - D)
    total = sum(c**2 for c in coefficients)
    assert torch.allclose(total, torch.full_like(total, 0.3**2), rtol=1e-12)


def test_an_ancestral_step_has_one_home_in_three_solvers() -> None:
    """Euler a, DPM++ SDE of order 1 and SA-Solver of order 1 are the same step, without a stage or a corrector."""
    sigmas, x = with_ending(SIGMAS["edm"](6, 0.05, 20.0), "zero"), gaussian.state(20.0)
    expected = euler_a(gaussian.denoise, x, sigmas, randn_like=Fed(5))
    for solver in (
        partial(dpmpp_m_sde, order=1),
        partial(sa_solver, order=1, corrector_order=0, **EVERYWHERE),
    ):
        got = solver(gaussian.denoise, x, sigmas, randn_like=Fed(5))
        assert torch.allclose(got, expected, atol=1e-12)


def test_how_far_an_ancestral_step_goes() -> None:
    assert ancestral_step(5.0, 3.0, 1.0) == pytest.approx((9 / 5, 3 * 4 / 5))
    assert ancestral_step(5.0, 3.0, 0.0) == (3.0, 0.0)
    assert ancestral_step(5.0, 3.0, 100.0) == (0.0, 3.0)


def refuse(x: Tensor) -> Tensor:
    raise AssertionError("noise is drawn, though there is none")


@pytest.mark.parametrize(
    ("solver", "ode"),
    [
        (partial(euler_a, eta=0), euler),
        (partial(dpmpp_m_sde, eta=0, order=1), partial(dpmpp, order=1)),
        (partial(dpmpp_m_sde, eta=0), dpmpp),
        (partial(dpmpp_m_sde, eta=0, order=3), partial(dpmpp, order=3)),
        (partial(sa_solver, tau=0, order=1, corrector_order=0), euler),
    ],
)
def test_without_noise_it_is_the_solver_of_the_ode(
    solver: Callable[..., Tensor], ode: Callable[..., Tensor]
) -> None:
    sigmas, x = with_ending(SIGMAS["edm"](8, 0.05, 20.0), "zero"), gaussian.state(20.0)
    got = solver(gaussian.denoise, x, sigmas, randn_like=refuse)
    assert torch.allclose(got, ode(gaussian.denoise, x, sigmas), atol=1e-12)


@pytest.mark.parametrize(
    ("solver", "order"),
    [
        (partial(dpmpp_sde, eta=0), 2),
        (partial(sa_solver, tau=0, order=1, corrector_order=1), 1),
        (partial(sa_solver, tau=0, order=2, corrector_order=0, **FULL), 2),
        (partial(sa_solver, tau=0, order=3, corrector_order=0, exact=True, **FULL), 3),
        # With starting steps of order 2, and 3, which weigh as much as all the others.
        (partial(sa_solver, tau=0, order=3, corrector_order=4, exact=True, **FULL), 4),
    ],
)
@pytest.mark.parametrize("grid", ["edm", "logsnr"])
def test_without_noise_it_converges_to_the_ode(solver: Any, order: int, grid: str) -> None:
    x, errors = gaussian.state(20.0), []
    for steps in (80, 160):
        got = solver(gaussian.denoise, x, SIGMAS[grid](steps + 1, 0.05, 20.0))
        exact = gaussian.solution(x, 20.0, 0.05)
        errors.append(float(((got - exact) / (exact - MEAN)).abs().max()))
    assert order - 0.4 < math.log2(errors[0] / errors[1]) < order + 0.9


@pytest.mark.parametrize("exact", [False, True])
def test_a_denoiser_linear_in_log_sigma_is_integrated_exactly(exact: bool) -> None:
    """Of SA-Solver, all but the steps of order 1 and of the published order 2; and of 3M SDE."""
    sigmas = torch.tensor([9.0, 7.0, 5.0, 2.5, 1.5, 1.0], dtype=torch.float64)
    slope = torch.tensor([0.7, -2.0, 0.3, 1.0], dtype=torch.float64).reshape(1, 4, 1, 1)

    def image(sigma: Any) -> Tensor:
        return 0.2 - slope * torch.as_tensor(sigma).log()

    run = partial(
        sa_solver, lambda x, sigma: image(sigma), tau=1.0, exact=exact, **EVERYWHERE, **FULL
    )
    got = run(gaussian.state(9.0), sigmas, randn_like=torch.zeros_like)
    # x = e^{-2 h} x + sum of 2 e^{-2 (lambda_s - lambda)} D: by parts, D_s - slope / 2 at its end.
    x = gaussian.state(9.0)
    for start, end in itertools.pairwise(sigmas):
        kept = (end / start) ** 2
        x = kept * (x - image(start) + slope / 2) + image(end) - slope / 2
    # Corrected, even the first step is one of two nodes.
    assert torch.allclose(got, x, atol=1e-12) == exact


def test_3m_sde_is_that_of_k_diffusion() -> None:
    """diffusers' has the other sign before the 0.5 of its second difference, which makes it of order 1."""
    eta, sigmas, x = 0.7, SIGMAS["edm"](7, 0.05, 20.0), gaussian.state(20.0)
    draws = Fed(6)
    got = dpmpp_m_sde(gaussian.denoise, x, sigmas, order=3, eta=eta, randn_like=draws, **FULL)
    past: list[Tensor] = []
    h_1 = h_2 = math.nan
    for sigma, end, noise in zip(sigmas, sigmas[1:], draws.draws, strict=False):
        D, h = gaussian.denoise(x, sigma), float((sigma / end).log())
        g = h * (1 + eta)
        x = math.exp(-g) * x - math.expm1(-g) * D
        if len(past) == 1:
            x = x - math.expm1(-g) / 2 * (D - past[0]) * h / h_1
        if len(past) >= 2:
            new, old = (D - past[0]) * h / h_1, (past[0] - past[1]) * h / h_2
            bend = (new - old) * h / (h_1 + h_2)
            phi_2 = math.expm1(-g) / g + 1
            x = x + phi_2 * (new + bend * h_1 / h) - (phi_2 / g - 0.5) * bend
        x = x + noise * end * math.sqrt(-math.expm1(-2 * h * eta))
        past, h_1, h_2 = [D, *past][:2], h, h_1
    assert torch.allclose(got, x, atol=1e-12)


def test_the_levels_of_tau_are_those_of_the_vp_process() -> None:
    """tau is 1 from time 0.2 to 0.8, as the authors have it, of beta_d = 19.9 and beta_min = 0.1."""
    low, high = (math.sqrt(math.expm1(19.9 * t**2 / 2 + 0.1 * t)) for t in (0.2, 0.8))
    settings = SOLVERS["sa_solver"].settings()
    assert (settings.S_min, settings.S_max) == (round(low, 2), round(high, 1))


def test_tau_belongs_to_the_end_of_a_step_and_does_not_move_draws() -> None:
    sigmas, x = torch.tensor([20.0, 9.0, 2.0, 0.7, 0.3]), gaussian.state(20.0)
    noise = Fed(4)
    sa_solver(gaussian.denoise, x, sigmas.double(), S_min=0.7, S_max=2.0, randn_like=noise)
    assert noise.given == 4

    def strong(level: float) -> bool:
        """Whether the step that ends there adds noise."""
        step = torch.tensor([2 * level, level], dtype=torch.float64)
        window: dict[str, Any] = {"S_min": 0.7, "S_max": 2.0, "order": 1}
        got = sa_solver(lambda x, sigma: x * 0, x * 0, step, randn_like=torch.ones_like, **window)
        return bool((got != 0).all())

    assert [strong(level) for level in (2.1, 2.0, 1.0, 0.7, 0.6)] == [
        False,
        True,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("name", STOCHASTIC)
def test_the_strongest_noise_leaves_the_last_denoised_image(name: str) -> None:
    sigmas, D = torch.tensor([20.0, 4.0, 1.0], dtype=torch.float64), torch.ones(1, 4, 1, 1).double()
    strength = {"tau": 100.0, **EVERYWHERE} if name == "sa_solver" else {"eta": 100.0}
    if "order" in SOLVERS[name].names:
        strength["order"] = 1
    noise = 0.25 * torch.ones_like(D)
    got = SOLVERS[name].function(
        lambda x, sigma: D, 9 * D, sigmas, randn_like=lambda x: noise, **strength
    )
    # Both halves of a step's Brownian path are given alike.
    whole = 1.0 if name != "dpmpp_sde" else (1 + math.sqrt(2)) / math.sqrt(3)
    assert torch.allclose(got, D + whole * noise, atol=1e-9)


@pytest.mark.parametrize("name", STOCHASTIC)
@pytest.mark.parametrize("ending", ["zero", "sigma_min"])
def test_number_of_evaluations_and_of_draws(name: str, ending: Any) -> None:
    sigmas = with_ending(SIGMAS["edm"](6, 0.05, 20.0), ending)
    counted, noise = Counted(gaussian.denoise), Fed(12)
    SOLVERS[name].function(counted, gaussian.state(20.0), sigmas, randn_like=noise)
    calls = 2 if name == "dpmpp_sde" else 1
    assert counted.nfe == 5 * calls + (ending == "zero")
    assert noise.given == 5 * calls


@pytest.mark.parametrize("name", STOCHASTIC)
def test_an_image_depends_on_its_seed_not_on_its_batch(name: str) -> None:
    def run(seeds: list[int]) -> Tensor:
        noise = SeedNoise(seeds)
        x = noise.randn([len(seeds), 4, 1, 1]).double() * 20
        sigmas = with_ending(SIGMAS["edm"](6, 0.05, 20.0), "zero")
        return SOLVERS[name].function(gaussian.denoise, x, sigmas, randn_like=noise.randn_like)

    assert torch.equal(run([3, 4, 5])[1:2], run([4]))
    assert not torch.equal(run([4]), run([5]))


@pytest.mark.parametrize("name", STOCHASTIC)
def test_what_makes_no_sense_is_refused(name: str) -> None:
    run = partial(SOLVERS[name].function, gaussian.denoise, gaussian.state(1.0))
    assert name not in SAMPLERS
    with pytest.raises(ValueError, match="decreasing noise levels: it cannot lead from images"):
        run(torch.tensor([1.0, 2.0]))
    strength = "tau" if name == "sa_solver" else "eta"
    with pytest.raises(ValueError, match=f"{strength} must be 100 or less, got 1e\\+200"):
        run(torch.tensor([1.0, 0.5, 0.0]), **{strength: 1e200})
    for value in (-0.1, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"{strength} must be 0 or more, got {value}"):
            run(torch.tensor([1.0, 0.5, 0.0]), **{strength: value})
    if name == "sa_solver":
        with pytest.raises(ValueError, match=r"S_min is 50 and S_max 25\.1: no noise level"):
            run(torch.tensor([1.0, 0.5, 0.0]), S_min=50)
        with pytest.raises(ValueError, match="corrector of sa_solver has orders 1 to 4, or 0"):
            run(torch.tensor([1.0, 0.5, 0.0]), order=1, corrector_order=5)
    if "order" in SOLVERS[name].names:
        with pytest.raises(ValueError, match=f"{name} of order 3 needs at least 3 steps, got 2"):
            run(torch.tensor([1.0, 0.5, 0.0]), order=3)
