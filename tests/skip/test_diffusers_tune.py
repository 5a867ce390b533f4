"""tune_pipeline: the search of tables.py tune on tiny pipelines, with metrics whose best rho is known."""

import importlib
from typing import Any

import numpy as np
import pytest
import torch
from tiny_network import tiny_network

import skip
from skip.scale import SkipScale

diffusers: Any = None


@pytest.fixture(scope="module", autouse=True)
def _library() -> None:
    """Imported with the first test: it takes seconds, and every worker collects every file."""
    global diffusers
    diffusers = pytest.importorskip(
        "diffusers", reason="needs the package diffusers: pip install diffusers"
    )


class Toy:
    """A pipeline whose image is one number: (rho - best)^2 and noise of the seed and the prompt.

    Its model is a real U-Net, of which it reads what skip.apply made of it.
    """

    def __init__(self, best: float) -> None:
        self.best, self.calls = best, list[tuple[float, str, int, int]]()
        self.unet = diffusers.UNet2DModel(
            sample_size=8, norm_num_groups=2, layers_per_block=1, block_out_channels=(4, 8),
            down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
        )  # fmt: skip

    def __call__(self, prompt: str, generator: torch.Generator, steps: int) -> Any:
        tuning = vars(self.unet)["_skip_tuning"]
        rho = tuning.scale.bottom
        noise = torch.randn((), generator=generator).item()
        self.calls.append((rho, prompt, generator.initial_seed(), steps))
        # The common noise is large; what differs between rhos of one seed is small.
        return ([(rho - self.best) ** 2 + 5 * noise + 0.01 * noise * rho],)


def squares(images: list[Any], prompts: list[Any]) -> list[float]:
    return images


def test_the_best_rho_of_a_parabola_is_found() -> None:
    pipe = Toy(best=0.83)
    found = skip.tune_pipeline(pipe, ["a", "b", "c"], squares, maximise=False, steps=4)
    assert found.rho == pytest.approx(0.83, abs=0.02) and found.error is not None
    assert abs(found.rho - 0.83) < 4 * found.error
    assert found.scale == SkipScale(bottom=round(found.rho, 4))
    assert found.gain is not None and found.gain.value < 0
    assert found.images == len(pipe.calls) <= 120
    assert len(set(pipe.calls)) == len(pipe.calls), "no image is made twice"
    assert {(p, s) for _, p, s, _ in pipe.calls if s < 3} == {("a", 0), ("b", 1), ("c", 2)}
    assert {steps for *_, steps in pipe.calls} == {4}
    assert "_skip_tuning" not in vars(pipe.unet)

    down = skip.tune_pipeline(Toy(0.83), "a", lambda i, p: [-x for x in i], steps=4)
    assert down.rho == pytest.approx(found.rho)


def test_the_rest_of_the_scale_stays() -> None:
    scale = SkipScale(0.1, 1.05, spacing="inclusive")
    found = skip.tune_pipeline(Toy(0.7), ["a"], squares, maximise=False, scale=scale, steps=1)
    assert found.scale == SkipScale(round(found.rho, 4), 1.05, spacing="inclusive")


def brightness(images: list[Any], prompts: list[Any]) -> list[float]:
    return [float(np.asarray(image).mean()) for image in images]


def test_a_pipeline_of_the_library() -> None:
    """What the search saw is what skip.apply gives: the same images, and nothing is left behind."""
    torch.manual_seed(0)
    unet = Toy(0).unet.eval()
    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    pipe = diffusers.DDIMPipeline(unet, scheduler)
    pipe.set_progress_bar_config(disable=True)
    call: dict[str, Any] = {"num_inference_steps": 2, "output_type": "np"}
    scale = SkipScale(window=(0.1, 50.0))
    found = skip.tune_pipeline(
        pipe, [{}], brightness, 0.5, 1.0, points=3, images=2, budget=6, scale=scale, **call
    )
    (first,) = found.rounds
    assert first.rhos == (0.5, 0.75, 1.0) and found.images == 6
    for rho, estimate in zip(first.rhos, first.estimates, strict=True):
        with skip.apply(unet, SkipScale(rho, window=(0.1, 50.0)), scheduler):
            values = [
                pipe(generator=torch.Generator().manual_seed(seed), **call).images[0].mean()
                for seed in range(2)
            ]
        assert estimate.value == pytest.approx(np.mean(values))
    assert len({estimate.value for estimate in first.estimates}) == 3


def test_a_network_of_ours() -> None:
    pipe = importlib.import_module("skip.diffusers.pipeline").EDMPipeline(tiny_network())
    call: dict[str, Any] = {"num_inference_steps": 2, "output_type": "np"}
    found = skip.tune_pipeline(
        pipe, [{"class_labels": 1}, {"class_labels": 2}], brightness, 0.5, 1.0,
        points=3, images=2, budget=6, **call,
    )  # fmt: skip
    expected = [
        pipe(
            generator=torch.Generator().manual_seed(seed), class_labels=seed + 1, rho=0.5, **call
        ).images.mean()
        for seed in range(2)
    ]
    assert found.rounds[0].estimates[0].value == pytest.approx(np.mean(expected))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"prompts": []}, "there are no prompts; give one or more"),
        ({"scale": SkipScale(layers=(0.5, 0.5, 1, 1))}, "the scale lists its layers"),
        ({"metric": lambda i, p: [1.0]}, "the metric returned 1 numbers for 8 images"),
        (
            {"metric": lambda i, p: [float("nan")] * len(i)},
            "the metric of image 0 at rho 0.6 is nan",
        ),
        ({"low": 1.0, "high": 0.5}, "the range is 1 to 0.5"),
        ({"budget": 10}, "5 points of 8 images are more than the budget of 10"),
    ],
)
def test_what_cannot_be_searched(how: dict[str, Any], message: str) -> None:
    pipe = Toy(0.8)
    given: dict[str, Any] = {"prompts": ["a"], "metric": squares, "steps": 1} | how
    with pytest.raises(ValueError) as caught:
        skip.tune_pipeline(pipe, given.pop("prompts"), given.pop("metric"), **given)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert "_skip_tuning" not in vars(pipe.unet)


def test_a_pipeline_without_a_model_that_is_known() -> None:
    with pytest.raises(ValueError, match="a function has neither a unet nor a transformer"):
        skip.tune_pipeline(lambda **_: None, ["a"], squares)
