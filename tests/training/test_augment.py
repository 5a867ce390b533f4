"""Augmentation: each transformation against what it must do to a picture, and the labels against the images."""

import math
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from training.augment import AUGMENT_DIM, Augmentation, Transformations


def draw(probability: float, images: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    return Augmentation(probability)(images, torch.Generator().manual_seed(seed))


def blob(side: int, x: float, y: float, width: float = 0.08) -> Tensor:
    """A Gaussian spot at (x, y) in [-1, 1]^2, y pointing down: [1, 1, side, side]."""
    at = (torch.arange(side) + 0.5) / side * 2 - 1
    return torch.exp(-((at[None, :] - x) ** 2 + (at[:, None] - y) ** 2) / (2 * width**2))[
        None, None
    ]


def centre(image: Tensor, near: Tensor) -> Tensor:
    """(x, y) of the spot in an image [1, side, side] that is near a place; beyond may be its reflections."""
    side = image.shape[-1]
    at = (torch.arange(side) + 0.5) / side * 2 - 1
    close = ((at[None, :] - near[0]).abs() < 0.3) & ((at[:, None] - near[1]).abs() < 0.3)
    weight = image[0].clamp(min=0) ** 2 * close
    return torch.stack([(weight.sum(0) * at).sum(), (weight.sum(1) * at).sum()]) / weight.sum()


def moved(position: Tensor, label: Tensor, sign: int) -> Tensor:
    """Where a spot goes, from the label alone: mirrored, scaled, turned, stretched (or squeezed), shifted."""
    x, y = position.tolist()
    x, y = (-x if label[0] else x), (-y if label[1] else y)
    factor = 2 ** (0.2 * float(label[2]))
    x, y = x * factor, y * factor
    c, s = float(label[3]) + 1, float(label[4])
    x, y = c * x + s * y, -s * x + c * y  # counter-clockwise with y down
    strength, along = math.hypot(*label[5:7].tolist()), math.atan2(float(label[6]), float(label[5]))
    c, s = math.cos(along), math.sin(along)
    u, v = c * x - s * y, s * x + c * y
    u, v = u * 2 ** (0.2 * sign * strength), v * 2 ** (-0.2 * sign * strength)
    x, y = c * u + s * v, -s * u + c * v
    return torch.tensor([x, y]) + label[7:9] / 4


def test_the_labels_say_where_everything_went() -> None:
    start = torch.tensor([0.11, -0.07])
    images, labels = draw(0.5, blob(64, *start.tolist()).expand(200, 1, 64, 64).clone())
    kinds, inside = [0] * AUGMENT_DIM, 0
    for image, label in zip(images, labels, strict=True):
        either = [moved(start, label, sign) for sign in (1, -1)]
        # The spot has no reflection at the border.
        if max(float(place.abs().max()) for place in either) < 0.55:
            inside += 1
            assert (
                min(float((centre(image, place) - place).abs().max()) for place in either) < 0.015
            ), label
            for i in range(AUGMENT_DIM):
                kinds[i] += bool(label[i])
    assert inside > 100 and min(kinds) > 25


def test_mirrored_images_are_exact() -> None:
    images = torch.randn(64, 3, 8, 8)
    got, labels = draw(0.0, images)
    flip = labels[:, 0] > 0
    assert 20 < flip.sum() < 44
    assert not labels[:, 1:].any()
    assert torch.equal(got[flip], images[flip].flip(3)) and torch.equal(got[~flip], images[~flip])


def test_how_often() -> None:
    _, labels = draw(0.2, torch.zeros(20_000, 1, 2, 2))
    share = (labels != 0).float().mean(0)
    expected = torch.tensor([0.5, 0.1, 0.2, 0.2, 0.2, 0.2, 0.1, 0.2, 0.2])
    assert torch.allclose(share, expected, atol=0.015)
    chosen = labels[:, 2] != 0
    assert float(labels[chosen, 2].std()) == pytest.approx(1, abs=0.05)
    assert torch.allclose(
        (labels[:, 3] + 1) ** 2 + labels[:, 4] ** 2, torch.ones(20_000), atol=1e-5
    )


def test_a_smooth_picture_keeps_its_values() -> None:
    picture = torch.linspace(-1, 1, 64)[None, None, None, :].expand(100, 1, 64, 64)
    got, labels = draw(0.5, picture.clone())
    only_scaled = (labels[:, 2] != 0) & (labels[:, 3:].abs().sum(1) == 0)
    assert only_scaled.any()
    for image, label in zip(got[only_scaled], labels[only_scaled], strict=True):
        slope = float(image[0, 32, 40] - image[0, 32, 24]) / 16
        expected = 2 / 63 / 2 ** (0.2 * float(label[2])) * (-1 if label[0] else 1)
        assert slope == pytest.approx(expected, rel=5e-3)


def test_the_same_draws_give_the_same_images() -> None:
    images = torch.randn(8, 1, 8, 8)
    before = images.clone()
    first, second = draw(0.5, images, seed=3), draw(0.5, images, seed=3)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert not torch.equal(first[1], draw(0.5, images, seed=4)[1])
    assert torch.equal(images, before)


@pytest.mark.parametrize("probability", [-0.1, 1.5, float("nan")])
def test_no_probability(probability: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Augmentation(probability)


def test_edms_own_pipe_does_the_same() -> None:
    stored = np.load(Path(__file__).parents[1] / "golden" / "augment.npz")
    arrays = {name: torch.from_numpy(stored[name]).double() for name in stored}
    told = Transformations(**{field.name: arrays[field.name] for field in fields(Transformations)})
    assert torch.allclose(told.labels(), arrays["labels"], atol=1e-6)
    difference = (told.apply(arrays["images"]) - arrays["augmented"]).abs()
    # There the filter reads beyond the margin of reflections that EDM makes.
    far = told.scale < -2.5
    assert difference[~far].max() < 1e-6 and difference[far].max() < 1e-4 and far.sum() == 1


def test_half_of_the_stretches_are_along_the_axes() -> None:
    _, labels = draw(0.5, torch.zeros(20_000, 1, 2, 2))
    stretched = labels[labels[:, 5] != 0]
    assert float((stretched[:, 6] == 0).float().mean()) == pytest.approx(0.5, abs=0.02)


def test_an_image_does_not_depend_on_its_batch() -> None:
    images = torch.randn(8, 1, 8, 8)
    drawn = Augmentation(0.5).draw(8, torch.Generator().manual_seed(0))
    second = Transformations(
        **{field.name: getattr(drawn, field.name)[1:2] for field in fields(Transformations)}
    )
    assert torch.allclose(drawn.apply(images)[1:2], second.apply(images[1:2]), atol=1e-5)
