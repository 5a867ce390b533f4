"""The dataset zip as training reads it, and the order in which training visits it."""

import io
import itertools
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from training.dataset import ImageDataset, InfiniteSampler

# The layout is written here by hand, from its description: the readers must not rest on our own writer.


def pixels(count: int, channels: int = 3, size: int = 4) -> np.ndarray:
    shape = (count, channels, size, size)
    return np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)  # (N, C, H, W)


def png(image: np.ndarray) -> bytes:
    channels_last = image.transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(channels_last[:, :, 0] if image.shape[0] == 1 else channels_last).save(
        buffer, "png"
    )
    return buffer.getvalue()


def member(index: int) -> str:
    return f"{index // 1000:05d}/img{index:08d}.png"


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def members(images: np.ndarray, labels: Any = "absent") -> dict[str, bytes]:
    result = {member(i): png(image) for i, image in enumerate(images)}
    if labels != "absent":
        pairs = None if labels is None else [[member(i), label] for i, label in enumerate(labels)]
        result["dataset.json"] = json.dumps({"labels": pairs}).encode()
    return result


@pytest.mark.parametrize("channels", [1, 3])
def test_reads_pixels_and_one_hot_labels_exactly(tmp_path: Path, channels: int) -> None:
    images = pixels(3, channels)
    data = ImageDataset(write_zip(tmp_path / "tiny.zip", members(images, [2, 0, 4])))
    assert (len(data), data.name, data.resolution, data.num_channels) == (3, "tiny", 4, channels)
    assert data.image_shape == (channels, 4, 4)
    assert data.label_dim == 5 and data.nbytes == images.nbytes
    for index, label in enumerate([2, 0, 4]):
        image, vector = data[index]
        assert image.dtype == torch.uint8 and vector.dtype == torch.float32
        assert np.array_equal(image.numpy(), images[index])
        assert vector.tolist() == np.eye(5)[label].tolist()


def test_a_folder_reads_as_the_zip_does(tmp_path: Path) -> None:
    content = members(pixels(3), [1, 0, 1])
    for name, data in content.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(data)
    folder = ImageDataset(tmp_path / "folder")
    packed = ImageDataset(write_zip(tmp_path / "folder.zip", content))
    assert folder.name == packed.name == "folder"
    for a, b in zip(folder.to_tensor(), packed.to_tensor(), strict=True):
        assert torch.equal(a, b)


def test_preloaded_equals_read_on_demand(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", members(pixels(5), [3, 1, 0, 2, 2]))
    lazy, eager = ImageDataset(path), ImageDataset(path)
    images, labels = eager.to_tensor()
    path.unlink()
    assert images.shape == (5, 3, 4, 4) and images.dtype == torch.uint8
    assert labels.shape == (5, 4) and labels.dtype == torch.float32
    for index in range(5):  # `lazy` still has its archive open
        for a, b, c in zip(lazy[index], eager[index], (images[index], labels[index]), strict=True):
            assert torch.equal(a, b) and torch.equal(a, c)


def test_label_vectors_pass_through_and_no_labels_are_empty(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", members(pixels(2), [[0.5, -1, 2], [0, 0.25, 1]]))
    assert ImageDataset(path).to_tensor()[1].tolist() == [[0.5, -1, 2], [0, 0.25, 1]]
    without = ImageDataset(path, use_labels=False)
    assert without.label_dim == 0
    assert without[1][1].shape == (0,) and without.to_tensor()[1].shape == (2, 0)
    assert (
        ImageDataset(write_zip(tmp_path / "b.zip", members(pixels(2))), use_labels=False).label_dim
        == 0
    )


def test_labels_are_found_by_name_not_by_place(tmp_path: Path) -> None:
    content = members(pixels(3))
    pairs = [[member(2), 5], ["gone.png", 9], [member(0), 3], [member(1).replace("/", "\\"), 4]]
    content["dataset.json"] = json.dumps({"labels": pairs}).encode()
    data = ImageDataset(write_zip(tmp_path / "a.zip", content))
    assert data.to_tensor()[1].argmax(1).tolist() == [3, 4, 5] and data.label_dim == 6


def test_forked_workers_read_what_the_parent_reads(tmp_path: Path) -> None:
    images = pixels(64)
    data = ImageDataset(write_zip(tmp_path / "a.zip", members(images, list(range(64)))))
    assert data[0][0].shape == (3, 4, 4)  # the parent's archive is open before the workers start
    loader = torch.utils.data.DataLoader(
        data, batch_size=4, num_workers=2, multiprocessing_context="fork"
    )
    batches = [batch[0].numpy() for batch in loader]
    assert np.array_equal(np.concatenate(batches), images)


def test_each_process_opens_its_own_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ImageDataset(write_zip(tmp_path / "a.zip", members(pixels(2), [0, 1])))
    parents = data._files._archive()
    monkeypatch.setattr(os, "getpid", lambda: -2)  # as in a child after fork
    assert data._files._archive() is not parents
    spawned = pickle.loads(pickle.dumps(data))
    assert spawned._files._zip is None and torch.equal(spawned[1][0], data[1][0])


GRAY, COLOUR = png(pixels(1, 1)[0]), png(pixels(1)[0])
LARGE, WIDE = png(pixels(1, size=8)[0]), png(pixels(1, size=8)[0][:, :4])


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (LARGE, r"img00000001.png in .*a.zip is \(3, 8, 8\), the first image is \(3, 4, 4\)"),
        (GRAY, r"img00000001.png in .*a.zip is \(1, 4, 4\)"),
        (b"no image", "img00000001.png in .*a.zip is not an image"),
        (COLOUR[:60], "img00000001.png in .*a.zip is not an image, or is corrupt"),
    ],
    ids=["size", "channels", "no image", "cut short"],
)
def test_a_bad_image_is_named(tmp_path: Path, second: bytes, message: str) -> None:
    path = write_zip(tmp_path / "a.zip", {member(0): COLOUR, member(1): second})
    with pytest.raises(ValueError, match=message):
        ImageDataset(path, use_labels=False)[1]
    with pytest.raises(ValueError, match=message):
        ImageDataset(path, use_labels=False).to_tensor()


def test_damage_inside_the_zip_is_named(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {member(0): COLOUR, member(1): LARGE})
    data = bytearray(path.read_bytes())
    data[data.index(LARGE) + 50] ^= 255
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"cannot read 00000/img00000001.png in .*a.zip: Bad CRC"):
        ImageDataset(path, use_labels=False)[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no images"),
        ({"readme.txt": b""}, "holds no images"),
        ({"../a.png": COLOUR}, "unsafe name '../a.png'"),
        ({"/a.png": COLOUR}, "unsafe name '/a.png'"),
        ({"a\\..\\..\\a.png": COLOUR}, "unsafe name"),
        ({"C:/a.png": COLOUR}, "unsafe name"),
        (
            {"a.png": WIDE, "dataset.json": b'{"labels": [["a.png", 0]]}'},
            r"a.png in .* is 8x4 \(width x height\); images must be square",
        ),
        ({"a.png": COLOUR}, r"has no labels \(no dataset.json\)"),
        ({"a.png": COLOUR, "dataset.json": b'{"labels": null}'}, "dataset.json says null"),
        ({"a.png": COLOUR, "dataset.json": b"{"}, "dataset.json in .* is not of the form"),
        ({"a.png": COLOUR, "dataset.json": b"[]"}, "is not of the form"),
        ({"a.png": COLOUR, "dataset.json": b'{"labels": [3]}'}, "is not of the form"),
        ({"a.png": COLOUR, "dataset.json": b'{"labels": [[3, 3]]}'}, "is not of the form"),
        (
            {"a.png": COLOUR, "dataset.json": b'{"labels": [["b.png", 3]]}'},
            "no label for 1 of 1 images",
        ),
        (
            {"a.png": COLOUR, "dataset.json": b'{"labels": [["a.png", 3], ["a.png", 4]]}'},
            "two different labels",
        ),
        (
            {"a.png": COLOUR, "dataset.json": b'{"labels": [["a.png", 1000000]]}'},
            "label 1000000 is beyond",
        ),
        ({"a.png": COLOUR, "dataset.json": b'{"labels": ' + b"[" * 100000}, "is not of the form"),
        ({"a.png": COLOUR, "dataset.json": b'{"labels": [["a.png", -1]]}'}, "integers >= 0"),
        ({"a.png": COLOUR, "dataset.json": b'{"labels": [["a.png", "cat"]]}'}, "integers >= 0"),
        ({"a.png": COLOUR, "dataset.json": b'{"labels": [["a.png", [NaN]]]}'}, "finite numbers"),
        (
            {
                "a.png": COLOUR,
                "b.png": COLOUR,
                "dataset.json": b'{"labels": [["a.png", [1]], ["b.png", 1]]}',
            },
            "differ in length",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_data_set_is_one_clear_line(
    tmp_path: Path, content: dict[str, bytes], message: str
) -> None:
    path = write_zip(tmp_path / "a.zip", content)
    with pytest.raises(ValueError, match=message) as caught:
        ImageDataset(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_zip_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere.zip does not exist"):
        ImageDataset(tmp_path / "nowhere.zip")
    (tmp_path / "text.zip").write_text("text")
    with pytest.raises(ValueError, match=r"text.zip is not a zip file"):
        ImageDataset(tmp_path / "text.zip")


def test_other_modes_are_read_as_dataset_tool_reads_them(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a.png is transparent in places"):
        ImageDataset(tmp_path, use_labels=False)
    Image.fromarray(np.full((4, 4), 65535 // 5, np.uint16)).save(tmp_path / "a.png")
    assert (ImageDataset(tmp_path, use_labels=False)[0][0] == 51).all()
    colour = Image.fromarray(pixels(1)[0].transpose(1, 2, 0))
    colour.convert("P").save(tmp_path / "a.png")
    expected = np.array(colour.convert("P").convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(ImageDataset(tmp_path, use_labels=False)[0][0].numpy(), expected)


def test_the_cure_for_mixed_images_is_named(tmp_path: Path) -> None:
    for name, second, cure in (
        ("a", GRAY, "--channels 3 makes"),
        ("b", LARGE, "--resolution makes"),
    ):
        path = write_zip(tmp_path / f"{name}.zip", {member(0): COLOUR, member(1): second})
        with pytest.raises(ValueError, match=f"dataset_tool.py {cure} them alike"):
            ImageDataset(path, use_labels=False)[1]


def take(count: int, *args: Any, **kwargs: Any) -> list[int]:
    return list(itertools.islice(InfiniteSampler(*args, **kwargs), count))


def test_every_epoch_is_another_permutation() -> None:
    order = take(21, 7)
    epochs = [order[i : i + 7] for i in (0, 7, 14)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert take(21, 7) == order and take(21, 7, seed=1) != order


@pytest.mark.parametrize("start", [0, 1, 6, 7, 8, 20, 21, 50])
def test_a_start_continues_the_stream_exactly(start: int) -> None:
    assert take(30, 7, seed=3, start=start) == take(start + 30, 7, seed=3)[start:]
    for rank in range(3):  # on three ranks after any count that one rank consumed
        expected = take(start + 30, 7, seed=3)[start + rank :: 3]
        assert take(10, 7, rank, 3, seed=3, start=start) == expected


def test_ranks_share_each_epoch_without_overlap() -> None:
    halves = [take(5, 10, rank, 2) for rank in range(2)]
    assert sorted(halves[0] + halves[1]) == list(range(10))


def test_the_order_is_the_same_on_every_machine_and_far_positions_are_reached_at_once() -> None:
    far = InfiniteSampler(1000, start=10**12 + 17)
    assert next(iter(far)) == int(np.random.RandomState([0, 10**9]).permutation(1000)[17])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"dataset_size": 0}, "dataset_size is 0"),
        ({"dataset_size": 5, "rank": 2, "num_replicas": 2}, "rank 2 is outside"),
        ({"dataset_size": 5, "start": -1}, "start is -1"),
    ],
)
def test_sampler_refuses_nonsense(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InfiniteSampler(**kwargs)
