"""The loop from seeds to images: EDM's draws, EDM's images, and no trace of the batch."""

import math
from typing import Any

import pytest
import torch
from conftest import fill, golden_json, golden_npz
from tiny_network import tiny_network
from torch import Tensor

from sampling.generate import Batch, generate, to_uint8
from sampling.samplers import SOLVERS
from sampling.settings import SamplerSettings
from training.precond import PRECONDS

FACTS, ARRAYS = golden_json("samplers"), golden_npz("samplers")


class Recorder:
    """A network that answers 0 and notes what it is asked."""

    img_channels, img_resolution, sigma_min, sigma_max = 2, 4, 0.0, math.inf

    def __init__(self, label_dim: int = 10) -> None:
        self.label_dim = label_dim
        self.asked: list[tuple[Tensor, float, Tensor | None]] = []

    def round_sigma(self, sigma: float | Tensor) -> Tensor:
        return torch.as_tensor(sigma)

    def __call__(self, x: Tensor, sigma: Tensor, class_labels: Tensor | None = None) -> Tensor:
        self.asked.append((x, float(sigma), class_labels))
        return torch.zeros_like(x)

    def decode(self, x: Tensor) -> Tensor:
        return x


def collected(net: Any, settings: SamplerSettings, seeds: list[int], **options: Any) -> Batch:
    batches = list(generate(net, settings, seeds, "cpu", **options))
    classes = [index for batch in batches for index in batch.classes]
    images = torch.cat([batch.images for batch in batches])
    return Batch(
        images, classes, [seed for batch in batches for seed in batch.seeds], batches[0].nfe
    )


def edm_draws(seed: int, label_dim: int, steps: int) -> tuple[Tensor, int, list[Tensor]]:
    """What EDM draws for one image, in its order, from one generator."""
    generator = torch.Generator("cpu").manual_seed(seed % 2**32)
    noise = torch.randn([2, 4, 4], generator=generator)
    index = int(torch.randint(label_dim, [], generator=generator)) if label_dim else -1
    churn = [torch.randn([2, 4, 4], generator=generator, dtype=torch.float64) for _ in range(steps)]
    return noise, index, churn


@pytest.mark.parametrize("label_dim, class_idx", [(0, None), (10, None), (10, 3)])
def test_noise_then_class_then_churn_come_from_one_generator(
    label_dim: int, class_idx: int | None
) -> None:
    seeds, net = [5, 2**32 + 7], Recorder(label_dim)
    settings = SamplerSettings(sigmas="10,3", S_churn=0.5, S_noise=2.0)
    batch = collected(net, settings, seeds, class_idx=class_idx)
    # Heun: twice in the first step, once in the last.
    (x0, sigma0, labels), _, (x2, sigma2, _) = net.asked
    gamma = 0.5 / 2
    assert sigma0 == pytest.approx(10 * (1 + gamma)) and sigma2 == pytest.approx(3 * (1 + gamma))
    for i, seed in enumerate(seeds):
        noise, index, churn = edm_draws(seed, label_dim, 2)
        add = math.sqrt((1 + gamma) ** 2 - 1) * 2.0
        first = 10 * noise.double() + 10 * add * churn[0]
        assert torch.allclose(x0[i].double(), first, rtol=1e-6)
        # of a denoiser that answers 0 Heun's step is exact: x / sigma is constant
        assert torch.allclose(
            x2[i].double(), first * 3 / sigma0 + 3 * add * churn[1], rtol=1e-5, atol=1e-6
        )
        if label_dim:
            assert labels is not None and int(labels[i].argmax()) == (
                index if class_idx is None else class_idx
            )
            assert labels[i].sum() == 1
    assert (labels is None) == (label_dim == 0) and len(batch.classes) == (2 if label_dim else 0)


def test_batches_of_one_size_end_with_images_that_are_thrown_away() -> None:
    net, settings = Recorder(), SamplerSettings(steps=2, S_churn=1)
    whole = collected(net, settings, [3, 1, 4], batch_size=2, one_size=True)
    assert {len(x) for x, _, _ in net.asked} == {2}
    plain = collected(Recorder(), settings, [3, 1, 4], batch_size=2)
    assert torch.equal(whole.images, plain.images)
    assert (whole.classes, whole.seeds, whole.nfe) == (plain.classes, plain.seeds, plain.nfe)


def test_balanced_labels_count_seeds_and_leave_the_draws() -> None:
    nets = [Recorder(), Recorder()]
    settings = SamplerSettings(steps=3, S_churn=1.0)
    random = collected(nets[0], settings, [9, 10, 31])
    balanced = collected(nets[1], settings, [9, 10, 31], labels="balanced")
    assert balanced.classes == [9, 0, 1] != random.classes
    assert all(torch.equal(a[0], b[0]) for a, b in zip(nets[0].asked, nets[1].asked, strict=True))


@pytest.mark.parametrize(
    "name", ["edm_adm/rho1/edm_n5", "edm_ddpmpp/rho1/edm_n5", "edm_adm/rho1/ablation0"]
)
def test_seeds_become_edms_images(name: str) -> None:
    """Latents, classes, grid, solver and rounding to 8 bits, end to end."""
    entry = next(entry for entry in FACTS["edm"] if entry["name"] == name)
    spec, kwargs = FACTS["networks"][name.split("/")[0]], dict(entry["kwargs"])
    net = fill(PRECONDS[spec["precond_class"]](**spec["kwargs"])).eval().requires_grad_(False)
    steps, grid = kwargs.pop("num_steps"), kwargs.pop("discretization", None)
    sampler = "heun" if entry["sampler"] == "edm_sampler" else "ablation"
    settings = SamplerSettings(sampler=sampler, steps=steps, sigmas=grid, **kwargs)
    batch = collected(net, settings, FACTS["settings"]["seeds"], batch_size=3)
    expected = to_uint8(torch.from_numpy(ARRAYS[name]).double())
    assert batch.nfe == entry["nfe"]
    assert (batch.images.int() - expected.int()).abs().max() <= 1
    assert (batch.images == expected).float().mean() > 0.999


@pytest.mark.parametrize(
    "settings",
    [
        SamplerSettings(steps=5),
        SamplerSettings(steps=5, S_churn=10.0),
        SamplerSettings(sampler="dpmpp_sde", steps=3),
        SamplerSettings(sampler="sa_solver", steps=5),
    ],
)
def test_an_image_does_not_depend_on_its_batch(settings: SamplerSettings) -> None:
    seeds = list(range(100, 140))
    net = tiny_network()
    whole = collected(net, settings, seeds, batch_size=64)
    for other in (
        collected(net, settings, seeds[:16], batch_size=1),
        collected(net, settings, seeds, batch_size=7),
        collected(net, settings, seeds[::-1], batch_size=64),
    ):
        order = [whole.seeds.index(seed) for seed in other.seeds]
        difference = (whole.images[order].int() - other.images.int()).abs()
        assert difference.max() <= 1 and (difference == 0).float().mean() >= 0.999
        assert other.classes == [whole.classes[i] for i in order]


@pytest.mark.parametrize("sampler", SOLVERS)
def test_evaluations_of_a_run_are_those_foretold(sampler: str) -> None:
    net, settings = Recorder(), SamplerSettings(sampler=sampler, steps=5)
    batch = collected(net, settings, [0, 1], batch_size=2)
    assert batch.nfe == len(net.asked) == settings.nfe(net)


def test_eight_bits_by_edms_rule() -> None:
    x = torch.tensor(
        [-2.0, -1.0, -1 + 1.99 / 127.5, 0.0, 1 / 127.5, 126.99 / 127.5, 1.0, 2.0],
        dtype=torch.float64,
    )
    assert to_uint8(x).tolist() == [0, 0, 2, 128, 129, 254, 255, 255]


def test_nothing_is_made_without_seeds_and_iteration_is_lazy() -> None:
    net = Recorder()
    assert list(generate(net, SamplerSettings(steps=3), [], "cpu")) == []
    batches = generate(net, SamplerSettings(steps=3), [0, 1], "cpu", batch_size=1)
    assert net.asked == []
    next(batches)
    assert len(net.asked) == 5


@pytest.mark.parametrize(
    "label_dim, options, message",
    [
        (0, {"class_idx": 0}, "class 0 is asked for, but the network is unconditional"),
        (
            0,
            {"labels": "balanced"},
            "balanced labels are asked for, but the network is unconditional",
        ),
        (10, {"class_idx": 10}, "class 10 is asked for, but the network has classes 0 to 9"),
        (10, {"class_idx": -1}, "class -1 is asked for"),
        (10, {"labels": "alphabetic"}, "unknown labels 'alphabetic'; choose from random, balanced"),
        (10, {"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_wrong_settings_are_refused_before_the_first_batch(
    label_dim: int, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        generate(Recorder(label_dim), SamplerSettings(steps=3), [0], "cpu", **options)
    with pytest.raises(ValueError, match="needs at least 3 steps"):
        generate(Recorder(), SamplerSettings(sampler="unipc", steps=2), [0], "cpu")


def test_nan_stops_the_run() -> None:
    class Broken(Recorder):
        def __call__(self, x: Tensor, sigma: Tensor, class_labels: Tensor | None = None) -> Tensor:
            return x * (math.nan if sigma < 5 else 0.5)

    with pytest.raises(
        RuntimeError, match=r"returned NaN or infinity at sigma = 2\.51522: compute in float32"
    ):
        collected(Broken(), SamplerSettings(steps=3), [0])
