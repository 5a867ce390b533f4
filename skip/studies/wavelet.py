"""The four bands of an image's wavelet transform, as feature maps: the paper's Table 14 and Figure 9.

It needs the package PyWavelets, which is optional: `pip install '.[tables]'`.
"""

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

BANDS = ("LL", "LH", "HL", "HH")


def bands(x: Tensor, wavelet: str = "bior1.3") -> dict[str, Tensor]:
    """One level of the two-dimensional wavelet transform, of each channel by itself.

    LL is the approximation, LH the horizontal detail (low-pass along a row, high-pass down a column: horizontal edges),
    HL the vertical detail, HH the diagonal detail: PyWavelets' cA, cH, cV, cD, and the order of the paper's Figure 9.
    The image is mirrored beyond its border, PyWavelets' default ("symmetric").

    The paper does not name its wavelet. bior1.3 is that of the PyWavelets example which has the figure's titles. With
    haar and an even number of rows and columns, the transform is orthogonal: the squares of the four bands sum to those
    of the image.

    Reference: PyWavelets, https://doi.org/10.21105/joss.01237; the example, https://pywavelets.readthedocs.io

    Args:
        x: images [N, C, H, W].
        wavelet: a discrete wavelet of PyWavelets, such as bior1.3, haar, db2.
    Returns:
        LL, LH, HL, HH: float64 [N, C, h, w] on the device of x; h = floor((H + taps - 1) / 2), so H / 2 for haar and
        even H, H / 2 + 2 for bior1.3 with its 6 taps.
    Raises:
        ValueError: if x has another number of dimensions, or there is no such wavelet.
        RuntimeError: if PyWavelets is not installed.
    """
    if x.ndim != 4:
        raise ValueError(f"images of shape {list(x.shape)}; wavelet bands need [N, C, H, W]")
    pywt = _pywt(wavelet)
    approximation, details = pywt.dwt2(
        x.detach().to("cpu", torch.float64).numpy(), wavelet, mode="symmetric"
    )
    arrays = (approximation, *details)
    return {
        name: torch.from_numpy(array).to(x.device)
        for name, array in zip(BANDS, arrays, strict=True)
    }


def band_features(wavelet: str = "bior1.3") -> dict[str, Callable[[Tensor], Tensor]]:
    """Feature maps LL, LH, HL and HH for `skip.studies.score_matching.losses`: f(x) = bands(x)[name].

    Args:
        wavelet: as for `bands`.
    Raises:
        ValueError, RuntimeError: as `bands`, before any image is seen.
    """
    _pywt(wavelet)

    def band(name: str) -> Callable[[Tensor], Tensor]:
        return lambda x: bands(x, wavelet)[name]

    return {name: band(name) for name in BANDS}


def _pywt(wavelet: str) -> Any:
    """The package, once it is known to have the wavelet."""
    try:
        pywt: Any = importlib.import_module("pywt")  # not at the top: the package is optional
    except ImportError as error:
        raise RuntimeError(
            "wavelet bands need the package PyWavelets: pip install '.[tables]'"
        ) from error
    if wavelet not in pywt.wavelist(kind="discrete"):
        raise ValueError(
            f"unknown wavelet {wavelet!r}; choose a discrete one of PyWavelets: bior1.3, haar, db2, ..."
        )
    return pywt
