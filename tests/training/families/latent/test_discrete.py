"""The noise table, and DDIM's formulas in abar against our denoiser in sigma."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import golden_json, golden_npz, relative_error
from torch import Tensor, nn

from sampling.samplers import SAMPLERS
from sampling.settings import SamplerSettings
from training.families.latent.discrete import BETAS, DiscretePrecond, NoiseTable, betas

LDM: dict[str, Any] = {"beta_start": 0.0015, "beta_end": 0.0195}


class Predictor(nn.Module):
    """A smooth made-up network of image and time."""

    num_skips = 0

    def forward(self, x: Tensor, times: Tensor, *_: Any) -> Tensor:
        phase = (times / 200).reshape(-1, 1, 1, 1).to(x.dtype)
        return torch.tanh(1.5 * x.roll(1, -1) + phase) + 0.3 * x


class Gaussian(nn.Module):
    """The best predictor for images N(0, s^2), from the time alone; abar by its definition, not by NoiseTable."""

    num_skips = 0

    def __init__(self, prediction: str, first_timestep: int = 0, s: float = 0.5) -> None:
        super().__init__()
        noise_added = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        self.abar = (1 - noise_added).cumprod(0)
        self.prediction, self.first, self.s = prediction, first_timestep, s

    def forward(self, x: Tensor, times: Tensor, *_: Any) -> Tensor:
        index = times.double().reshape(-1, 1, 1, 1) - self.first
        lower = index.floor().long().clamp(0, 998)
        log = self.abar.log()
        abar = (log[lower] * (lower + 1 - index) + log[lower + 1] * (index - lower)).exp()
        variance = abar * self.s**2 + 1 - abar
        noise = (1 - abar).sqrt() / variance * x
        image = abar.sqrt() * self.s**2 / variance * x
        return (
            noise if self.prediction == "eps" else abar.sqrt() * noise - (1 - abar).sqrt() * image
        )


def exact(net: DiscretePrecond) -> Callable[[Tensor, Tensor], Tensor]:
    """D(x; sigma) in float64, where `net` itself computes in float32."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        c_skip, c_out, c_in, time = net.scalings(sigma.double().reshape(-1, 1, 1, 1))
        return c_skip * x + c_out * net.model(c_in * x, time.flatten())

    return denoise


def test_the_published_tables() -> None:
    facts, arrays = golden_json("ldm")["latent_diffusion"], golden_npz("ldm")
    start, end = facts["linear_start"], facts["linear_end"]
    expected = torch.from_numpy(arrays["schedule/betas"])
    assert torch.allclose(
        betas("scaled_linear", start, end, 1000).float(), expected, rtol=2e-7, atol=0
    )
    table = NoiseTable("scaled_linear", start, end, 1000)
    abar = torch.from_numpy(arrays["schedule/alphas_cumprod"])
    assert torch.allclose(table.alphas_cumprod.float(), abar, rtol=2e-7, atol=0)
    assert torch.allclose(
        table.levels.float(),
        ((1 - abar.double()) / abar.double()).sqrt().float(),
        rtol=1e-4,
        atol=0,
    )
    assert not table.state_dict()


def test_schedules_by_hand() -> None:
    assert betas("linear", 0.1, 0.3, 3).tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert betas("scaled_linear", 0.04, 0.16, 3).tolist() == pytest.approx([0.04, 0.09, 0.16])
    table = NoiseTable("linear", 0.1, 0.3, 3)
    assert table.alphas_cumprod.tolist() == pytest.approx([0.9, 0.72, 0.504])
    assert table.levels.tolist() == pytest.approx(
        [(0.1 / 0.9) ** 0.5, (0.28 / 0.72) ** 0.5, (0.496 / 0.504) ** 0.5]
    )


@pytest.mark.parametrize("schedule", BETAS)
@pytest.mark.parametrize("rounding", ["nearest", "fractional"])
@pytest.mark.parametrize("first", [0, 1])
def test_levels_have_their_own_times(schedule: str, rounding: Any, first: int) -> None:
    table = NoiseTable(schedule, first_timestep=first, rounding=rounding)
    times = torch.arange(1000, dtype=torch.float64) + first
    assert torch.allclose(table.timestep(table.levels), times, rtol=0, atol=1e-7)
    assert torch.allclose(table.sigma(times), table.levels, rtol=1e-12, atol=0)
    assert table.timestep(torch.tensor([[0.0], [1e6]])).tolist() == [[first], [first + 999]]
    assert torch.equal(table.sigma(torch.tensor([-5.0, 2e3])), table.levels[[0, -1]])
    shape = table.levels.reshape(10, 1, 100)
    assert table.timestep(shape).shape == table.round_sigma(shape).shape == shape.shape
    assert torch.equal(table.round_sigma(table.levels), table.levels)


def test_fractional_times_divide_log_abar_evenly() -> None:
    table = NoiseTable(**LDM, rounding="fractional")
    abar = table.alphas_cumprod
    between = abar[:-1] ** 0.75 * abar[1:] ** 0.25
    sigma = ((1 - between) / between).sqrt()
    expected = torch.arange(999, dtype=torch.float64) + 0.25
    assert torch.allclose(table.timestep(sigma), expected, rtol=0, atol=1e-6)
    assert torch.allclose(table.sigma(expected), sigma, rtol=1e-9, atol=0)
    assert torch.equal(table.round_sigma(sigma), sigma)


def test_the_nearest_time_is_that_of_the_nearest_level() -> None:
    table = NoiseTable(**LDM)
    sigma = torch.cat(
        [
            torch.logspace(-3, 3, 500, dtype=torch.float64),
            (table.levels[3:4] + table.levels[4:5]) / 2,
        ]
    )
    distance = (sigma[:, None] - table.levels).abs()
    nearest = 999 - distance.flip(1).argmin(1)
    assert torch.equal(table.timestep(sigma), nearest.double())
    assert torch.equal(table.round_sigma(sigma), table.levels[nearest])
    assert float(table.round_sigma(1.0)) == pytest.approx(1, abs=0.005)


@pytest.mark.parametrize("prediction", ["eps", "v"])
@pytest.mark.parametrize("steps", [1, 10, 50])
def test_euler_in_sigma_is_ddim(prediction: Any, steps: int) -> None:
    net = DiscretePrecond(Predictor(), 4, 2, prediction=prediction, **LDM)
    indices = [1 + j * (1000 // steps) for j in reversed(range(steps))] + [0]
    abar = (1 - torch.linspace(0.0015**0.5, 0.0195**0.5, 1000, dtype=torch.float64) ** 2).cumprod(0)
    start = torch.randn(3, 2, 4, 4, dtype=torch.float64)

    x_t = start
    for t, s in itertools.pairwise(indices):
        output = net.model(x_t, torch.tensor([t], dtype=torch.float64))
        a, b = abar[t], abar[s]
        noise = output if prediction == "eps" else a.sqrt() * output + (1 - a).sqrt() * x_t
        image = (x_t - (1 - a).sqrt() * noise) / a.sqrt()
        x_t = b.sqrt() * image + (1 - b).sqrt() * noise

    sigmas = net.table.ddim_sigmas(steps)
    scale = (1 + sigmas**2).sqrt()
    assert torch.allclose(sigmas, ((1 - abar) / abar).sqrt()[indices], rtol=1e-12, atol=0)
    x = SAMPLERS["euler"](exact(net), start * scale[0], sigmas)
    assert relative_error(x / scale[-1], x_t) < 1e-12

    settings = SamplerSettings(
        sampler="euler", sigmas=",".join(map(repr, sigmas.tolist())), ending="sigma_min"
    )
    nodes = settings.nodes(net)
    single = SAMPLERS["euler"](lambda x, s: net(x, s).double(), start * scale[0], nodes)
    assert relative_error(single / scale[-1], x_t) < 2e-5


@pytest.mark.parametrize("prediction", ["eps", "v"])
@pytest.mark.parametrize(("rounding", "first"), [("nearest", 0), ("fractional", 1)])
@torch.inference_mode()
def test_gaussian_data_have_a_linear_denoiser(prediction: Any, rounding: Any, first: int) -> None:
    net = DiscretePrecond(
        Gaussian(prediction, first),
        4,
        3,
        prediction=prediction,
        rounding=rounding,
        first_timestep=first,
    )
    sigma = (
        net.table.levels[[0, 30, 500, 999]]
        if rounding == "nearest"
        else torch.tensor([0.05, 0.3, 2.718, 14.0])
    )
    x = torch.randn(4, 3, 4, 4) * (0.25 + sigma.reshape(-1, 1, 1, 1) ** 2).sqrt().float()
    ideal = 0.25 / (0.25 + sigma.reshape(-1, 1, 1, 1).double() ** 2) * x
    for i in range(4):
        assert relative_error(exact(net)(x.double(), sigma)[i], ideal[i]) < 1e-9
        # X - sigma F loses digits at high noise.
        assert relative_error(net(x, sigma)[i], ideal[i]) < 3e-4
    assert net(x, sigma).dtype == torch.float32
    assert relative_error(net(x, float(sigma[1]))[1], net(x, sigma)[1]) < 1e-5


def test_nodes() -> None:
    table = NoiseTable(first_timestep=1, rounding="fractional")
    sigmas = table.uniform_sigmas(51)
    assert sigmas.shape == (51,) and bool((sigmas.diff() < 0).all())
    assert torch.allclose(
        table.timestep(sigmas), torch.linspace(1000, 1, 51, dtype=torch.float64), rtol=0, atol=1e-6
    )
    nearest = NoiseTable()
    assert torch.equal(nearest.uniform_sigmas(1000), nearest.levels.flip(0))
    assert all(float(level) in nearest.levels.tolist() for level in nearest.uniform_sigmas(7))
    assert torch.equal(nearest.ddim_sigmas(999), nearest.levels.flip(0))


def test_grids_by_name() -> None:
    net = DiscretePrecond(Predictor(), 4, 2, **LDM)
    levels = net.table.levels
    assert torch.equal(
        SamplerSettings("euler", 10, "ddim").nodes(net),
        levels[[1 + 100 * j for j in range(9, -1, -1)]],
    )
    assert torch.equal(
        SamplerSettings(steps=7, sigmas="timesteps").nodes(net), net.table.uniform_sigmas(7)
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: betas("cosine", 0.1, 0.2, 10), "linear, scaled_linear"),
        (lambda: betas("linear", 0.2, 0.1, 10), "0.2 to 0.1"),
        (lambda: betas("linear", 0.0, 0.1, 10), "0 < beta_start"),
        (lambda: betas("linear", 0.1, 1.0, 10), "beta_end < 1"),
        (lambda: betas("linear", 0.1, 0.2, 1), "num_timesteps is 1"),
        (lambda: NoiseTable(rounding="up"), "nearest, fractional"),  # type: ignore[arg-type]
        (lambda: NoiseTable().uniform_sigmas(1), "2 to 1000"),
        (lambda: NoiseTable().uniform_sigmas(1001), "2 to 1000"),
        (lambda: NoiseTable().ddim_sigmas(0), "1 to 999"),
        (lambda: NoiseTable().ddim_sigmas(1000), "1 to 999"),
        (lambda: DiscretePrecond(Predictor(), 4, 2, prediction="x0"), "eps, v"),  # type: ignore[arg-type]
    ],
)
def test_nonsense_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_the_range_of_the_table_is_that_of_the_network() -> None:
    net = DiscretePrecond(Predictor(), 4, 2, **LDM)
    assert net.sigma_min == pytest.approx(math.sqrt(0.0015 / 0.9985), rel=1e-12)
    assert net.sigma_max == float(net.table.levels[-1]) > 50
    nodes = SamplerSettings(sampler="heun", steps=10, sigma_max=1000.0).nodes(net)
    assert nodes[0] == net.sigma_max and nodes[-1] == net.sigma_min
    assert all(float(node) in net.table.levels.tolist() for node in nodes)
    assert net.init_kwargs == {
        "img_resolution": 4, "img_channels": 2, "label_dim": 0, "use_fp16": False, "prediction": "eps", **LDM,
    }  # fmt: skip
