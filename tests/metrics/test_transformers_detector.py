"""DINOv2, CLIP and ResNet by transformers: tiny networks with random weights of the same classes."""

import importlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from metrics.detector import load_detector
from metrics.transformers_detector import FAMILIES, dinov2_positions, load_transformers

VIT = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def transformers() -> Any:
    return pytest.importorskip("transformers", reason="the extra `features` is not installed")


@pytest.fixture
def folders(transformers: Any, tmp_path: Path) -> dict[str, Path]:
    """One folder a network; dinov2's was trained at another resolution, as the real one was."""
    vision = transformers.CLIPVisionConfig(**VIT, intermediate_size=32, patch_size=56)
    text = transformers.CLIPTextConfig(**VIT, intermediate_size=32, vocab_size=50)
    both = transformers.CLIPConfig(vision_config=vision.to_dict(), text_config=text.to_dict())
    nets = {
        "dinov2": transformers.Dinov2Model(
            transformers.Dinov2Config(**VIT, image_size=168, patch_size=56)
        ),
        "clip": transformers.CLIPModel(both),
        "clip_vision_model": transformers.CLIPVisionModel(vision),
        "resnet": transformers.ResNetModel(
            transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 40], depths=[1, 2, 1])
        ),
    }
    for name, net in nets.items():
        net.save_pretrained(tmp_path / name)
    return {name: tmp_path / name for name in nets}


def cubic(t: float) -> float:
    """Keys' kernel with a = -0.75, which torch's bicubic has."""
    t, a = abs(t), -0.75
    if t <= 1:
        return ((a + 2) * t - (a + 3)) * t * t + 1
    return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a if t < 2 else 0.0


def by_the_formula(embedding: torch.Tensor, side: int) -> torch.Tensor:
    """Patch i of the new grid reads the old one at (i + 1/2) old / (side + 0.1) - 1/2; edges repeat."""
    old = round((embedding.shape[1] - 1) ** 0.5)
    weights = torch.zeros(side, old, dtype=torch.float64)
    for i in range(side):
        place = (i + 0.5) * old / (side + 0.1) - 0.5
        for j in range(math.floor(place) - 1, math.floor(place) + 3):
            weights[i, min(max(j, 0), old - 1)] += cubic(place - j)
    grid = embedding[0, 1:].double().reshape(old, old, -1)
    rows = torch.einsum("ij,kl,jld->ikd", weights, weights, grid).reshape(1, side * side, -1)
    return torch.cat([embedding[:, :1], rows.float()], 1)


@pytest.mark.parametrize(("old", "side"), [(37, 16), (3, 4), (16, 16)])
def test_positions_are_interpolated_as_dinov2_does(old: int, side: int) -> None:
    embedding = torch.randn(1, 1 + old * old, 5, generator=torch.Generator().manual_seed(0))
    found = dinov2_positions(embedding, side)
    assert found.shape == (1, 1 + side * side, 5)
    if old == side:
        assert torch.equal(found, embedding)
        return
    assert torch.allclose(found, by_the_formula(embedding, side), atol=1e-5)
    grid = embedding[:, 1:].reshape(1, old, old, 5).permute(0, 3, 1, 2)
    by_size = (
        F.interpolate(grid, size=(side, side), mode="bicubic").permute(0, 2, 3, 1).reshape(1, -1, 5)
    )
    assert (found[:, 1:] - by_size).abs().max() > 1e-2, "as transformers does"
    assert torch.equal(found[:, 0], embedding[:, 0])


def test_a_grid_that_is_no_square_is_refused() -> None:
    with pytest.raises(ValueError, match="6 position embeddings are no square grid"):
        dinov2_positions(torch.zeros(1, 7, 2), 4)


@pytest.mark.parametrize("kind", FAMILIES)
def test_features_are_the_pooled_output(
    kind: str, folders: dict[str, Path], transformers: Any
) -> None:
    detector = load_detector(folders[kind], "cpu")
    images = torch.randint(0, 256, (3, 3, 50, 60), dtype=torch.uint8)
    features, logits = detector(images)
    dim = 40 if kind == "resnet" else 24
    assert features.shape == (3, dim) and logits.shape == (3, 0) and detector.num_logits == 0
    assert (
        detector.name == f"{kind.removesuffix('_vision_model')}-{dim}d"
        and len(detector.sha256) == 64
    )

    family = FAMILIES[kind]
    net = getattr(transformers, family.model).from_pretrained(folders[kind]).eval()
    # 3 x 3 patches of 56 pixels become 4 x 4, by DINOv2's formula and not by transformers'.
    if kind == "dinov2":
        own = by_the_formula(net.embeddings.position_embeddings.detach(), 4)
        net.embeddings.position_embeddings = torch.nn.Parameter(own)
    x = F.interpolate(images.float(), size=(224, 224), mode="bicubic", antialias=True) / 255
    x = (x - torch.tensor(family.mean).view(3, 1, 1)) / torch.tensor(family.std).view(3, 1, 1)
    with torch.no_grad():
        expected = net(x).pooler_output.reshape(3, dim)
    assert torch.allclose(features, expected, atol=1e-5)
    assert torch.allclose(detector(images[1:2])[0], features[1:2], atol=1e-5)


def test_grayscale_and_dtype(folders: dict[str, Path]) -> None:
    gray = torch.randint(0, 256, (2, 1, 224, 224), dtype=torch.uint8)
    detector = load_transformers(folders["dinov2"])
    assert torch.equal(detector(gray)[0], detector(gray.repeat(1, 3, 1, 1))[0])
    half = load_transformers(folders["dinov2"], torch.bfloat16)
    assert half.name == "dinov2-24d-bfloat16" and half(gray)[0].dtype == torch.float32
    with pytest.raises(ValueError, match="dinov2-24d reads uint8 images"):
        detector(gray.float())


def test_mistakes_are_one_line(
    folders: dict[str, Path], transformers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folders["dinov2"]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(ValueError, match=r"weights are missing, such as .*layer\.2\."):
        load_transformers(folder)
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    with pytest.raises(ValueError, match="type 'bert'; known are dinov2, clip"):
        load_transformers(folder)
    for damaged in ("[" * 5000, "[]", "{", "null", json.dumps({"model_type": ["bert"]})):
        (folder / "config.json").write_text(damaged)
        with pytest.raises(ValueError, match=r"config\.json is damaged|holds a network of type"):
            load_transformers(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match="the weights cannot be read"):
        load_transformers(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no model\.safetensors"):
        load_transformers(folder)

    def offline(*args: object) -> None:
        raise OSError("no connection")

    monkeypatch.setattr(transformers.utils, "cached_file", offline)
    with pytest.raises(
        RuntimeError, match="cannot get facebook/dinov2-large from the Hugging Face hub"
    ):
        load_detector("dinov2-vitl14", "cpu")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(
        RuntimeError, match=r"needs the package transformers: pip install '\.\[features\]'"
    ):
        load_transformers("facebook/dinov2-large")
