"""Latents as a data set."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from training.dataset import ImageDataset
from training.latents import LatentDataset, is_latents, open_data, write_latents

RANDOM = np.random.RandomState(0)
MEAN, LOGVAR = RANDOM.randn(6, 4, 2, 2), RANDOM.randn(6, 4, 2, 2)
LABELS = np.array([0, 2, 1, 0, 2, 2])


def written(path: Path, **changes: Any) -> Path:
    given: dict[str, Any] = {
        "mean": MEAN, "logvar": LOGVAR, "labels": LABELS, "scale_factor": 0.5, "image_shape": (1, 8, 8),
        "autoencoder": "vae.safetensors", "autoencoder_sha256": "0" * 64,
    }  # fmt: skip
    write_latents(path, **given | changes)
    return path


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    data = open_data(written(tmp_path / "clothes.npz"))
    assert isinstance(data, LatentDataset)
    stored, label = data[1]
    assert torch.equal(stored, torch.tensor(np.stack([MEAN[1], LOGVAR[1]]), dtype=torch.float32))
    assert label.tolist() == [0, 0, 1] and (len(data), data.label_dim) == (6, 3)
    assert (data.image_shape, data.shown_shape) == ((4, 2, 2), (1, 8, 8))
    assert (data.name, data.autoencoder) == ("clothes", "vae.safetensors")
    assert open_data(tmp_path / "clothes.npz", use_labels=False)[1][1].shape == (0,)


def test_values_are_drawn_and_scaled(tmp_path: Path) -> None:
    data = LatentDataset(written(tmp_path / "a.npz"))
    stored = torch.stack([data[i][0] for i in range(2)])
    noise = torch.randn(2, 4, 2, 2, generator=torch.Generator().manual_seed(5))
    mean, deviation = torch.tensor(MEAN[:2]), torch.tensor(LOGVAR[:2] / 2).exp()
    found = data.values(stored, torch.Generator().manual_seed(5))
    assert torch.allclose(found, (0.5 * (mean + deviation * noise)).float(), rtol=1e-5)


def test_images_are_told_from_latents_by_content(tmp_path: Path) -> None:
    assert is_latents(written(tmp_path / "any.zip"))
    assert not is_latents("assets/demo/images.zip") and not is_latents(tmp_path)
    assert isinstance(open_data("assets/demo/images.zip"), ImageDataset)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"mean": MEAN[:5]}, r"not twice float"),
        ({"mean": MEAN[:, :, :1], "logvar": LOGVAR[:, :, :1]}, "must be square"),
        ({"mean": MEAN * np.nan}, "NaN or infinite"),
        ({"scale_factor": 0.0}, "its scale_factor is 0"),
        ({"image_shape": (1, 0, 8)}, "the shape of its images"),
        ({"labels": LABELS - 1}, "no classes of its 6 images"),
        ({"labels": LABELS[:5]}, "no classes of its 6 images"),
        ({"labels": None}, "holds no labels"),
    ],
)
def test_damaged_files_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"bad\.npz .*{message}"):
        LatentDataset(written(tmp_path / "bad.npz", **changes))
