"""Solvers against diffusers' schedulers of the same kind, on Gaussian data and the same noise levels."""

import itertools
import math
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

import gaussian_case as gaussian
import pytest
import torch
from torch import Tensor

from sampling.adams import deis
from sampling.ancestral import euler_a
from sampling.dpmpp_sde import dpmpp_m_sde, dpmpp_sde
from sampling.sa_solver import sa_solver
from sampling.sigmas import SIGMAS
from sampling.singlestep import dpm_singlestep, singlestep_orders

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
diffusers: Any = None


@pytest.fixture(scope="module", autouse=True)
def library() -> None:
    """diffusers, imported for these tests only: it takes seconds."""
    global diffusers
    diffusers = pytest.importorskip("diffusers", reason="needs the package diffusers")


def scheduled(
    scheduler: Any,
    sigmas: Tensor,
    x: Tensor,
    before: Callable[[int], None] = lambda step: None,
    **arguments: Any,
) -> Tensor:
    """What a scheduler makes of the state `x` on our levels: its own state is x / sqrt(1 + sigma^2)."""
    scheduler.set_timesteps(len(sigmas) - 1)
    scheduler.sigmas = sigmas.clone()
    state = x / (1 + sigmas[0] ** 2).sqrt()
    for step, (time, sigma) in enumerate(zip(scheduler.timesteps, sigmas[:-1], strict=True)):
        x = state * (1 + sigma**2).sqrt()
        before(step)
        noise = (x - gaussian.denoise(x, sigma)) / sigma
        state = scheduler.step(noise, time, state, **arguments).prev_sample
    return state * (1 + sigmas[-1] ** 2).sqrt()


@pytest.mark.parametrize("steps", [6, 7, 8])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize(("predict", "algorithm"), [("x0", "dpmsolver++"), ("noise", "dpmsolver")])
@pytest.mark.filterwarnings("ignore:.*algorithm_type")
def test_singlestep(steps: int, order: int, predict: Any, algorithm: str) -> None:
    sigmas, x = SIGMAS["edm"](steps + 1, 0.05, 20.0), gaussian.state(20.0)
    scheduler = diffusers.DPMSolverSinglestepScheduler(
        solver_order=order, algorithm_type=algorithm, final_sigmas_type="sigma_min"
    )
    orders = singlestep_orders(steps, order)

    def before(step: int) -> None:
        # diffusers ends an even number of steps of order 2 with two of order 1; the authors' code does not.
        scheduler.order_list = [inner + 1 for taken in orders for inner in range(taken)]
        # The authors integrate on the way to the second stage; diffusers has that as its kind "heun".
        within = [["midpoint"], ["midpoint"] * 2, ["midpoint", "heun", "midpoint"]]
        kinds = [kind for taken in orders for kind in within[taken - 1]]
        scheduler.register_to_config(solver_type=kinds[step])

    expected = scheduled(scheduler, sigmas, x, before)
    got = dpm_singlestep(gaussian.denoise, x, sigmas, order=order, predict=predict)
    assert torch.allclose(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("grid", ["edm", "time_uniform"])
def test_deis_in_log_rho(order: int, grid: str) -> None:
    sigmas, x = SIGMAS[grid](9, 0.05, 20.0), gaussian.state(20.0)
    scheduler = diffusers.DEISMultistepScheduler(solver_order=order, lower_order_final=False)
    expected = scheduled(scheduler, sigmas, x)
    got = deis(gaussian.denoise, x, sigmas, order=order, variant="logrho")
    assert torch.allclose(got, expected, rtol=0, atol=1e-11)


# ---- of the SDE, with the same noise

SIGMAS_USED = SIGMAS["edm"](9, 0.05, 20.0)


def draws(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(2, 4, 1, 1, generator=generator, dtype=torch.float64) for _ in range(count)]


def fed(count: int) -> Callable[..., Tensor]:
    """randn_like, and diffusers' randn_tensor, which give these draws in their order."""
    given = iter(draws(count))
    return lambda *args, **options: next(given)


def module(name: str) -> Any:
    return import_module(f"diffusers.schedulers.{name}")


def test_euler_ancestral(monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers computes its steps in float32."""
    monkeypatch.setattr(module("scheduling_euler_ancestral_discrete"), "randn_tensor", fed(8))
    scheduler = diffusers.EulerAncestralDiscreteScheduler()
    scheduler.set_timesteps(8)
    scheduler.sigmas, scheduler.is_scale_input_called = SIGMAS_USED.clone(), True
    x = gaussian.state(20.0)
    for time, sigma in zip(scheduler.timesteps, SIGMAS_USED, strict=False):
        x = scheduler.step((x - gaussian.denoise(x, sigma)) / sigma, time, x).prev_sample
    got = euler_a(gaussian.denoise, gaussian.state(20.0), SIGMAS_USED, randn_like=fed(8))
    assert torch.allclose(got, x, rtol=0, atol=1e-6)


def test_dpmpp_sde(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler asks for a Brownian path between two noise levels: that of our draws."""
    monkeypatch.setitem(sys.modules, "torchsde", ModuleType("torchsde"))  # only for its own path
    scheduler = module("scheduling_dpmsolver_sde").DPMSolverSDEScheduler()
    scheduler.set_timesteps(9)  # it has one call less, as its last step would go to 0
    inner = SIGMAS_USED[1:-1].repeat_interleave(2)
    scheduler.sigmas = torch.cat([SIGMAS_USED[:1], inner, SIGMAS_USED[-1:]])
    pieces, levels = draws(16), SIGMAS_USED.tolist()
    middles = [math.sqrt(a * b) for a, b in itertools.pairwise(levels)]

    def path(start: Tensor, end: Tensor) -> Tensor:
        step = min(range(8), key=lambda i: abs(levels[i] - float(start)))
        first = math.sqrt(levels[step] - middles[step]) * pieces[2 * step]
        if math.isclose(float(end), middles[step]):
            return first / math.sqrt(levels[step] - middles[step])
        rest = math.sqrt(middles[step] - levels[step + 1]) * pieces[2 * step + 1]
        return (first + rest) / math.sqrt(levels[step] - levels[step + 1])

    scheduler.noise_sampler = path
    x = gaussian.state(20.0)
    for call, time in zip(range(16), scheduler.timesteps, strict=False):
        sigma = torch.tensor(middles[call // 2] if call % 2 else levels[call // 2])
        x = scheduler.step((x - gaussian.denoise(x, sigma)) / sigma, time, x).prev_sample
    got = dpmpp_sde(gaussian.denoise, gaussian.state(20.0), SIGMAS_USED, randn_like=fed(16))
    assert torch.allclose(got, x, rtol=0, atol=1e-6)


@pytest.mark.parametrize("order", [1, 2])
def test_multistep_sde(order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers rounds the noise to float32. Of order 3: test_stochastic.py."""
    monkeypatch.setattr(module("scheduling_dpmsolver_multistep"), "randn_tensor", fed(8))
    scheduler = diffusers.DPMSolverMultistepScheduler(
        solver_order=order,
        algorithm_type="sde-dpmsolver++",
        final_sigmas_type="sigma_min",
        lower_order_final=False,
    )
    expected = scheduled(scheduler, SIGMAS_USED, gaussian.state(20.0))
    settings: dict[str, Any] = {"order": order, "lower_order_final": False}
    got = dpmpp_m_sde(
        gaussian.denoise, gaussian.state(20.0), SIGMAS_USED, randn_like=fed(8), **settings
    )
    assert torch.allclose(got, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("orders", [(1, 1), (2, 1), (2, 2), (3, 3), (3, 4), (4, 4)])
@pytest.mark.parametrize("lower_order_final", [True, False])
def test_sa_solver(
    orders: tuple[int, int], lower_order_final: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """diffusers asks for tau at the beginning of a step, the authors' code and ours at its end."""
    order, corrector_order = orders
    monkeypatch.setattr(module("scheduling_sasolver"), "randn_tensor", fed(8))
    low, high, tau = 1.0, 6.0, 1.3
    times: list[float] = []

    def tau_at(time: Any) -> Tensor:
        end = float(SIGMAS_USED[times.index(float(time)) + 1])
        return torch.tensor(tau if low <= end <= high else 0.0, dtype=torch.float64)

    scheduler = diffusers.SASolverScheduler(
        predictor_order=order,
        corrector_order=corrector_order,
        lower_order_final=lower_order_final,
        tau_func=tau_at,
    )
    scheduler.set_timesteps(8)
    times += [float(time) for time in scheduler.timesteps]
    expected = scheduled(scheduler, SIGMAS_USED, gaussian.state(20.0))
    settings: dict[str, Any] = {"tau": tau, "S_min": low, "S_max": high}
    settings |= {"order": order, "corrector_order": corrector_order}
    settings |= {"lower_order_final": lower_order_final}
    got = sa_solver(
        gaussian.denoise, gaussian.state(20.0), SIGMAS_USED, randn_like=fed(8), **settings
    )
    assert torch.allclose(got, expected, rtol=0, atol=1e-12)
