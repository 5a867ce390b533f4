"""Every solver against the closed-form solution for Gaussian data, and what all solvers promise alike."""

import math
from functools import partial
from typing import Any

import gaussian_case as gaussian
import pytest
import torch
from torch import Tensor

from sampling.ablation import ablation
from sampling.adams import deis, ipndm, ipndm_v
from sampling.denoiser import Counted
from sampling.dpmpp import dpmpp
from sampling.onestep import dpm_2, euler, heun
from sampling.samplers import SAMPLERS, invert, sample
from sampling.sigmas import SIGMAS, with_ending
from sampling.singlestep import dpm_singlestep
from sampling.unipc import unipc

FULL = {"lower_order_final": False}
# The order of convergence to be measured, set by the solver's weakest step: often its first or its last.
ORDERS = {
    "euler": (euler, 1),
    "heun": (heun, 2),
    "dpm_2": (dpm_2, 2),
    "unipc-1-bh1": (partial(unipc, order=1, variant="bh1", **FULL), 2),
    "unipc-1-bh2": (partial(unipc, order=1, variant="bh2", **FULL), 2),
    "unipc-2-bh1": (partial(unipc, order=2, variant="bh1", **FULL), 3),
    "unipc-2-bh2": (partial(unipc, order=2, variant="bh2", **FULL), 3),
    "unipc-2-noise": (partial(unipc, order=2, predict="noise", **FULL), 3),
    "unipc-2-exact": (partial(unipc, order=2, exact=True, **FULL), 3),
    "unipc-3-bh1": (partial(unipc, order=3, variant="bh1", **FULL), 4),
    "unipc-3-bh2": (partial(unipc, order=3, variant="bh2", **FULL), 4),
    "unipc-3-noise": (partial(unipc, order=3, predict="noise", **FULL), 4),
    "unipc-3-exact": (partial(unipc, order=3, exact=True, **FULL), 4),
    "unipc-3-lower-final": (partial(unipc, order=3), 2),
    "dpmpp-1": (partial(dpmpp, order=1), 1),
    "dpmpp-2": (partial(dpmpp, order=2, **FULL), 2),
    "dpmpp-3": (partial(dpmpp, order=3, **FULL), 2),
    "ipndm-1": (partial(ipndm, order=1), 1),
    "ipndm-2": (partial(ipndm, order=2), 2),
    "ipndm-3": (partial(ipndm, order=3), 2),
    "ipndm-4": (partial(ipndm, order=4), 2),
    "ipndm_v-2": (partial(ipndm_v, order=2), 2),
    "ipndm_v-3": (partial(ipndm_v, order=3), 3),
    "ipndm_v-3-exact": (partial(ipndm_v, order=3, exact=True), 3),
    "deis-1": (partial(deis, order=1), 1),
    "deis-2": (partial(deis, order=2), 2),
    "deis-3": (partial(deis, order=3), 3),
    "deis-3-exact": (partial(deis, order=3, exact=True), 3),
    "deis-3-rhoab": (partial(deis, order=3, variant="rhoab"), 3),
    "deis-2-logrho": (partial(deis, order=2, variant="logrho"), 2),
    "deis-3-logrho": (partial(deis, order=3, variant="logrho"), 3),
    # Of order 3: test_singlestep.py.
    "dpm_singlestep-1": (partial(dpm_singlestep, order=1), 1),
    "dpm_singlestep-2": (partial(dpm_singlestep, order=2), 2),
    "dpm_singlestep-2-noise": (partial(dpm_singlestep, order=2, predict="noise"), 2),
    "ablation-vp-vp": (partial(ablation, schedule="vp", scaling="vp"), 2),
    "ablation-vp-none": (partial(ablation, schedule="vp", scaling="none", alpha=2 / 3), 2),
    "ablation-ve-vp": (partial(ablation, schedule="ve", scaling="vp", alpha=0.8), 2),
    "ablation-linear-vp": (partial(ablation, schedule="linear", scaling="vp", alpha=0.5), 2),
    "ablation-euler": (partial(ablation, schedule="vp", scaling="vp", solver="euler"), 1),
}
CHEAP = {name: solver for name, (solver, _) in ORDERS.items()}
CAN_INVERT = [name for name in CHEAP if not name.startswith("ablation")]


def error(solver: Any, grid: str, num_steps: int, start: Any, end: Any) -> Any:
    """Largest relative error of the whole journey between two noise levels, downwards or upwards."""
    sigmas = SIGMAS[grid](num_steps + 1, min(start, end), max(start, end))
    x = gaussian.state(start)
    result = solver(gaussian.denoise, x, sigmas if start > end else sigmas.flip(0))
    exact = gaussian.solution(x, start, end)
    return float(((result - exact) / (exact - gaussian.MEAN)).abs().max())


@pytest.mark.parametrize("grid", ["edm", "logsnr"])
@pytest.mark.parametrize("name", ORDERS)
def test_order_of_convergence(name: str, grid: str) -> None:
    solver, order = ORDERS[name]
    coarse, fine = (error(solver, grid, n, 20.0, 0.05) for n in (80, 160))
    assert fine < 0.07
    assert order - 0.35 < math.log2(coarse / fine) < order + 0.6


@pytest.mark.parametrize("name", CAN_INVERT)
def test_inversion_converges(name: str) -> None:
    coarse, fine = (error(CHEAP[name], "edm", n, 0.05, 20.0) for n in (80, 160))
    # Upwards the starting steps weigh most.
    assert math.log2(coarse / fine) > min(ORDERS[name][1], 2) - 0.35


@pytest.mark.parametrize("name", CAN_INVERT)
def test_inversion_undoes_sampling(name: str) -> None:
    nodes = SIGMAS["logsnr"](200, 0.01, 80.0)
    noise = gaussian.state(80.0) / 80
    images = sample(CHEAP[name], gaussian.denoise, noise, nodes, "sigma_min")
    again = invert(CHEAP[name], gaussian.denoise, images, nodes)
    assert again.dtype == torch.float64
    assert torch.allclose(again, noise, atol=0.1 if ORDERS[name][1] == 1 else 2e-3)


# deis-2 and deis-3: the published weights are sums that miss the length of the step by 1e-5, see test_adams.py.
@pytest.mark.parametrize("name", [name for name in CAN_INVERT if name not in ("deis-2", "deis-3")])
def test_a_constant_denoiser_is_solved_exactly(name: str) -> None:
    D = torch.randn(2, 3, 1, 1, dtype=torch.float64)
    x = D + 10 * torch.randn_like(D)
    sigmas = SIGMAS["edm"](6, 0.1, 10.0)
    result = CHEAP[name](lambda x, sigma: D, x, sigmas)
    assert torch.allclose(result, D + (x - D) * 0.01, atol=1e-12)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_step_to_zero_returns_the_denoised_image(name: str) -> None:
    calls = []

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        calls.append((x, sigma))
        return gaussian.denoise(x, sigma)

    sigmas = with_ending(SIGMAS["logsnr"](5, 0.05, 20.0), "zero")
    result = SAMPLERS[name](denoise, gaussian.state(20.0), sigmas)
    x, sigma = calls[-1]
    assert sigma == sigmas[-2]
    assert torch.equal(result, gaussian.denoise(x, sigma))


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("ending", ["zero", "sigma_min", "denoise"])
def test_number_of_evaluations(name: str, ending: Any) -> None:
    N = 6
    counted = Counted(gaussian.denoise)
    sample(SAMPLERS[name], counted, gaussian.state(20.0) / 20, SIGMAS["edm"](N, 0.05, 20.0), ending)
    if name in ("heun", "dpm_2"):
        assert (
            counted.nfe
            == {"zero": 2 * N - 1, "sigma_min": 2 * (N - 1), "denoise": 2 * (N - 1) + 1}[ending]
        )
    else:
        assert counted.nfe == {"zero": N, "sigma_min": N - 1, "denoise": N}[ending]


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_denoiser_sees_0_dim_float64_levels_and_the_state_is_left_alone(name: str) -> None:
    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        assert x.dtype == sigma.dtype == torch.float64 and sigma.ndim == 0
        return gaussian.denoise(x, sigma)

    x, sigmas = gaussian.state(20.0), with_ending(SIGMAS["edm"](6, 0.05, 20.0), "zero")
    before = x.clone(), sigmas.clone()
    result = SAMPLERS[name](denoise, x, sigmas)
    assert result.dtype == torch.float64 and result.shape == x.shape
    assert torch.equal(x, before[0]) and torch.equal(sigmas, before[1])


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_image_does_not_depend_on_its_batch(name: str) -> None:
    x, sigmas = gaussian.state(20.0), with_ending(SIGMAS["edm"](6, 0.05, 20.0), "zero")
    together = SAMPLERS[name](gaussian.denoise, x, sigmas)
    alone = SAMPLERS[name](gaussian.denoise, x[1:], sigmas)
    assert torch.equal(together[1:], alone)


@pytest.mark.parametrize("name", SAMPLERS)
def test_levels_out_of_range_are_refused(name: str) -> None:
    x = gaussian.state(1.0)
    for levels in ([1.0], [2.0, 1.0, 1.0], [0.0, 1.0], [1.0, -1.0]):
        with pytest.raises(ValueError, match="noise levels"):
            SAMPLERS[name](gaussian.denoise, x, torch.tensor(levels, dtype=torch.float64))


@pytest.mark.parametrize(
    "name, highest", [("unipc", 3), ("dpmpp", 3), ("ipndm", 4), ("ipndm_v", 4), ("deis", 4)]
)
def test_orders_out_of_range_are_refused(name: str, highest: int) -> None:
    x, sigmas = gaussian.state(1.0), torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert torch.isfinite(SAMPLERS[name](gaussian.denoise, x, sigmas, order=1)).all()
    with pytest.raises(ValueError, match=f"{name} of order 2 needs at least 2 steps, got 1"):
        SAMPLERS[name](gaussian.denoise, x, sigmas, order=2)
    for order in (0, highest + 1):
        with pytest.raises(ValueError, match=f"{name} has orders 1 to {highest}, got {order}"):
            SAMPLERS[name](gaussian.denoise, x, sigmas, order=order)


def test_one_step_from_an_explicit_level_is_one_denoising() -> None:
    nodes = torch.tensor([80.0], dtype=torch.float64)
    noise = torch.randn(2, 4, 1, 1)
    expected = gaussian.denoise(80 * noise.double(), nodes[0])
    assert torch.equal(sample(euler, gaussian.denoise, noise, nodes, "zero"), expected)


def test_the_denoise_ending_is_the_sigma_min_ending_denoised() -> None:
    nodes, noise = SIGMAS["edm"](5, 0.1, 20.0), torch.randn(2, 4, 1, 1)
    x = sample(heun, gaussian.denoise, noise, nodes, "sigma_min")
    assert torch.equal(
        sample(heun, gaussian.denoise, noise, nodes, "denoise"), gaussian.denoise(x, nodes[-1])
    )


def test_gradients_flow_through_a_multistep_run() -> None:
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    sigmas = SIGMAS["edm"](5, 0.1, 20.0)
    unipc(
        lambda x, sigma: scale * gaussian.denoise(x, sigma), gaussian.state(20.0), sigmas
    ).sum().backward()
    assert scale.grad is not None and scale.grad != 0
