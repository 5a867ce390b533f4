"""Wavelet bands: written out for haar, against PyWavelets image by image, and what each band is blind to."""

import importlib

import pytest
import torch

from skip.studies.wavelet import BANDS, band_features, bands

pywt = pytest.importorskip("pywt", reason="the extra `tables` is not installed")
X = torch.randn(3, 2, 8, 12, generator=torch.Generator().manual_seed(1))


def test_haar_written_out() -> None:
    x = X.double()
    # a b over c d
    a, b, c, d = (x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2])
    found = bands(X, "haar")
    expected = {"LL": a + b + c + d, "LH": a + b - c - d, "HL": a - b + c - d, "HH": a - b - c + d}
    assert tuple(found) == BANDS == tuple(expected)
    for name in BANDS:
        assert found[name].dtype == torch.float64
        torch.testing.assert_close(found[name], expected[name] / 2)


@pytest.mark.parametrize(
    ("wavelet", "shape"), [("bior1.3", (6, 8)), ("haar", (4, 6)), ("db2", (5, 7))]
)
def test_each_channel_of_each_image_is_its_own_transform(
    wavelet: str, shape: tuple[int, int]
) -> None:
    found, maps = bands(X, wavelet), band_features(wavelet)
    for n in range(3):
        for c in range(2):
            ll, (lh, hl, hh) = pywt.dwt2(X[n, c].double().numpy(), wavelet)
            for name, expected in zip(BANDS, (ll, lh, hl, hh), strict=True):
                assert found[name][n, c].shape == shape
                torch.testing.assert_close(
                    found[name][n, c], torch.from_numpy(expected), rtol=0, atol=1e-14
                )
                assert torch.equal(maps[name](X), found[name])


def test_bior13_is_the_default() -> None:
    for name in BANDS:
        assert torch.equal(bands(X)[name], bands(X, "bior1.3")[name])
        assert torch.equal(band_features()[name](X), bands(X, "bior1.3")[name])


def test_haar_keeps_the_energy_of_each_image() -> None:
    energy = sum(band.square().sum((1, 2, 3)) for band in bands(X, "haar").values())
    torch.testing.assert_close(energy, X.double().square().sum((1, 2, 3)))


@pytest.mark.parametrize("wavelet", ["bior1.3", "haar"])
def test_what_each_band_sees(wavelet: str) -> None:
    rows = X[..., :1].expand(-1, -1, -1, 12)  # horizontal stripes
    columns = X[..., :1, :].expand(-1, -1, 8, -1)
    for x, seen in (
        (torch.full_like(X, 0.7), {"LL"}),
        (rows, {"LL", "LH"}),
        (columns, {"LL", "HL"}),
        (X, set(BANDS)),
    ):
        assert {name for name, band in bands(x, wavelet).items() if band.abs().max() > 1e-6} == seen


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"images of shape \[8, 12\]"):
        bands(X[0, 0])
    for wavelet in ("sinc", "gaus1"):  # gaus1 is a continuous one
        with pytest.raises(
            ValueError, match=f"unknown wavelet '{wavelet}'; choose .* bior1.3, haar"
        ):
            band_features(wavelet)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(
        RuntimeError, match=r"need the package PyWavelets: pip install '\.\[tables\]'"
    ):
        bands(X)
