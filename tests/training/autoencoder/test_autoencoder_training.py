"""Training an autoencoder: its loss, the scale of its latents, and a run that was killed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_network import image_folder
from torch import Tensor

from training.autoencoder.encode import encode, reconstruct
from training.autoencoder.train import (
    AutoencoderConfig,
    reconstruction_losses,
    start,
    train_autoencoder,
    unit_scale,
)
from training.dataset import ImageDataset
from training.families.latent.decoder_files import load_autoencoder
from training.families.latent.encoder import Gaussians
from training.latents import LatentDataset

CPU = torch.device("cpu")
NETWORK = {
    "ch": 8, "ch_mult": [1, 2], "num_res_blocks": 1, "z_channels": 2, "embed_dim": 2, "norm_groups": None,
}  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> AutoencoderConfig:
    data = str(image_folder(tmp_path, 12))
    return AutoencoderConfig(
        data=data, network=NETWORK, duration=16, batch=8, lr=1e-2, lr_rampup=0, snap=8, tick=8, ema_halflife=8
    )  # fmt: skip


class Known:
    """An autoencoder whose latents and images are known."""

    latents = Gaussians(torch.full([2, 1, 1, 1], 2.0), torch.zeros(2, 1, 1, 1))

    def encode(self, images: Tensor) -> Gaussians:
        return self.latents

    def decode(self, z: Tensor) -> Tensor:
        self.decoded = z
        return torch.full([2, 1, 2, 2], 0.25)


def test_the_loss_is_the_sum_of_what_is_missed_and_the_divergence(
    config: AutoencoderConfig,
) -> None:
    """|1 - 0.25| and |-1 - 0.25| at four pixels; (2^2 + 1 - 1 - 0) / 2 = 2 of the one latent; a distance of 7."""
    net: Any = Known()
    config = replace(config, kl_weight=0.5, perceptual=0.1)
    images = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1).expand(2, 1, 2, 2)
    losses = reconstruction_losses(net, images, config, torch.Generator().manual_seed(3))
    assert losses.tolist() == pytest.approx([3.0 + 0.5 * 2, 5.0 + 0.5 * 2])
    random = torch.Generator().manual_seed(3)
    far = reconstruction_losses(net, images, config, random, lambda a, b: torch.full([2], 7.0))
    assert far.tolist() == pytest.approx([3.0 + 0.5 * 2 + 0.7, 5.0 + 0.5 * 2 + 0.7])
    noise = torch.randn(2, 1, 1, 1, generator=torch.Generator().manual_seed(3))
    assert torch.equal(net.decoded, 2 + noise)


def test_a_killed_run_ends_the_same_and_its_latents_have_unit_variance(
    config: AutoencoderConfig, tmp_path: Path
) -> None:
    whole = train_autoencoder(config, tmp_path / "whole", CPU)
    train_autoencoder(replace(config, duration=8), tmp_path / "parts", CPU)
    parts = train_autoencoder(config, tmp_path / "parts", CPU)
    assert whole.name == "network-snapshot-000000-016.safetensors"
    assert parts.read_bytes() == whole.read_bytes()

    net = load_autoencoder(whole)
    assert net.scale_factor == pytest.approx(
        unit_scale(net, ImageDataset(config.data, use_labels=False), CPU)
    )
    encode(whole, config.data, tmp_path / "latents.npz", CPU)
    data = LatentDataset(tmp_path / "latents.npz")
    values = data.values(torch.stack([data[i][0] for i in range(12)]), torch.Generator())
    assert float(values.std()) == pytest.approx(1, abs=0.1)
    assert (len(data), data.label_dim, data.shown_shape) == (12, 3, (1, 8, 8))


def test_it_learns(config: AutoencoderConfig, tmp_path: Path) -> None:
    train_autoencoder(replace(config, duration=80, snap=80), tmp_path, CPU)
    lines = (tmp_path / "stats.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert losses[-1] < 0.9 * losses[0]


def test_reconstructions_are_what_the_decoder_makes_of_the_means(
    config: AutoencoderConfig, tmp_path: Path
) -> None:
    path = train_autoencoder(replace(config, duration=8), tmp_path / "run", CPU)
    found = torch.cat(list(reconstruct(path, config.data, 5, CPU)))
    net, data = load_autoencoder(path), ImageDataset(config.data)
    images = torch.stack([data[i][0] for i in range(5)]).float() / 127.5 - 1
    with torch.inference_mode():
        expected = net.decode(net.encode(images).mean)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("told", [{"labels": None}, None])
def test_images_without_classes_are_encoded_too(
    told: dict[str, None] | None, config: AutoencoderConfig, tmp_path: Path
) -> None:
    """Where dataset.json says null, as dataset_tool.py writes it, and where there is none."""
    file = Path(config.data) / "dataset.json"
    file.unlink()
    if told is not None:
        file.write_text(json.dumps(told))
    path = train_autoencoder(replace(config, duration=8), tmp_path / "run", CPU)
    encode(path, config.data, tmp_path / "latents.npz", CPU)
    assert LatentDataset(tmp_path / "latents.npz", use_labels=False).label_dim == 0


def test_labels_that_are_no_classes_are_refused(config: AutoencoderConfig, tmp_path: Path) -> None:
    path = train_autoencoder(replace(config, duration=8), tmp_path / "run", CPU)
    file = Path(config.data) / "dataset.json"
    pairs = json.loads(file.read_text())["labels"]
    file.write_text(json.dumps({"labels": [[name, [0.5, label]] for name, label in pairs]}))
    with pytest.raises(ValueError, match="vectors of 2 numbers as labels"):
        encode(path, config.data, tmp_path / "latents.npz", CPU)
    assert not (tmp_path / "latents.npz").exists()


def test_what_does_not_fit_is_refused(config: AutoencoderConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="images of 8 pixels, no multiple of the 16"):
        deep = replace(config, network=NETWORK | {"ch_mult": [1] * 5})
        start(deep, ImageDataset(config.data, use_labels=False), CPU)
    with pytest.raises(ValueError, match=r"perceptual is 1\.0, but there is no distance"):
        train_autoencoder(replace(config, perceptual=1.0), tmp_path / "run", CPU)
    with pytest.raises(ValueError, match="kl_weight is -1"):
        train_autoencoder(replace(config, kl_weight=-1.0), tmp_path / "run", CPU)
    assert not (tmp_path / "run").exists()
