"""sigma of a timestep, for every scheduler class of the installed diffusers: as its add_noise has it, or refused."""

import copy
import math
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import skip
from skip.diffusers import sigma_from_scheduler
from skip.diffusers.schedulers import SCHEDULERS, Angle, Clock
from skip.scale import SkipScale

diffusers: Any = None


@pytest.fixture(scope="module", autouse=True)
def _library() -> None:
    """Imported with the first test: it takes seconds, and every worker collects every file."""
    global diffusers
    diffusers = pytest.importorskip(
        "diffusers", reason="needs the package diffusers: pip install diffusers"
    )


# Tokens, consistency decoders, mixed units: of these nothing tells one noise level.
REFUSED = {
    "AmusedScheduler",
    "BlockRefinementScheduler",
    "ConsistencyDecoderScheduler",
    "DiscreteDDIMScheduler",
    "EntropyBoundScheduler",
    "HeliosDMDScheduler",
    "HeliosScheduler",
    "KarrasVeScheduler",
    "RFD4ProteinaScheduler",
    "SCMScheduler",
    "VQDiffusionScheduler",
}
NEEDS: dict[str, dict[str, Any]] = {
    "AmusedScheduler": {"mask_token_id": 1},
    "VQDiffusionScheduler": {"num_vec_classes": 5},
}
# Those without an add_noise of every step's own, and how sigma stands in them otherwise.
OTHERWISE: dict[str, Callable[[Any, int], float]] = {
    "FlowMatchHeunDiscreteScheduler": lambda s, i: flow(s, i),
    "IPNDMScheduler": lambda s, i: float(s.betas[i] / s.alphas[i]),
    "KDPM2DiscreteScheduler": lambda s, i: float((s.sigmas_interpol if i % 2 else s.sigmas)[i]),
    "LTXEulerAncestralRFScheduler": lambda s, i: flow(s, i),
    "MiniMaxH3Scheduler": lambda s, i: flow(s, i),
    "ScoreSdeVeScheduler": lambda s, i: float(s.timesteps[i]),
    "ScoreSdeVpScheduler": lambda s, i: vp(s.config, float(s.timesteps[i])),
    "PiflowScheduler": lambda s, i: flow(s, i),
    "DDIMInverseScheduler": lambda s, i: cumulated(s, int(s.timesteps[i])),
    "DPMSolverMultistepInverseScheduler": lambda s, i: cumulated(s, int(s.timesteps[i])),
    "RePaintScheduler": lambda s, i: cumulated(s, int(s.timesteps[i])),
}


def flow(scheduler: Any, i: int) -> float:
    """Of x = (1 - s) x_0 + s noise."""
    return float(scheduler.sigmas[i] / (1 - scheduler.sigmas[i]))


def vp(config: Any, t: float) -> float:
    """std / mean of Song's VP SDE, by adding up its beta(t)."""
    pieces = 20000
    betas = config.beta_min + (torch.arange(pieces) + 0.5) / pieces * t * (
        config.beta_max - config.beta_min
    )
    return math.sqrt(math.exp(float(betas.double().mean()) * t) - 1)


def cumulated(scheduler: Any, t: int) -> float:
    """By adding up the betas."""
    a = float(torch.cumprod(1 - scheduler.betas.double(), 0)[t])
    return math.sqrt((1 - a) / a)


def noised(scheduler: Any, t: Tensor) -> float:
    """beta / alpha of x = alpha x_0 + beta noise, by the scheduler itself."""
    add = getattr(scheduler, "add_noise", None) or scheduler.scale_noise

    def mixed(x: float, noise: float) -> float:
        given = torch.full((1, 1, 1, 1), x), t.reshape(1), torch.full((1, 1, 1, 1), noise)
        if add.__name__ == "add_noise":
            return float(add(given[0], given[2], given[1]))
        return float(add(*given))

    alpha = mixed(1.0, 0.0)
    return math.inf if alpha == 0 else mixed(0.0, 1.0) / alpha


def names() -> list[str]:
    """Every scheduler class of the installed library; not those for JAX."""
    everything = {*dir(diffusers), *dir(diffusers.schedulers)}
    found = {name for name in everything if name.endswith("Scheduler")}
    return sorted(name for name in found if not name.startswith("Flax"))


def instance(name: str, **config: Any) -> Any:
    """One with timesteps set, or one without where the class needs more to be made."""
    cls = getattr(diffusers if name in dir(diffusers) else diffusers.schedulers, name)
    if name == "RFD4ProteinaScheduler":
        return cls.__new__(cls)
    scheduler = cls(**NEEDS.get(name, {}) | config)
    if name not in REFUSED:
        scheduler.set_timesteps(6)
    return scheduler


def check(scheduler: Any) -> None:
    """sigma at each of its timesteps is what it means by them."""
    sigma_of = sigma_from_scheduler(scheduler)
    name = type(scheduler).__name__
    timesteps = torch.as_tensor(scheduler.timesteps)
    sigmas = sigma_of(timesteps)
    assert sigmas.dtype == torch.float64 and sigmas.shape == timesteps.shape
    for i, t in enumerate(timesteps):
        expected = OTHERWISE[name](scheduler, i) if name in OTHERWISE else noised(scheduler, t)
        found = float(sigmas[i])
        if (
            expected > 900
        ):  # where alpha is the last digits of float32 or of an integer timestep, or nothing
            assert found > 900, (name, i)
        else:
            # Steps between two timesteps are rounded, in float32 or to the next one.
            assert found == pytest.approx(expected, rel=2e-2, abs=1e-3), (name, i)
        assert float(sigma_of(t)) == found


def test_every_scheduler_is_right_or_refused_in_one_line() -> None:
    found = names()
    assert len(found) > 40
    missing = []
    for name in found:
        try:
            scheduler = instance(name)
        except ImportError as error:
            assert "torchsde" in str(error)
            missing.append(name)
            continue
        if name in REFUSED:
            with pytest.raises(
                ValueError, match=f"^{name} does not tell sigma from a timestep; [^\n]*$"
            ):
                sigma_from_scheduler(scheduler)
        else:
            check(scheduler)
    assert set(found) == (set(SCHEDULERS) | REFUSED) & set(found), "a new one: which is it?"
    assert set(missing) <= {"CosineDPMSolverMultistepScheduler", "DPMSolverSDEScheduler"}


FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("DDIMScheduler", {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}),
        ("DDPMWuerstchenScheduler", {"scaler": 2.0}),
        ("DDPMWuerstchenScheduler", {"scaler": 0.5}),
        ("DEISMultistepScheduler", FLOW),
        ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
        ("DPMSolverMultistepScheduler", FLOW | {"flow_shift": 3.0}),
        ("EDMDPMSolverMultistepScheduler", {"sigma_schedule": "exponential"}),
        ("EDMEulerScheduler", {"sigma_max": 500.0, "sigma_data": 1.0}),
        ("EulerDiscreteScheduler", {"timestep_type": "continuous", "prediction_type": "v_prediction"}),
        ("EulerDiscreteScheduler", {"timestep_type": "continuous"}),
        ("EulerDiscreteScheduler", {"use_karras_sigmas": True, "beta_schedule": "scaled_linear"}),
        ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
        ("FlowMatchEulerDiscreteScheduler", {"num_train_timesteps": 500, "use_karras_sigmas": True}),
        ("HeunDiscreteScheduler", {"use_karras_sigmas": True}),
        ("UniPCMultistepScheduler", FLOW),
    ],
)  # fmt: skip
def test_settings_of_schedulers(name: str, config: dict[str, Any]) -> None:
    check(instance(name, **config))


def test_sigmas_that_are_the_time_of_the_image() -> None:
    scheduler = instance("FlowMatchEulerDiscreteScheduler", invert_sigmas=True)
    noise = 1 - scheduler.sigmas[:-1].double()
    assert torch.allclose(sigma_from_scheduler(scheduler)(scheduler.timesteps), noise / (1 - noise))


def test_the_angle_of_the_cosine_schedule() -> None:
    """Stable Audio's scheduler; it needs torchsde, so its own function of sigma is written out here."""
    sigma = torch.tensor([0.3, 1.0, 500.0], dtype=torch.float64)
    assert torch.allclose(Angle()(sigma.atan() / math.pi * 2), sigma)


def pixel_unet() -> Any:
    return diffusers.UNet2DModel(
        sample_size=8, norm_num_groups=2, layers_per_block=1, block_out_channels=(4, 8),
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    ).eval()  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "EDMEulerScheduler",
        "EDMDPMSolverMultistepScheduler",
        "FlowMatchEulerDiscreteScheduler",
    ],
)
@torch.inference_mode()
def test_a_window_is_where_it_should_be_in_a_run(name: str) -> None:
    """Step by step: tuned where the scheduler's sigma is in the window, plain elsewhere."""
    torch.manual_seed(0)
    unet, scheduler = pixel_unet(), instance(name)
    scale = SkipScale(0.5, window=(0.15, 3.0))
    x = torch.randn(1, 3, 8, 8)
    inside = []
    for i, t in enumerate(scheduler.timesteps):
        plain = unet(x, t).sample
        with skip.apply(unet, SkipScale(0.5)):
            tuned = unet(x, t).sample
        with skip.apply(unet, scale, scheduler):
            now = unet(x, t).sample
        s = float(scheduler.sigmas[i])
        sigma = s / (1 - s) if "Flow" in name and s < 1 else s if "Flow" not in name else math.inf
        inside.append(0.15 < sigma <= 3)
        assert torch.equal(now, tuned if inside[-1] else plain)
    assert True in inside and False in inside


@torch.inference_mode()
def test_the_axis_time_of_continuous_times() -> None:
    torch.manual_seed(0)
    unet, scheduler = pixel_unet(), instance("FlowMatchEulerDiscreteScheduler")
    scale = SkipScale(layers=(0.2, 0.4, 0.6, 0.8), time="increasing", axis="time")
    x, t = torch.randn(1, 3, 8, 8), torch.tensor(250.0)
    with skip.apply(unet, scale, scheduler):
        found = unet(x, t).sample
    with skip.apply(unet, SkipScale(layers=(0.4, 0.55, 0.7, 0.85))):
        assert torch.equal(found, unet(x, t).sample)
    with pytest.raises(ValueError, match="are noise levels, not times"):
        skip.apply(unet, scale, instance("EDMEulerScheduler"))


def test_a_class_of_ones_own() -> None:
    """With alphas_cumprod it tells; a subclass of a known one is that one; another's of the same name is not."""
    table = SimpleNamespace(alphas_cumprod=torch.tensor([0.9, 0.5]), config={})
    assert float(sigma_from_scheduler(table)(torch.tensor(1))) == pytest.approx(1)
    mine = type("Mine", (diffusers.EDMEulerScheduler,), {})()
    assert float(sigma_from_scheduler(mine)(torch.tensor(0.0))) == 1
    with pytest.raises(ValueError, match="EDMEulerScheduler does not tell"):
        sigma_from_scheduler(type("EDMEulerScheduler", (), {})())


@pytest.mark.parametrize(
    "name",
    [
        "DDIMScheduler",
        "DDPMWuerstchenScheduler",
        "EDMEulerScheduler",
        "FlowMatchEulerDiscreteScheduler",
    ],
)
def test_what_tells_sigma_can_be_copied_and_saved(name: str) -> None:
    clock = sigma_from_scheduler(instance(name))
    t = torch.tensor([0.25, 0.5])
    for twin in (copy.deepcopy(clock), pickle.loads(pickle.dumps(clock))):
        assert isinstance(twin, Clock) and torch.equal(twin(t), clock(t))
