"""DINOv2, CLIP and ResNet by transformers: tiny networks with random weights of the same classes."""

import importlib
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file
from scipy.special import erf

from metrics.detector import DetectorEntry, _from_hub, load_detector, load_entries
from metrics.names import METRICS
from metrics.transformers_detector import (
    FAMILIES,
    TransformersDetector,
    dinov2_positions,
    load_transformers,
)

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


def antialiased(old: int, new: int) -> np.ndarray:
    """Weights [new, old] of Keys' cubic with a = -1/2, widened where it shrinks, and normalised at the edges."""
    scale = max(old / new, 1.0)
    weights = np.zeros([new, old])
    for i in range(new):
        for j in range(old):
            t = abs((j + 0.5 - (i + 0.5) * old / new) / scale)
            if t < 1:
                weights[i, j] = (1.5 * t - 2.5) * t * t + 1
            elif t < 2:
                weights[i, j] = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return weights / weights.sum(1, keepdims=True)


def normed(x: np.ndarray, state: dict[str, np.ndarray], name: str) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + 1e-6)
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def dense(x: np.ndarray, state: dict[str, np.ndarray], name: str) -> np.ndarray:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def class_token(images: np.ndarray, state: dict[str, np.ndarray], heads: int) -> np.ndarray:
    """FD-DINOv2's feature of images [N, 3, H, W], in numpy from the published steps and the weights by name."""
    rows, columns = antialiased(images.shape[2], 224), antialiased(images.shape[3], 224)
    x = rows @ images @ columns.T / 255
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    x = (x - mean[:, None, None]) / std[:, None, None]

    # Patches of p pixels along an edge, as rows.
    kernel = state["embeddings.patch_embeddings.projection.weight"]
    width, p = len(kernel), kernel.shape[2]
    side = 224 // p
    patches = x.reshape(len(x), 3, side, p, side, p).transpose(0, 2, 4, 1, 3, 5)
    x = patches.reshape(len(x), side * side, -1) @ kernel.reshape(width, -1).T
    x = x + state["embeddings.patch_embeddings.projection.bias"]
    token = np.broadcast_to(state["embeddings.cls_token"], (len(x), 1, width))
    positions = by_the_formula(torch.from_numpy(state["embeddings.position_embeddings"]), side)
    x = np.concatenate([token, x], 1) + positions.numpy()

    layers = {name.partition(".norm1")[0] for name in state if name.endswith(".norm1.weight")}
    for layer in sorted(layers):
        h = normed(x, state, f"{layer}.norm1")
        parts = []
        for part in ("query", "key", "value"):
            full = dense(h, state, f"{layer}.attention.attention.{part}")
            parts.append(full.reshape(*full.shape[:2], heads, -1).transpose(0, 2, 1, 3))
        q, k, v = parts
        scores = np.exp(q @ k.swapaxes(2, 3) / q.shape[3] ** 0.5)
        mixed = (scores / scores.sum(-1, keepdims=True)) @ v
        mixed = mixed.transpose(0, 2, 1, 3).reshape(x.shape)
        mixed = dense(mixed, state, f"{layer}.attention.output.dense")
        x = x + mixed * state[f"{layer}.layer_scale1.lambda1"]
        h = dense(normed(x, state, f"{layer}.norm2"), state, f"{layer}.mlp.fc1")
        h = h * (1 + erf(h / 2**0.5)) / 2
        x = x + dense(h, state, f"{layer}.mlp.fc2") * state[f"{layer}.layer_scale2.lambda1"]
    return normed(x, state, "layernorm")[:, 0]


@pytest.mark.parametrize("shape", [(40, 50), (300, 230)])
def test_fd_dinov2s_features_by_an_independent_computation(
    shape: tuple[int, int], transformers: Any, tmp_path: Path
) -> None:
    """From pixels to the class token: resize, ImageNet's mean and deviation, and the network itself."""
    torch.manual_seed(0)
    net = transformers.Dinov2Model(transformers.Dinov2Config(**VIT, image_size=168, patch_size=56))
    with torch.no_grad():
        for weight in net.parameters():  # which are 0 and 1 in part
            weight.add_(0.1 * torch.randn_like(weight))
    net.save_pretrained(tmp_path)
    detector = load_detector(tmp_path, "cpu")

    stored = load_file(tmp_path / "model.safetensors")
    state = {name: weight.astype(np.float64) for name, weight in stored.items()}
    pixels = np.random.RandomState(0).randint(0, 256, [2, 3, *shape], dtype=np.uint8)
    expected = class_token(pixels.astype(np.float64), state, VIT["num_attention_heads"])
    found = detector(torch.from_numpy(pixels))[0].numpy()
    assert np.abs(found - expected).max() < 2e-5 * np.abs(expected).max()


def test_cmmds_embedding_is_clips_behind_its_projection(
    transformers: Any, folders: dict[str, Path]
) -> None:
    entry = DetectorEntry("mine", "MIT", hub=str(folders["clip"]), projected=True)
    detector = _from_hub(str(folders["clip"]), entry, torch.float32)
    images = torch.randint(0, 256, (3, 3, 50, 60), dtype=torch.uint8)
    features = detector(images)[0]
    assert detector.name == f"clip-{detector.feature_dim}d-projected"
    assert features.shape == (3, detector.feature_dim)
    assert torch.allclose(features.norm(dim=1), torch.ones(3))

    # The whole CLIP's own answer to pixels that were resized as JAX and PIL do: Keys' cubic, antialiased.
    rows, columns = (torch.from_numpy(antialiased(n, 224)).float() for n in (50, 60))
    x = rows @ images.float() @ columns.T / 255
    mean, std = (
        torch.tensor(t).view(3, 1, 1) for t in (FAMILIES["clip"].mean, FAMILIES["clip"].std)
    )
    whole = transformers.CLIPModel.from_pretrained(folders["clip"]).eval()
    with torch.no_grad():
        vision = whole.vision_model((x - mean) / std).pooler_output
        expected = vision @ whole.visual_projection.weight.T
    expected = expected / expected.square().sum(1, keepdim=True).sqrt()
    assert torch.allclose(features, expected, atol=1e-5)

    with pytest.raises(ValueError, match="of type dinov2, which has no projection"):
        load_transformers(folders["dinov2"], projected=True)


def test_the_papers_clip_has_the_name_that_cmmd_asks_for() -> None:
    entry = load_entries()["clip-vitl14-336"]
    assert (entry.features, entry.size, entry.projected) == (768, 336, True)
    net = torch.nn.Linear(1, 1)
    net.config = SimpleNamespace(projection_dim=768)  # type: ignore[assignment]
    assert TransformersDetector(net, "clip", "", entry.size, True).name == METRICS["cmmd"].detector


def test_an_entry_must_be_the_network_that_it_names(folders: dict[str, Path]) -> None:
    def load(**told: Any) -> Any:
        return _from_hub(
            str(folders["dinov2"]), DetectorEntry("mine", "MIT", hub="a/b", **told), torch.float32
        )

    found = load(features=24)
    assert load(sha256=found.sha256[:8]).name == "dinov2-24d"
    with pytest.raises(ValueError, match="has 24 features, and the detector mine 1024"):
        load(features=1024)
    with pytest.raises(ValueError, match=f"expected weights of sha256 0000, found {found.sha256}"):
        load(sha256="0000")
    small = load(size=112)
    assert (
        small.name == "dinov2-24d-112px" and small.net.embeddings.position_embeddings.shape[1] == 5
    )
    assert small(torch.zeros(1, 3, 20, 20, dtype=torch.uint8))[0].shape == (1, 24)


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
        load_detector("dinov2", "cpu")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(
        RuntimeError, match=r"needs the package transformers: pip install '\.\[features\]'"
    ):
        load_transformers("facebook/dinov2-large")
