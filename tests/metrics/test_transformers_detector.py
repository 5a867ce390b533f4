"""DINOv2, CLIP and ResNet by transformers: tiny networks with random weights of the same classes."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from metrics.detector import load_detector
from metrics.transformers_detector import FAMILIES, load_transformers

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
        "dinov2": transformers.Dinov2Model(transformers.Dinov2Config(**VIT, image_size=168, patch_size=56)),
        "clip": transformers.CLIPModel(both),
        "clip_vision_model": transformers.CLIPVisionModel(vision),
        "resnet": transformers.ResNetModel(
            transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 40], depths=[1, 2, 1])
        ),
    }
    for name, net in nets.items():
        net.save_pretrained(tmp_path / name)
    return {name: tmp_path / name for name in nets}


@pytest.mark.parametrize("kind", FAMILIES)
def test_features_are_the_pooled_output(kind: str, folders: dict[str, Path], transformers: Any) -> None:
    detector = load_detector(folders[kind], "cpu")
    images = torch.randint(0, 256, (3, 3, 50, 60), dtype=torch.uint8)
    features, logits = detector(images)
    dim = 40 if kind == "resnet" else 24
    assert features.shape == (3, dim) and logits.shape == (3, 0) and detector.num_logits == 0
    assert detector.name == f"{kind.removesuffix('_vision_model')}-{dim}d" and len(detector.sha256) == 64

    family = FAMILIES[kind]
    net = getattr(transformers, family.model).from_pretrained(folders[kind]).eval()
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


def test_mistakes_are_one_line(folders: dict[str, Path], transformers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folders["dinov2"]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(ValueError, match=r"weights are missing, such as .*layer\.2\."):
        load_transformers(folder)
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    with pytest.raises(ValueError, match="type 'bert'; known are dinov2, clip"):
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
    with pytest.raises(RuntimeError, match="cannot get facebook/dinov2-large from the Hugging Face hub"):
        load_detector("dinov2-vitl14", "cpu")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(RuntimeError, match=r"needs the package transformers: pip install '\.\[features\]'"):
        load_transformers("facebook/dinov2-large")
