"""Real images by number: which file is which."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_network import tiny_network

from skip.scale import SkipScale
from skip.studies.inputs import RealImages
from skip.tuned import SkipTuned

CPU = torch.device("cpu")


@pytest.fixture
def images(tmp_path: Path) -> RealImages:
    """Twelve, the i-th of value 20 i; of class i // 6 of a network with ten."""
    (tmp_path / "in").mkdir()
    for i in range(12):
        Image.new("L", (8, 8), 20 * i).save(tmp_path / "in" / f"{i:02d}.png")
    labels = [[f"{i:02d}.png", i // 6] for i in range(12)]
    (tmp_path / "in" / "dataset.json").write_text(json.dumps({"labels": labels}))
    return RealImages(str(tmp_path / "in"), SkipTuned(tiny_network(), SkipScale()), 12)


def test_numbers_are_places_in_a_fixed_random_order(images: RealImages) -> None:
    """Published: a seed's image must stay the same in later versions; and sorted files give mixed classes."""
    order = np.random.RandomState(0).permutation(12)
    assert order[:4].tolist() == [6, 11, 4, 10]
    x, labels = images.batch([0, 1, 2, 11], CPU)
    assert ((x + 1) * 127.5).amax((1, 2, 3)).round().tolist() == [
        20.0 * i for i in order[[0, 1, 2, 11]]
    ]
    assert x.shape == (4, 1, 8, 8) and labels is not None and labels.shape == (4, 10)
    assert labels.argmax(1).tolist() == [i // 6 for i in order[[0, 1, 2, 11]]]


def test_more_numbers_than_images_are_refused(tmp_path: Path, images: RealImages) -> None:
    with pytest.raises(ValueError, match="has 12 images; seeds below 12 can be used"):
        RealImages(str(tmp_path / "in"), SkipTuned(tiny_network(), SkipScale()), 13)
