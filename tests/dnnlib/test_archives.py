"""Archives: what their readers find in them."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dnnlib.archives import write_npz, write_zip
from dnnlib.pictures import encode_png
from dnnlib.run_folder import WRITERS
from training.dataset import ImageDataset

SEEDS = [3, 5, 1004]


def images(channels: int) -> list[np.ndarray]:
    return [
        np.random.RandomState(seed).randint(0, 256, (channels, 4, 4)).astype(np.uint8)
        for seed in SEEDS
    ]


@pytest.mark.parametrize("channels", [1, 3])
def test_training_reads_the_zip(tmp_path: Path, channels: int) -> None:
    path = tmp_path / "images.zip"
    with open(path, "wb") as file:
        write_zip(file, map(encode_png, images(channels)), SEEDS, [2, 0, 1])
    data = ImageDataset(path)
    assert len(data) == 3 and data.label_dim == 3
    for (image, label), expected, index in zip(data, images(channels), [2, 0, 1], strict=False):
        assert np.array_equal(image.numpy(), expected) and label.argmax() == index
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist()[0] == "00000/img00000000.png"
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert json.loads(archive.read("dataset.json"))["labels"][0] == ["00000/img00000000.png", 2]


def test_a_zip_without_classes_says_null(tmp_path: Path) -> None:
    path = tmp_path / "images.zip"
    with open(path, "wb") as file:
        write_zip(file, map(encode_png, images(3)), SEEDS)
    with zipfile.ZipFile(path) as archive:
        assert json.loads(archive.read("dataset.json")) == {"labels": None}
    assert ImageDataset(path, use_labels=False).label_dim == 0


@pytest.mark.parametrize("classes", [[2, 0, 1], None])
def test_npz_holds_images_classes_and_seeds(tmp_path: Path, classes: list[int] | None) -> None:
    path = tmp_path / "images.npz"
    with open(path, "wb") as file:
        write_npz(file, map(encode_png, images(3)), SEEDS, classes)
    with np.load(path, allow_pickle=False) as arrays:
        # N, H, W, C.
        assert arrays["arr_0"].dtype == np.uint8 and arrays["arr_0"].shape == (3, 4, 4, 3)
        assert np.array_equal(arrays["arr_0"].transpose(0, 3, 1, 2), np.stack(images(3)))
        assert arrays["seeds"].tolist() == SEEDS
        assert (arrays["arr_1"].tolist() == classes) if classes else ("arr_1" not in arrays)


@pytest.mark.parametrize("kind", WRITERS)
def test_equal_images_make_equal_bytes(kind: str) -> None:
    files = [io.BytesIO(), io.BytesIO()]
    for file in files:
        WRITERS[kind](file, map(encode_png, images(1)), SEEDS, [0, 1, 2])
    assert files[0].getvalue() == files[1].getvalue()
