"""FreeU against the library that people know it from, and against its formulas."""

import numpy as np
import pytest
import torch

from skip.methods.freeu import FreeU, FreeU2, low_frequencies

ALL = torch.tensor(1.0)
FACTORS = {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2}


def features(*sides: int, channels: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    u = torch.randn(3, channels, *sides, generator=draw)
    return u, torch.randn(3, 4, *sides, generator=draw)


@pytest.mark.parametrize("sides", [(8, 8), (7, 5), (12, 6), (2, 3), (1, 4), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("level", [0, 1])
def test_version_1_is_that_of_diffusers(
    sides: tuple[int, int], dtype: torch.dtype, level: int
) -> None:
    """The judge computes in float32: its Fourier transform fails in half precision on sizes that are no powers of 2."""
    diffusers = pytest.importorskip("diffusers.utils.torch_utils")
    u, d = (part.to(dtype) for part in features(*sides))
    expected = diffusers.apply_freeu(level, u.float().clone(), d.float(), **FACTORS)
    found = FreeU(**FACTORS).join(u, d, level, (0, 1), ALL)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == dtype
        digits = 2e-6 if dtype == torch.float32 else 2 * torch.finfo(dtype).eps
        torch.testing.assert_close(one.float(), other, rtol=digits, atol=4 * digits)


def test_version_2_follows_the_mean_over_channels() -> None:
    u, d = features(3, 4)
    kept = u.clone(), d.clone()
    found, skip = FreeU2(b1=1.5).join(u, d, 0, (0,), ALL)
    for image in range(3):
        mean = u[image].numpy().mean(0)
        structure = (mean - mean.min()) / (mean.max() - mean.min())
        expected = u[image].numpy().copy()
        expected[:3] *= 1 + 0.5 * structure
        np.testing.assert_allclose(found[image].numpy(), expected, rtol=1e-5)
    assert torch.equal(skip, d)
    assert torch.equal(u, kept[0]) and torch.equal(d, kept[1])  # neither is changed in place


def test_a_map_without_structure_stays() -> None:
    u = torch.full([2, 4, 3, 3], 0.7)
    assert torch.equal(FreeU2(b1=1.5).join(u, u, 0, (0,), ALL)[0], u)


@pytest.mark.parametrize("sides", [(4, 4), (5, 3), (1, 1), (2, 2)])
def test_low_frequencies_are_those_of_a_fourier_transform(sides: tuple[int, int]) -> None:
    d = features(*sides)[1].double().numpy()
    spectrum = np.fft.fft2(d)
    kept = np.zeros_like(spectrum)
    for row in {0, sides[0] - 1}:
        for column in {0, sides[1] - 1}:
            kept[..., row, column] = spectrum[..., row, column]
    expected = np.fft.ifft2(kept).real
    np.testing.assert_allclose(low_frequencies(torch.from_numpy(d)).numpy(), expected, atol=1e-6)


def test_levels_above_the_second_stay() -> None:
    u, d = features(4, 4)
    found = FreeU(**FACTORS).join(u, d, 2, (0, 1, 2), ALL)
    assert torch.equal(found[0], u) and torch.equal(found[1], d)


@pytest.mark.parametrize("kind", [FreeU, FreeU2])
def test_each_image_has_its_strength(kind: type[FreeU]) -> None:
    u, d = features(4, 4)
    method = kind(**FACTORS)
    mixed = method.join(u, d, 0, (0,), torch.tensor([0.0, 0.5, 1.0]))
    half = kind(b1=1.15, s1=0.95).join(u, d, 0, (0,), ALL)
    whole = method.join(u, d, 0, (0,), ALL)
    for plain, one, middle, full in zip((u, d), mixed, half, whole, strict=True):
        assert torch.equal(one[0], plain[0])
        torch.testing.assert_close(one[1], middle[1])
        torch.testing.assert_close(one[2], full[2])


def test_factors_of_1_are_the_identity() -> None:
    assert FreeU().is_identity and FreeU2(b1=1, s2=1).is_identity
    assert not FreeU(s2=0.9).is_identity
