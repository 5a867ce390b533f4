"""A network small enough for every test of storing and loading, and what those tests share."""

import json
from pathlib import Path
from typing import Any

import edm_pickles
import numpy as np
import pytest
import torch
from conftest import fill
from PIL import Image

from training.checkpoint import load_network
from training.precond import PRECONDS, Precond

SMALL = {
    "img_resolution": 8, "img_channels": 1, "label_dim": 3, "model_type": "DhariwalUNet",
    "model_channels": 32, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4], "dropout": 0.1,
}  # fmt: skip
LEAST = SMALL | {"model_channels": 16, "channel_mult": [1], "attn_resolutions": []}


def small(class_name: str = "EDMPrecond", **changes: Any) -> Precond:
    net = PRECONDS[class_name](**{**SMALL, **changes})
    fill(net)
    return net.eval()


def least(class_name: str = "EDMPrecond", **changes: Any) -> Precond:
    """One level without attention: for what trains any network, and has to make hundreds of steps."""
    return small(class_name, **(LEAST | changes))


def small_snapshot(**settings: Any) -> bytes:
    return edm_pickles.edm_snapshot("EDMPrecond", SMALL, small().state_dict(), **settings)


def written(tmp_path: Path, data: bytes, name: str = "file") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def refusal(source: str | Path, kind: type[Exception] = ValueError) -> str:
    with pytest.raises(kind) as caught:
        load_network(source)
    message = str(caught.value)
    assert message and "\n" not in message
    return message


def assert_same(actual: Precond, expected: Precond) -> None:
    assert type(actual) is type(expected) and actual.init_kwargs == expected.init_kwargs
    assert not actual.training and not any(p.requires_grad for p in actual.parameters())
    a, b = actual.state_dict(), expected.state_dict()
    assert list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def image_folder(tmp_path: Path, count: int = 40) -> Path:
    """So many 8x8 images of three classes, as SMALL draws them."""
    folder = tmp_path / "data"
    folder.mkdir()
    pixels = np.random.RandomState(0).randint(0, 256, [count, 8, 8], dtype=np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{i:02d}.png")
    labels = [[f"{i:02d}.png", i % 3] for i in range(count)]
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    return folder
