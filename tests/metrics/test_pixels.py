"""The resizes: against their definition, against PIL, and against the official implementations' pixels."""

import numpy as np
import pytest
import torch
from conftest import golden_npz, relative_error
from PIL import Image

from metrics.pixels import (
    PREPARATIONS,
    as_rgb,
    prepare_clean,
    prepare_tensorflow,
    prepare_torch,
    resize_clean,
    resize_tensorflow,
    resize_torch,
)


def bilinear_matrix(n: int, half_pixel: bool) -> np.ndarray:
    """[299, n]: the weight of each source pixel in each output pixel, by definition."""
    matrix = np.zeros((299, n))
    for i in range(299):
        at = max((i + 0.5) * n / 299 - 0.5, 0) if half_pixel else i * n / 299
        low = int(at)
        matrix[i, low] += 1 - (at - low)
        matrix[i, min(low + 1, n - 1)] += at - low
    return matrix


@pytest.mark.parametrize("size", [1, 2, 32, 64, 298, 299, 300, 512])
def test_the_resizes_are_what_they_say(size: int) -> None:
    x = np.random.RandomState(0).rand(2, 3, size, size + 3)
    for half_pixel, resize in ((False, resize_tensorflow), (True, resize_torch)):
        rows, columns = bilinear_matrix(size, half_pixel), bilinear_matrix(size + 3, half_pixel)
        expected = rows @ x @ columns.T
        assert relative_error(resize(torch.from_numpy(x)), expected) < 1e-12
        # float32 positions.
        assert relative_error(resize(torch.from_numpy(x).float()), expected) < 1e-4


def by_pil(image: np.ndarray) -> np.ndarray:
    """A channel [H, W] as clean-fid resizes it: PIL's bicubic on floats, cut to [0, 255], never rounded."""
    resized = Image.fromarray(image.astype(np.float32)).resize((299, 299), Image.Resampling.BICUBIC)
    return np.asarray(resized).clip(0, 255)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (32, 32), (64, 48), (299, 299), (300, 700)])
def test_the_clean_resize_is_pils(height: int, width: int) -> None:
    images = np.random.RandomState(0).randint(0, 256, [2, 3, height, width], dtype=np.uint8)
    expected = np.array([[by_pil(channel) for channel in image] for image in images])
    for dtype in (torch.float32, torch.float64):
        found = resize_clean(torch.from_numpy(images).to(dtype))
        assert np.abs(found.numpy() - expected).max() < 1e-5 * 255
    mapped = prepare_clean(torch.from_numpy(images), torch.float64)
    assert np.abs(mapped.numpy() - (expected - 128) / 128).max() < 2e-5


def test_the_clean_resize_cuts_and_does_not_round() -> None:
    edge = np.zeros([1, 1, 40, 40], np.uint8)
    edge[..., 20:] = 255
    found = resize_clean(torch.from_numpy(edge).float())
    assert found.min() == 0 and found.max() == 255
    assert (found - found.round()).abs().max() > 0.4
    assert torch.equal(prepare_clean(torch.from_numpy(edge), torch.float32), (found - 128) / 128)


@pytest.mark.parametrize("size", [32, 64, 299])
def test_the_official_pixels(size: int) -> None:
    golden = golden_npz("inception")
    images = torch.from_numpy(golden[f"{size}/images_uint8"])
    ours = {
        "resize_tf1": prepare_tensorflow(images, torch.float32) * 128 + 128,
        "resize_torch": (prepare_torch(images, torch.float32) + 1) / 2,
    }
    for name, pixels in ours.items():
        assert relative_error(pixels[:, :, ::13, ::13], golden[f"{size}/{name}/strided_13"]) < 1e-5
        assert relative_error(pixels[:, :, -4:, -4:], golden[f"{size}/{name}/corner_tail"]) < 1e-5


def test_the_range_of_the_network_input() -> None:
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 40, 40)
    for name, top in (("tensorflow", 127 / 128), ("torch", 1.0), ("clean", 127 / 128)):
        x = PREPARATIONS[name](images, torch.float32)
        assert x.shape == (2, 3, 299, 299)
        assert torch.allclose(x[0], torch.tensor(-1.0), atol=1e-6)
        assert torch.allclose(x[1], torch.tensor(top), atol=1e-6)


def test_rgb() -> None:
    gray = torch.arange(8, dtype=torch.uint8).view(2, 1, 2, 2)
    assert torch.equal(as_rgb(gray), torch.cat([gray] * 3, 1))
    assert torch.equal(as_rgb(gray.repeat(1, 3, 1, 1)), gray.repeat(1, 3, 1, 1))
