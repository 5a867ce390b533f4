"""How a demo detector learns its classes, and how many images it gets right."""

import sys

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from metrics.demo_detector.names import ARCH
from metrics.demo_detector.network import NAME, DemoDetector
from metrics.demo_detector.shape import Shape
from training.run.watch import check_number, check_tensors

LEARNING_RATE = 0.1


def train(
    images: Tensor,
    classes: Tensor,
    epochs: float = 6,
    batch: int = 128,
    seed: int = 0,
    name: str = NAME,
    arch: str = ARCH,
) -> DemoDetector:
    """Train a classifier by SGD with a one-cycle learning rate; images are flipped or not, at random.

    Args:
        images: uint8 [N, C, H, W].
        classes: int64 [N].
        epochs: passes over the images.
        batch: images a step.
        seed: of initial weights, order and flips. The same seed on the same machine and number of threads gives
            the same network.
        name, arch: of the detector.
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
        net = DemoDetector(shape=shape, name=name, arch=arch).train()
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
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
