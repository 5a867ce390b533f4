"""The loop with guidance: which network is asked what, what it costs, and what is refused."""

import math
from typing import Any

import pytest
import torch
from conftest import relative_error
from tiny_network import tiny_network
from torch import Tensor
from torch.nn.functional import one_hot

from sampling.denoiser import bind
from sampling.generate import Batch, generate, to_uint8
from sampling.guidance import AtCalls, Guidance, Guided, GuidedByItself
from sampling.onestep import heun
from sampling.settings import SamplerSettings
from sampling.sigmas import edm, with_ending

SEEDS = [3, 4, 2**32 + 9]
STEPS = SamplerSettings(steps=5)
NODES = with_ending(edm(5, 0.002, 80), "zero")


def drawn(seed: int) -> tuple[Tensor, int]:
    """The noise of an image and its class, as the loop draws them."""
    generator = torch.Generator().manual_seed(seed % 2**32)
    return torch.randn([1, 8, 8], generator=generator), int(
        torch.randint(10, [], generator=generator)
    )


def collected(
    net: Any, settings: SamplerSettings = STEPS, batch_size: int = 8, **options: Any
) -> Batch:
    batches = list(generate(net, settings, SEEDS, "cpu", batch_size, **options))
    images = torch.cat([batch.images for batch in batches])
    return Batch(images, [i for b in batches for i in b.classes], SEEDS, batches[0].nfe)


def by_hand(net: Any, guide: Any, scale: float, guide_labels: bool) -> Tensor:
    """The images of D_guide + scale (D - D_guide), written out."""
    noise, classes = zip(*map(drawn, SEEDS), strict=True)
    labels = one_hot(torch.tensor(classes), 10).float()

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        D = net(x.float(), sigma.float(), labels).double()
        D_guide = guide(x.float(), sigma.float(), labels if guide_labels else None).double()
        return D_guide + scale * (D - D_guide)

    with torch.inference_mode():
        return to_uint8(heun(denoise, torch.stack(noise).double() * NODES[0], NODES))


class Recorder:
    """A network that answers a constant and notes the labels it is asked for."""

    img_channels, img_resolution = 1, 8

    def __init__(
        self, label_dim: int = 10, sigma_min: float = 0.0, sigma_max: float = math.inf, **shape: int
    ) -> None:
        self.label_dim, self.sigma_min, self.sigma_max = label_dim, sigma_min, sigma_max
        self.asked: list[Tensor | None] = []
        for name, value in shape.items():
            setattr(self, name, value)

    def round_sigma(self, sigma: float | Tensor) -> Tensor:
        return torch.as_tensor(sigma)

    def decode(self, x: Tensor) -> Tensor:
        return x

    def __call__(self, x: Tensor, sigma: Tensor, class_labels: Tensor | None = None) -> Tensor:
        self.asked.append(class_labels)
        return torch.zeros_like(x)


@pytest.mark.parametrize("scale", [0.0, 1.4, 3.0])
def test_without_a_guide_the_network_is_its_own_without_the_class(scale: float) -> None:
    net = tiny_network()
    batch = collected(net, guidance=Guidance(scale))
    assert (
        torch.equal(batch.images, by_hand(net, net, scale, guide_labels=False)) and batch.nfe == 18
    )
    assert not torch.equal(batch.images, collected(net).images)
    assert batch.classes == collected(net).classes == [drawn(seed)[1] for seed in SEEDS]


def test_both_in_one_call_are_the_same() -> None:
    """As on a GPU: the network's answers with and without the class, from one batch."""
    net, x = tiny_network(), 3 * torch.randn(3, 1, 8, 8, dtype=torch.float64)
    labels, sigma = torch.eye(10)[[1, 7, 2]], torch.tensor(1.5, dtype=torch.float64)
    with torch.inference_mode():
        apart = Guided(bind(net, labels), bind(net), 2.5)(x, sigma)
        together = GuidedByItself(net, labels, 2.5)(x, sigma)
        assert (
            relative_error(together, apart)
            < 1e-5
            < relative_error(bind(net, labels)(x, sigma), apart)
        )


def test_a_guide_has_the_same_class() -> None:
    net, guide = tiny_network(), tiny_network()
    for parameter in guide.parameters():
        parameter.mul_(0.9)
    batch = collected(net, guidance=Guidance(2.0, guide))
    assert (
        torch.equal(batch.images, by_hand(net, guide, 2.0, guide_labels=True)) and batch.nfe == 18
    )
    assert not torch.equal(batch.images, by_hand(net, guide, 2.0, guide_labels=False))


def test_an_unconditional_guide_ignores_the_class() -> None:
    net, guide = tiny_network(), tiny_network(label_dim=0)
    assert torch.equal(
        collected(net, guidance=Guidance(2.0, guide)).images,
        by_hand(net, guide, 2.0, guide_labels=True),
    )


def test_scale_one_is_the_plain_run_and_never_asks_the_guide() -> None:
    net, guide = tiny_network(), Recorder()
    plain, guided = collected(net), collected(net, guidance=Guidance(1.0, guide))
    assert (
        torch.equal(plain.images, guided.images)
        and plain.nfe == guided.nfe == 9
        and guide.asked == []
    )


@pytest.mark.parametrize(
    "settings", [STEPS, SamplerSettings(steps=4, S_churn=2.0), SamplerSettings("unipc", steps=5)]
)
def test_an_image_does_not_depend_on_its_batch(settings: SamplerSettings) -> None:
    net = tiny_network()
    whole, single = (
        collected(net, settings, size, guidance=Guidance(1.7)).images.int() for size in (8, 1)
    )
    assert (whole - single).abs().max() <= 1


def test_each_network_is_asked_once_an_evaluation() -> None:
    net, guide = Recorder(), Recorder()
    batch = collected(net, SamplerSettings("euler", steps=4), guidance=Guidance(0.5, guide))
    assert len(net.asked) == len(guide.asked) == 4 and batch.nfe == 8
    assert all(torch.equal(a, b) for a, b in zip(net.asked, guide.asked, strict=True))  # type: ignore[arg-type]
    net.asked.clear()
    assert collected(net, SamplerSettings("euler", steps=4), guidance=Guidance(0.5)).nfe == 8
    assert [labels is None for labels in net.asked] == [False, True] * 4


def test_in_an_interval_of_noise_levels_and_alone_outside() -> None:
    net, guide = Recorder(), Recorder()
    settings = SamplerSettings("euler", sigmas="8,4,2,1")
    some = collected(net, settings, guidance=Guidance(2.0, guide, (1.0, 4.0)))
    assert len(net.asked) == 4 and len(guide.asked) == 2  # at 4 and 2: low < sigma <= high
    assert some.nfe == 6

    # Outside of all levels the images are the network's own, and everywhere those of guidance without an interval.
    net = tiny_network()
    none = collected(net, guidance=Guidance(2.0, interval=(100.0, math.inf)))
    assert torch.equal(none.images, collected(net).images) and none.nfe == 9
    whole = collected(net, guidance=Guidance(2.0, interval=(0.0, math.inf)))
    assert torch.equal(whole.images, collected(net, guidance=Guidance(2.0)).images)
    part = collected(net, guidance=Guidance(2.0, interval=(0.1, 10.0)))
    assert whole.nfe == 18 and 9 < part.nfe < 18
    assert not torch.equal(part.images, whole.images)


def test_an_interval_is_the_two_denoisers_by_turns() -> None:
    first, second = Recorder(), Recorder()
    turns = AtCalls(bind(first), bind(second), [True, False, False])
    for _ in range(3):
        turns(torch.zeros(1, 1, 8, 8), torch.tensor(1.0))
    assert (len(first.asked), len(second.asked)) == (1, 2)


@pytest.mark.parametrize("interval", [(2.0, 2.0), (3.0, 1.0), (-1.0, 2.0), (0.0, math.nan)])
def test_an_interval_without_levels_is_refused(interval: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"the noise levels of guidance are .*need LOW,HIGH"):
        Guidance(2.0, interval=interval)


@pytest.mark.parametrize(
    "net, guide, scale, words",
    [
        (
            Recorder(0),
            None,
            1.5,
            "guidance 1.5 is asked for, but the network is unconditional: it has no class to",
        ),
        (Recorder(), None, math.nan, "guidance scale is nan"),
        (Recorder(), Recorder(img_channels=3), 2.0, "the guide has img_channels 3, the network 1"),
        (
            Recorder(),
            Recorder(img_resolution=16),
            2.0,
            "the guide has img_resolution 16, the network 8",
        ),
        (Recorder(), Recorder(9), 2.0, "the guide has 9 classes, the network 10"),
        (Recorder(0), Recorder(10), 2.0, "the guide has 10 classes, the network 0"),
        (
            Recorder(),
            Recorder(sigma_max=50.0),
            2.0,
            "from 80 to 0.002, but the guide knows those between 0 and 50",
        ),
        (
            Recorder(),
            Recorder(sigma_min=0.01),
            2.0,
            "but the guide knows those between 0.01 and inf",
        ),
    ],
)
def test_what_does_not_fit_is_refused_at_once(
    net: Recorder, guide: Recorder | None, scale: float, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        generate(net, STEPS, SEEDS, "cpu", guidance=Guidance(scale, guide))


def test_a_guide_with_the_very_range_of_the_noise_levels_fits() -> None:
    generate(
        Recorder(),
        STEPS,
        SEEDS,
        "cpu",
        guidance=Guidance(2.0, Recorder(sigma_min=0.002, sigma_max=80.0)),
    )
