"""A small classifier as feature network, so that every metric runs offline: Fashion-MNIST's, or one of your own images.

Distances between its features are good for comparing settings on one kind of images, and for nothing else: they are not
FID, and are called "demo FID" wherever they are shown.

    python -m metrics.demo_detector train --data datasets/fashion-mnist-32.zip \\
        --test datasets/fashion-mnist-32-test.zip --dest assets/demo/detector.safetensors
"""

import dnnlib.start  # noqa: F401  first, before what takes seconds to import

# isort: split
import json
import os
import re
import sys
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import click
import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from dnnlib.cli import Group
from dnnlib.files import check_writable
from dnnlib.flags import SEED, Flags, add_flags, flag
from dnnlib.text import printable
from dnnlib.util import file_sha256
from metrics.pixels import check_images
from metrics.weights import load_weights
from torch_utils.safetensors_files import check_safetensors, write_safetensors
from training.dataset import ImageDataset
from training.run.watch import check_number, check_tensors

FORMAT = "skip-tuning-edm-detector/1"
NAME = "demo-fashion-mnist"  # of the bundled one
METADATA_KEY = "detector"  # one key, as safetensors writes several in random order
RESOLUTION = 32  # of the bundled one
LEARNING_RATE = 0.1
SMALLEST, LARGEST = 4, 4096  # pixels along an edge
MOST_CLASSES = 100_000


@dataclass(frozen=True)
class Shape:
    """What a detector reads and tells apart.

    Args:
        channels: 1 (grayscale) or 3 (RGB).
        height, width: of an image, in pixels.
        classes: how many.
    Raises:
        ValueError: if one is out of range.
    """

    channels: int = 1
    height: int = RESOLUTION
    width: int = RESOLUTION
    classes: int = 10

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if type(value) is not int:
                raise ValueError(f"{name} is {printable(repr(value), 50)}, not a whole number")
        if self.channels not in (1, 3):
            raise ValueError(
                f"images have {self.channels} channels; a detector reads 1 (grayscale) or 3 (RGB)"
            )
        if min(self.height, self.width) < SMALLEST or max(self.height, self.width) > LARGEST:
            size = f"{self.width}x{self.height} pixels"
            raise ValueError(
                f"images have {size}; a detector reads {SMALLEST} to {LARGEST} along an edge"
            )
        if not 2 <= self.classes <= MOST_CLASSES:
            raise ValueError(
                f"there are {self.classes} classes to learn; a detector needs 2 to {MOST_CLASSES}"
            )

    @property
    def stages(self) -> int:
        """How often the image is halved: until its shorter edge has less than 8 pixels."""
        return max(1, min(self.height, self.width).bit_length() - 3)


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2))


class DemoDetector(nn.Module):
    """Convolutions, each with a maximum pool, and two linear layers; the first one's output is the feature.

    The bundled one has three convolutions.

    Args:
        sha256: of the file of weights.
        shape: of the images, and how many classes they have.
        name: goes into every result; begins with "demo".
    Attributes:
        feature_dim, num_logits: 128; the number of classes.
    """

    feature_dim = 128

    def __init__(self, sha256: str = "", shape: Shape | None = None, name: str = NAME) -> None:
        super().__init__()
        self.sha256, self.shape, self.name = sha256, shape or Shape(), name
        self.num_logits = self.shape.classes
        widths = [self.shape.channels] + [
            min(32 * 2**stage, 128) for stage in range(self.shape.stages)
        ]
        stages = [_stage(inputs, outputs) for inputs, outputs in pairwise(widths)]
        height, width = (
            edge >> self.shape.stages for edge in (self.shape.height, self.shape.width)
        )
        self.body = nn.Sequential(
            *stages,  # of the bundled one [N, 32, 16, 16], [N, 64, 8, 8], [N, 128, 4, 4]
            nn.Flatten(),
            nn.Linear(widths[-1] * height * width, self.feature_dim, bias=False),
            nn.BatchNorm1d(self.feature_dim),
            nn.ReLU(),
        )
        self.fc = nn.Linear(self.feature_dim, self.shape.classes)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits.

        Args:
            images: uint8 [N, C, H, W], of its own shape.
        Returns:
            features [N, 128] and logits [N, classes].
        Raises:
            ValueError: if `images` are of another type or shape.
        """
        check_images(images, self.name, channels=(self.shape.channels,))
        own = (self.shape.height, self.shape.width)
        if images.shape[2:] != own:
            height, width = images.shape[2:]
            raise ValueError(
                f"{self.name} reads images of {own[1]}x{own[0]} pixels, not {width}x{height}"
            )
        return self.embed(images)

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """`forward` with gradients, of grey levels of any type in [0, 255], unchecked."""
        features = self.body(images.float() / 127.5 - 1)
        return features, self.fc(features)


def load_demo_detector(path: str | os.PathLike[str]) -> DemoDetector:
    """Load what `train` wrote, on the CPU, ready for use.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged or another program's.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        facts = read_facts(path)
        if facts.get("format") != FORMAT:
            raise ValueError(
                f"a safetensors file, but not of a demo detector: it lacks the format {FORMAT!r}"
            )
        check_safetensors(path)
        shape, name = facts.get("shape", {}), facts.get("name", NAME)
        if not isinstance(shape, dict) or not set(shape) <= {
            "channels",
            "height",
            "width",
            "classes",
        }:
            raise ValueError("what it records as the shape of its images is none")
        if not isinstance(name, str) or not re.fullmatch(r"demo[a-z0-9-]{0,60}", name):
            raise ValueError(
                f"it records the name {printable(repr(name), 80)}; need demo-, letters and digits"
            )
        with torch.device("meta"):
            net = DemoDetector(file_sha256(path), Shape(**shape), name)
        load_weights(net, safetensors.torch.load_file(path))
    except (ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path}: {printable(error)}") from error
    return net.requires_grad_(False).eval()


def read_facts(path: str | os.PathLike[str]) -> dict[str, object]:
    """What `train` recorded: format, name, shape, test_accuracy, data and settings; empty for others' files.

    Raises:
        ValueError, safetensors.SafetensorError: if the file is damaged.
    """
    with safetensors.safe_open(path, framework="pt") as file:
        recorded = (file.metadata() or {}).get(METADATA_KEY, "{}")
    try:
        facts = json.loads(recorded)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its metadata {METADATA_KEY!r} is no JSON") from error
    if not isinstance(facts, dict):
        raise ValueError(f"its metadata {METADATA_KEY!r} is no JSON object")
    return facts


def save(net: DemoDetector, path: str | os.PathLike[str], facts: dict[str, object]) -> None:
    """Store the detector as safetensors, atomically; equal ones make equal files."""
    tensors = {name: value.contiguous() for name, value in net.state_dict().items()}
    own = {"format": FORMAT, "name": net.name, "shape": asdict(net.shape)}
    metadata = {METADATA_KEY: json.dumps(own | facts, sort_keys=True)}
    write_safetensors(path, tensors, metadata)


def train(
    images: Tensor,
    classes: Tensor,
    epochs: float = 6,
    batch: int = 128,
    seed: int = 0,
    name: str = NAME,
) -> DemoDetector:
    """Train a classifier by SGD with a one-cycle learning rate; images are flipped or not, at random.

    Args:
        images: uint8 [N, C, H, W].
        classes: int64 [N].
        epochs: passes over the images.
        batch: images a step.
        seed: of initial weights, order and flips. The same seed on the same machine and number of threads gives
            the same network.
        name: of the detector.
    Returns:
        The detector, in eval mode.
    Raises:
        ValueError: if that makes fewer than two steps, or images or classes are beyond `Shape`.
        RuntimeError: if the loss or a weight is NaN or infinite.
    """
    steps = int(epochs * (len(images) // batch))
    if steps < 2:
        raise ValueError(
            f"{epochs} epochs of {len(images)} images in batches of {batch} are too little to train on"
        )

    channels, height, width = images.shape[1:]
    shape = Shape(channels, height, width, int(classes.max()) + 1)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = DemoDetector(shape=shape, name=name).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        optimizer = torch.optim.SGD(
            net.parameters(), lr=LEARNING_RATE, momentum=0.9, weight_decay=5e-4, nesterov=True
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=LEARNING_RATE, total_steps=steps
        )

        order = torch.empty(0, dtype=torch.long)
        for _ in tqdm(range(steps), desc="steps", file=sys.stderr, disable=None):
            if len(order) < batch:
                order = torch.randperm(len(images))
            chosen, order = order[:batch], order[batch:]

            flip = torch.rand(batch, 1, 1, 1) < 0.5
            _features, logits = net.embed(torch.where(flip, images[chosen].flip(3), images[chosen]))
            loss = F.cross_entropy(logits, classes[chosen])
            check_number(float(loss.detach()), "the loss")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        check_tensors({"the network": list(net.state_dict().values())}, torch.device("cpu"))
    return net.requires_grad_(False).eval()


def accuracy(net: DemoDetector, images: Tensor, classes: Tensor, batch: int = 500) -> float:
    """The share of images that get their class."""
    right = sum(
        int((net(x)[1].argmax(1) == y).sum())
        for x, y in zip(images.split(batch), classes.split(batch), strict=True)
    )
    return right / len(images)


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


def name_of(data: Path) -> str:
    """What a detector of a data set is called: fashion-mnist-32.zip -> demo-fashion-mnist."""
    words = re.sub(r"[^a-z0-9]+", "-", re.sub(r"-\d+(x\d+)?$", "", data.stem.lower())).strip("-")
    return f"demo-{words[:50]}" if words else "demo"


@click.group(cls=Group)
def main() -> None:
    """Make a small feature network, as the demo's, of any labelled images."""


@dataclass(frozen=True, kw_only=True)
class TrainFlags(Flags):
    """What `train` trains on, and how."""

    # fmt: off
    data: Path        = flag("Data set zip to train on", required=True)
    test: Path | None = flag("Data set to test on  [default: every tenth image of --data, which then is not trained on]")
    dest: Path        = flag("File to write", old=["--out"], type=click.Path(path_type=Path, dir_okay=False), required=True)
    epochs: float     = flag("", type=click.FloatRange(min=0, min_open=True), default=6)
    seed: int         = flag("Of weights, order and flips", type=SEED, default=0)
    # fmt: on


@main.command("train")
@add_flags(TrainFlags)
def train_command(flags: TrainFlags) -> None:
    """Train, test and write the detector; print what is recorded in the file as JSON.

    \b
    Example:
      python -m metrics.demo_detector train --data datasets/fashion-mnist-32.zip \\
          --test datasets/fashion-mnist-32-test.zip --dest assets/demo/detector.safetensors
    """
    check_writable(flags.dest, "--dest")
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
    net = train(images, classes, flags.epochs, seed=flags.seed, name=name_of(flags.data))
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


if __name__ == "__main__":
    main()
