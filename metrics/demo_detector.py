"""A small classifier of Fashion-MNIST as feature network, so that every metric runs offline on the demo network.

Distances between its features are good for comparing settings on the demo network, and for nothing else: they are not
FID, and are called "demo FID" wherever they are shown.

    python -m metrics.demo_detector train --data datasets/fashion-mnist-32.zip \\
        --test datasets/fashion-mnist-32-test.zip --dest assets/demo/detector.safetensors
"""

import dnnlib.start  # noqa: F401  first, before what takes seconds to import

# isort: split
import json
import os
import sys
from pathlib import Path

import click
import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from dnnlib.cli import Group, one_line_errors
from dnnlib.files import atomic_write
from dnnlib.flags import Flag
from dnnlib.util import file_sha256
from metrics.pixels import check_images
from metrics.weights import load_weights
from training.dataset import ImageDataset
from training.watch import check_number, check_tensors

FORMAT = "skip-tuning-edm-detector/1"
METADATA_KEY = "detector"  # one key, as safetensors writes several in random order
RESOLUTION = 32
CLASSES = 10
LEARNING_RATE = 0.1


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2))


class DemoDetector(nn.Module):
    """Three convolutions, each with a maximum pool, and two linear layers; the first one's output is the feature.

    Args:
        sha256: of the file of weights.
    Attributes:
        name: goes into every result.
        feature_dim, num_logits: 128; 10, the classes of Fashion-MNIST.
    """

    name = "demo-fashion-mnist"
    feature_dim = 128
    num_logits = CLASSES

    def __init__(self, sha256: str = "") -> None:
        super().__init__()
        self.sha256 = sha256
        self.body = nn.Sequential(
            _stage(1, 32),  # [N, 32, 16, 16]
            _stage(32, 64),
            _stage(64, 128),  # [N, 128, 4, 4]
            nn.Flatten(),
            nn.Linear(128 * 4 * 4, self.feature_dim, bias=False),
            nn.BatchNorm1d(self.feature_dim),
            nn.ReLU(),
        )
        self.fc = nn.Linear(self.feature_dim, CLASSES)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits.

        Args:
            images: uint8 [N, 1, 32, 32].
        Returns:
            features [N, 128] and logits [N, 10].
        Raises:
            ValueError: if `images` are of another type or shape.
        """
        check_images(images, self.name, channels=(1,))
        if images.shape[2:] != (RESOLUTION, RESOLUTION):
            height, width = images.shape[2:]
            raise ValueError(f"{self.name} reads images of 32x32 pixels, not {width}x{height}")
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
    with torch.device("meta"):
        net = DemoDetector(file_sha256(path))
    try:
        facts = read_facts(path)
        if facts.get("format") != FORMAT:
            raise ValueError(f"a safetensors file, but not of a demo detector: it lacks the format {FORMAT!r}")
        load_weights(net, safetensors.torch.load_file(path))
    except (ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path}: {error}") from error
    return net.requires_grad_(False).eval()


def read_facts(path: str | os.PathLike[str]) -> dict[str, object]:
    """What `train` recorded: format, test_accuracy, data and settings; empty for others' safetensors files."""
    with safetensors.safe_open(path, framework="pt") as file:
        return dict(json.loads((file.metadata() or {}).get(METADATA_KEY, "{}")))


def save(net: DemoDetector, path: str | os.PathLike[str], facts: dict[str, object]) -> None:
    """Store the detector as safetensors, atomically; equal ones make equal files."""
    tensors = {name: value.contiguous() for name, value in net.state_dict().items()}
    metadata = {METADATA_KEY: json.dumps({"format": FORMAT} | facts, sort_keys=True)}
    with atomic_write(path) as file:
        file.write(safetensors.torch.save(tensors, metadata))


def train(images: Tensor, classes: Tensor, epochs: float = 6, batch: int = 128, seed: int = 0) -> DemoDetector:
    """Train a classifier by SGD with a one-cycle learning rate; images are flipped or not, at random.

    Args:
        images: uint8 [N, 1, 32, 32].
        classes: int64 [N].
        epochs: passes over the images.
        batch: images a step.
        seed: of initial weights, order and flips. The same seed on the same machine and number of threads gives
            the same network.
    Returns:
        The detector, in eval mode.
    Raises:
        ValueError: if that makes fewer than two steps.
        RuntimeError: if the loss or a weight is NaN or infinite.
    """
    steps = int(epochs * (len(images) // batch))
    if steps < 2:
        raise ValueError(f"{epochs} epochs of {len(images)} images in batches of {batch} are too little to train on")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = DemoDetector().to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE, momentum=0.9, weight_decay=5e-4, nesterov=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LEARNING_RATE, total_steps=steps)
        order = torch.empty(0, dtype=torch.long)
        for _ in tqdm(range(steps), desc="steps", file=sys.stderr, disable=None):
            if len(order) < batch:
                order = torch.randperm(len(images))
            chosen, order = order[:batch], order[batch:]
            flip = torch.rand(batch, 1, 1, 1) < 0.5
            _features, logits = net.embed(torch.where(flip, images[chosen].flip(3), images[chosen]))
            loss = F.cross_entropy(logits, classes[chosen])
            check_number(float(loss), "the loss")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        check_tensors({"the network": list(net.state_dict().values())}, torch.device("cpu"))
    return net.requires_grad_(False).eval()


def accuracy(net: DemoDetector, images: Tensor, classes: Tensor, batch: int = 500) -> float:
    """The share of images that get their class."""
    right = sum(
        int((net(x)[1].argmax(1) == y).sum()) for x, y in zip(images.split(batch), classes.split(batch), strict=True)
    )
    return right / len(images)


def _read(path: Path) -> tuple[Tensor, Tensor]:
    """Images and classes of a data set zip that suits the detector."""
    dataset = ImageDataset(path)
    if dataset.image_shape != (1, RESOLUTION, RESOLUTION) or dataset.label_dim != CLASSES:
        shape = "x".join(map(str, dataset.image_shape))
        raise ValueError(f"{path} has {shape} images of {dataset.label_dim} classes; needed are 1x32x32 of {CLASSES}")
    images, labels = dataset.to_tensor()
    return images, labels.argmax(1)


@click.group(cls=Group)
def main() -> None:
    """Make the feature network of the demo."""


@main.command("train")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Data set zip to train on")
@click.option("--test", type=click.Path(path_type=Path), required=True, help="Data set zip to test on")
@click.option(
    "--dest",
    "out",
    cls=Flag,
    old=["--out"],
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="File to write",
)
@click.option("--epochs", type=click.FloatRange(min=0, min_open=True), default=6, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def train_command(data: Path, test: Path, out: Path, epochs: float, seed: int) -> None:
    """Train, test and write the detector; print what is recorded in the file as JSON.

    \b
    Example:
      python -m metrics.demo_detector train --data datasets/fashion-mnist-32.zip \\
          --test datasets/fashion-mnist-32-test.zip --dest assets/demo/detector.safetensors
    """
    with one_line_errors():
        images, classes = _read(data)
        test_images, test_classes = _read(test)
        net = train(images, classes, epochs, seed=seed)
        facts: dict[str, object] = {
            "test_accuracy": round(accuracy(net, test_images, test_classes), 4),
            "train_images": len(images),
            "test_images": len(test_images),
            "data": data.name,
            "epochs": epochs,
            "seed": seed,
            "torch": torch.__version__,
        }
        save(net, out, facts)
        click.echo(json.dumps(facts | {"bytes": out.stat().st_size, "sha256": file_sha256(out)}, indent=2))


if __name__ == "__main__":
    main()
