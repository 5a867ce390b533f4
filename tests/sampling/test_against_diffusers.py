"""Solvers against diffusers' schedulers of the same kind, on Gaussian data and the same noise levels."""

from collections.abc import Callable
from typing import Any

import gaussian_case as gaussian
import pytest
import torch
from torch import Tensor

from sampling.adams import deis
from sampling.sigmas import SIGMAS
from sampling.singlestep import dpm_singlestep, singlestep_orders

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
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_deis_in_log_rho(order: int, grid: str) -> None:
    sigmas, x = SIGMAS[grid](9, 0.05, 20.0), gaussian.state(20.0)
    scheduler = diffusers.DEISMultistepScheduler(solver_order=order, lower_order_final=False)
    expected = scheduled(scheduler, sigmas, x)
    got = deis(gaussian.denoise, x, sigmas, order=order, variant="logrho")
    assert torch.allclose(got, expected, rtol=0, atol=1e-11)
