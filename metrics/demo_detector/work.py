"""What python -m metrics.demo_detector does."""

import json
import re
from pathlib import Path

import click
import torch
from torch import Tensor

from dnnlib.files import check_writable
from dnnlib.util import file_sha256
from metrics.demo_detector.files import save
from metrics.demo_detector.flags import TrainFlags
from metrics.demo_detector.learning import accuracy, train
from metrics.demo_detector.names import ARCH
from metrics.demo_detector.shape import Shape
from training.dataset import ImageDataset


def train_and_save(flags: TrainFlags) -> None:
    """What `python -m metrics.demo_detector train` does."""
    check_writable(flags.dest, "--dest", "", ".safetensors")
    images, classes = _read(flags.data)
    if flags.test is None:
        (images, classes), (test_images, test_classes) = _held_out(images, classes)
    else:
        test_images, test_classes = _read(flags.test)

    if test_images.shape[1:] != images.shape[1:] or test_classes.max() > classes.max():
        shapes = ["x".join(map(str, x.shape[1:])) for x in (test_images, images)]
        counts = [int(x.max()) + 1 for x in (test_classes, classes)]
        raise ValueError(
            f"{flags.test} has {shapes[0]} images of {counts[0]} classes; {flags.data} has {shapes[1]} of {counts[1]}"
        )

    name = name_of(flags.data, flags.arch)
    net = train(images, classes, flags.epochs, seed=flags.seed, name=name, arch=flags.arch)
    facts: dict[str, object] = {
        "test_accuracy": round(accuracy(net, test_images, test_classes), 4),
        "train_images": len(images),
        "test_images": len(test_images),
        "data": flags.data.name,
        "epochs": flags.epochs,
        "seed": flags.seed,
        "torch": torch.__version__,
    }

    save(net, flags.dest, facts)
    written = {"bytes": flags.dest.stat().st_size, "sha256": file_sha256(flags.dest)}
    click.echo(json.dumps(facts | written, indent=2))


def _read(path: Path) -> tuple[Tensor, Tensor]:
    """Images and classes of a data set.

    Raises:
        ValueError: if it has no classes, or its images are beyond `Shape`.
    """
    ImageDataset(path, use_labels=False)  # refuses what is no data set
    try:
        dataset = ImageDataset(path)
    except ValueError as error:
        raise ValueError(
            f"{error}; a detector learns classes too: make the data set of one folder a class"
        ) from error
    try:
        channels, height, width = dataset.image_shape
        Shape(channels, height, width, dataset.label_dim)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    images, labels = dataset.to_tensor()
    return images, labels.argmax(1)


def _held_out(images: Tensor, classes: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Nine tenths to train on and every tenth to test on, of an order that has nothing to do with the classes."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    tested = order[::10]
    trained = order[torch.arange(len(order)) % 10 != 0]
    return [(images[part], classes[part]) for part in (trained, tested)]


def name_of(data: Path, arch: str = ARCH) -> str:
    """What a detector of a data set is called: fashion-mnist-32.zip -> demo-fashion-mnist, or demo-fashion-mnist-resnet."""
    words = re.sub(r"[^a-z0-9]+", "-", re.sub(r"-\d+(x\d+)?$", "", data.stem.lower())).strip("-")
    parts = ["demo", words[:50], "" if arch == ARCH else arch]
    return "-".join(part for part in parts if part)
