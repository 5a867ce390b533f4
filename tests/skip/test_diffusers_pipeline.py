"""EDMPipeline: bitwise the images of generate.py, called as diffusers' own pipelines are."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from fake_cuda import fake_cuda
from tiny_network import saved, tiny_network
from torch import Tensor

import generate
from dnnlib.pixels import read_pixels
from sampling.settings import SamplerSettings
from skip.scale import SkipScale
from skip.source import ImageSource

EDMPipeline: Any = None


@pytest.fixture(scope="module", autouse=True)
def _library() -> None:
    """Imported with the first test: it takes seconds, and every worker collects every file."""
    global EDMPipeline
    pytest.importorskip("diffusers", reason="needs the package diffusers: pip install diffusers")
    EDMPipeline = importlib.import_module("skip.diffusers.pipeline").EDMPipeline


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def ours(source: ImageSource, *seeds: int) -> Tensor:
    """uint8 [N, C, H, W], as every program makes them."""
    (batch,) = source.load("cpu").batches(seeds, len(seeds))
    return batch.images


def theirs(pipe: Any, *seeds: int, **how: Any) -> Tensor:
    found = pipe(batch_size=len(seeds), generator=seeded(*seeds), output_type="pt", **how).images
    return (found * 255).round().to(torch.uint8)


@pytest.mark.parametrize(
    ("source", "call"),
    [
        ({}, {}),
        ({"scale": SkipScale(0.7)}, {"rho": 0.7}),
        ({"scale": SkipScale(0.75)}, {"rho": torch.tensor(0.75)}),
        ({"scale": SkipScale(layers=(0.5, 0.6, 0.7, 0.8))}, {"rho": [0.5, 0.6, 0.7, 0.8]}),
        ({"scale": SkipScale(0.7, window=(1, 9))}, {"rho": SkipScale(0.7, window=(1, 9))}),
        ({"skip_method": "freeu:b1=1.3"}, {"skip_method": "freeu:b1=1.3"}),
        ({"class_idx": 3}, {"class_labels": 3}),
        ({"guidance": 2.0}, {"guidance_scale": 2.0}),
        ({"guidance": 2.0, "guide_rho": 1.2}, {"guidance_scale": 2.0, "guide_rho": 1.2}),
        (
            {"guidance": 2.0, "guidance_sigma": (1.0, 9.0)},
            {"guidance_scale": 2.0, "guidance_sigma": (1.0, 9.0)},
        ),
    ],
)
def test_images_are_bitwise_those_of_every_program(
    source: dict[str, Any], call: dict[str, Any], tmp_path: Path
) -> None:
    path = saved(tmp_path)
    expected = ours(ImageSource(path, SamplerSettings(steps=3), **source), 3, 8)
    found = theirs(EDMPipeline.from_pretrained(path), 3, 8, num_inference_steps=3, **call)
    assert torch.equal(found, expected)
    if source:
        assert not torch.equal(expected, ours(ImageSource(path, SamplerSettings(steps=3)), 3, 8))


def test_every_setting_of_a_sampler_is_one_of_a_call(tmp_path: Path) -> None:
    path = saved(tmp_path, label_dim=0)
    pipe = EDMPipeline.from_pretrained(Path(path))
    for settings in (
        {"sampler": "heun", "S_churn": 10.0, "steps": 4},
        {"sampler": "unipc", "order": 2, "steps": 4, "sigma_max": 20.0},
    ):
        expected = ours(ImageSource(path, SamplerSettings(**settings)), 1)
        assert torch.equal(theirs(pipe, 1, **settings), expected)


def test_the_pictures_are_those_of_generate_py(tmp_path: Path) -> None:
    path, out = saved(tmp_path), tmp_path / "out"
    command = ["--network", path, "--outdir", str(out), "--seeds", "7", "--steps", "3"]
    result = CliRunner().invoke(generate.main, [*command, "--rho-bottom", "0.8"])
    assert result.exit_code == 0, result.output
    pipe = EDMPipeline.from_pretrained(path)
    (image,) = pipe(num_inference_steps=3, rho=0.8, generator=seeded(7)).images
    stored = np.asarray(read_pixels(out / "000007.png"))
    assert np.array_equal(np.asarray(image).reshape(stored.shape), stored)


def test_demo_networks_by_name_and_with_their_defaults() -> None:
    source = ImageSource("demo", SamplerSettings(steps=2))
    pipe = EDMPipeline.from_pretrained("demo")
    assert torch.equal(theirs(pipe, 2, num_inference_steps=2), ours(source, 2))

    settings = SamplerSettings(sampler="euler", sigmas="ddim", steps=2)
    source = ImageSource("demo-ldm", settings, guidance=1.5)
    pipe = EDMPipeline.from_pretrained("demo-ldm")
    assert torch.equal(theirs(pipe, 2, num_inference_steps=2), ours(source, 2))


def test_defaults_of_a_network_are_those_of_its_entry() -> None:
    pipe = EDMPipeline(tiny_network(), None, {"sampler": "unipc", "steps": 3, "guidance": 1.5})
    by_hand = EDMPipeline(tiny_network())
    expected = theirs(by_hand, 1, sampler="unipc", steps=3, guidance_scale=1.5)
    assert torch.equal(theirs(pipe, 1), expected)
    other = theirs(by_hand, 1, sampler="heun", steps=2)
    assert torch.equal(theirs(pipe, 1, sampler="heun", steps=2, guidance_scale=1), other)


def test_one_generator_draws_image_after_image() -> None:
    pipe = EDMPipeline(tiny_network())
    settings: dict[str, Any] = {"num_inference_steps": 2, "output_type": "np"}
    (generator,) = seeded(4)
    first = pipe(generator=generator, **settings).images
    assert np.array_equal(first, pipe(generator=seeded(4), **settings).images)
    assert not np.array_equal(first, pipe(generator=generator, **settings).images)
    pair = pipe(batch_size=2, generator=generator, **settings).images
    assert not np.array_equal(pair[0], pair[1])
    torch.manual_seed(0)
    drawn = [pipe(**settings).images for _ in range(2)]
    assert not np.array_equal(*drawn)
    torch.manual_seed(0)
    assert np.array_equal(drawn[0], pipe(**settings).images)


def test_what_it_gives() -> None:
    pipe = EDMPipeline(tiny_network(channels=3))
    how: dict[str, Any] = {"batch_size": 2, "num_inference_steps": 5}
    pixels = pipe(**how, generator=seeded(0, 1), output_type="np").images
    assert pixels.shape == (2, 8, 8, 3) and pixels.dtype == np.float32
    (images,) = pipe(**how, generator=seeded(0, 1), return_dict=False)
    assert [image.size for image in images] == [(8, 8)] * 2 and images[0].mode == "RGB"
    assert np.array_equal(np.stack([np.asarray(image) for image in images]), (pixels * 255).round())
    classes = pipe(**how, generator=seeded(0, 1), class_labels=[2, 5], output_type="np").images
    tensor = torch.tensor([2, 5])
    again = pipe(**how, generator=seeded(0, 1), class_labels=tensor, output_type="np").images
    assert np.array_equal(classes, again) and not np.array_equal(classes, pixels)


def test_it_is_stored_and_moved(tmp_path: Path) -> None:
    pipe = EDMPipeline.from_pretrained(saved(tmp_path))
    pipe.save_pretrained(tmp_path / "folder", licence="CC0")
    again = EDMPipeline.from_pretrained(tmp_path / "folder")
    expected = theirs(pipe, 1, num_inference_steps=5)
    assert torch.equal(theirs(again, 1, num_inference_steps=5), expected)
    assert again.to("cpu") is again and again.device.type == "cpu"
    assert not torch.equal(theirs(again.to(torch.bfloat16), 1, num_inference_steps=5), expected)
    assert list(again.components) == ["unet", "guide"]


def test_a_weaker_network_guides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, weak = saved(tmp_path), saved(tmp_path, "weak", label_dim=0)
    expected = ours(ImageSource(path, SamplerSettings(steps=4), guidance=1.7, guide=weak), 1, 2)
    defaults = {"steps": 4}, {"guidance": 1.7, "guide": weak}
    monkeypatch.setattr("skip.diffusers.pipeline.network_defaults", lambda source: defaults)
    pipe = EDMPipeline.from_pretrained(path)
    assert torch.equal(theirs(pipe, 1, 2), expected)
    assert not torch.equal(theirs(pipe, 1, 2, guidance_scale=1), expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"output_type": "latent"}, "unknown output_type 'latent'; choose from pil, np, pt"),
        ({"batch_size": 0}, "batch_size is 0; it must be a whole number, 1 or more"),
        ({"batch_size": 1.5}, "batch_size is 1.5; it must be a whole number, 1 or more"),
        ({"class_labels": "cat"}, "class 'cat' is asked for; a class is a whole number"),
        (
            {"class_labels": torch.tensor([1.5])},
            "class 1.5 is asked for; a class is a whole number",
        ),
        ({"rho": "a"}, "rho is 'a'; give a number, one for each layer, or a SkipScale"),
        ({"rho": [True]}, "rho is True; give a number"),
        ({"generator": 5}, "a generator is 5; give torch.Generator().manual_seed(seed)"),
        ({"generator": [5]}, "a generator is 5; give torch.Generator().manual_seed(seed)"),
        ({"num_inference_steps": 3, "steps": 3}, "num_inference_steps and steps are one setting"),
        ({"guidance_scale": float("nan")}, "the guidance scale is nan"),
        ({"guide_rho": 1.1}, "guide_rho 1.1 does nothing without guidance: give guidance_scale"),
        ({"guidance_sigma": (1.0, 2.0)}, "guidance_sigma (1.0, 2.0) does nothing without"),
        ({"guidance_scale": 2, "guide_rho": [0.8, 0.9]}, "guide_rho is of the type list"),
        ({"guidance_scale": 2, "guidance_sigma": "1,10"}, "guidance_sigma is '1,10'"),
        ({"guidance_scale": 2, "guidance_sigma": 5}, "guidance_sigma is 5"),
        (
            {"guidance_scale": 2, "guide_rho": 1.1, "guidance_sigma": (90.0, 99.0)},
            "no evaluation has a noise level above 90 and up to 99, where alone there is guidance",
        ),
        ({"rho": SkipScale(0.8, window=(90.0, 99.0))}, "where alone the skips are changed"),
        ({"class_labels": 10}, "class 10 is asked for; the network has classes 0 to 9"),
        ({"class_labels": [1, 2, 3]}, "3 class_labels for 1 images"),
        ({"generator": []}, "0 generators for 1 images; give one for each"),
        ({"steps": 0}, "steps"),
        ({"sampler": "ddim2"}, "unknown sampler 'ddim2'"),
        ({"eta0": 1.0}, "there is no setting eta0; of a sampler there are sampler, steps"),
        ({"S_churn": "much"}, "S_churn is 'much'; it must be a number"),
        ({"rho": [0.5, 0.6]}, "2 skip coefficients given; this network has 4 long skips"),
        ({"rho": float("nan")}, "a skip coefficient is nan"),
        ({"skip_method": "free"}, "unknown method 'free'"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(call: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        EDMPipeline(tiny_network())(**call)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_classes_of_a_network_without_any() -> None:
    with pytest.raises(ValueError, match="class_labels is 1, but the network is unconditional"):
        EDMPipeline(tiny_network(label_dim=0))(class_labels=1)


def test_on_a_gpu() -> None:
    with fake_cuda():
        pipe = EDMPipeline(tiny_network(), tiny_network()).to("cuda")
        assert pipe.device.type == "cuda"
        call: dict[str, Any] = {"num_inference_steps": 2, "class_labels": 1, "S_churn": 3.0}
        found = pipe(**call, rho=0.8, guidance_scale=2.0, output_type="pt", generator=seeded(1))
        assert found.images.device.type == "cuda" and found.images.shape == (1, 1, 8, 8)


def test_a_dtype_of_no_network(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"unknown dtype torch.int8; choose from torch.float32, torch.float16"
    ):
        EDMPipeline(tiny_network()).to(torch.int8)
    with pytest.raises(ValueError, match="unknown dtype 'half'"):
        EDMPipeline.from_pretrained(saved(tmp_path), torch_dtype="half")


def test_a_network_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        EDMPipeline.from_pretrained(tmp_path / "nowhere")
