"""METRICS["cmmd"]: the published formula in numpy, closed forms, and its error bar."""

import math

import numpy as np
import pytest
import torch

from metrics.cmmd import cmmd
from metrics.kernel import mmd2
from metrics.kernel_functions import RBF
from metrics.measure import measure
from metrics.metric import Evidence
from metrics.names import METRICS


def embeddings(seed: int, n: int, d: int = 6, shift: float = 0.0) -> np.ndarray:
    rows = np.random.RandomState(seed).randn(n, d)
    rows[:, 0] += shift
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def by_loops(x: np.ndarray, y: np.ndarray) -> float:
    def mean(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.mean([[math.exp(-np.square(p - q).sum() / 200) for q in b] for p in a]))

    return 1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y))


@pytest.mark.parametrize("chunk", [4, 2048])
def test_it_is_the_published_formula(chunk: int) -> None:
    x, y = embeddings(0, 15), embeddings(1, 11, shift=1)
    found = cmmd(x, y, chunk=chunk)
    assert found.value == pytest.approx(by_loops(x, y), rel=1e-9)
    assert found.value == pytest.approx(1000 * mmd2(x, y, RBF(10.0), unbiased=False), rel=1e-9)
    other = cmmd(x, y, bandwidth=0.5, scale=1, chunk=chunk)
    assert other.value == pytest.approx(mmd2(x, y, RBF(0.5), unbiased=False), rel=1e-9)


def test_closed_forms() -> None:
    x, y = embeddings(0, 1), embeddings(1, 1)
    gap = float(np.square(x - y).sum())
    one = cmmd(x, y)
    assert one.value == pytest.approx(2000 * (1 - math.exp(-gap / 200))) and one.error is None
    assert cmmd(-x, x).value == pytest.approx(2000 * (1 - math.exp(-4 / 200)))
    same = embeddings(2, 30)
    assert cmmd(same, same).value == pytest.approx(0, abs=1e-9)
    assert cmmd(same, same[::-1].copy()).value == pytest.approx(0, abs=1e-9)


def test_the_influence_is_the_derivative_by_an_images_weight() -> None:
    x, y, step = embeddings(0, 12), embeddings(1, 9, shift=1), 1e-4
    found = cmmd(x, y)
    inside = np.exp(-np.square(x[:, None] - x).sum(2) / 200)
    across = np.exp(-np.square(x[:, None] - y).sum(2) / 200).mean(1)

    def weighted(w: np.ndarray) -> float:
        return float(1000 * (w @ inside @ w - 2 * w @ across))

    assert found.influence is not None
    for i in range(12):
        more, fewer = np.full(12, (1 - step) / 12), np.full(12, (1 + step) / 12)
        more[i] += step
        fewer[i] -= step
        slope = (weighted(more) - weighted(fewer)) / (2 * step)
        assert float(found.influence[i]) == pytest.approx(slope, abs=1e-6)
    moved = cmmd(x[::-1].copy(), y).influence
    assert moved is not None and torch.allclose(moved.flip(0), found.influence)


def test_the_error_is_the_jackknifes() -> None:
    x, y = embeddings(0, 60), embeddings(1, 40, shift=1)
    found = cmmd(x, y)
    without = np.array([cmmd(np.delete(x, i, 0), y).value for i in range(60)])
    spread = math.sqrt(59 / 60 * np.square(without - without.mean()).sum())
    assert found.error == pytest.approx(spread, rel=0.03)
    assert found.beside == {"cmmd_standard_error": found.error}


def test_only_clips_embeddings_make_it_cmmd() -> None:
    evidence = Evidence(features=embeddings(0, 5), real=embeddings(1, 5))
    clip = measure(["cmmd", "authpct"], evidence, "clip-768d-projected-336px").values
    assert list(clip) == [
        "cmmd", "cmmd_standard_error",
        "authpct-clip-768d-projected-336px", "authpct_standard_error-clip-768d-projected-336px",
    ]  # fmt: skip
    inception = measure(["cmmd", "authpct"], evidence, "inception-2015-12-05").values
    assert "cmmd-inception-2015-12-05" in inception and "authpct" in inception
    assert inception["cmmd-inception-2015-12-05"] == clip["cmmd"]


def test_what_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="use the same detector for both"):
        cmmd(np.zeros([4, 3]), np.zeros([4, 2]))
    with pytest.raises(ValueError, match="real features hold NaN or infinity"):
        cmmd(np.zeros([4, 3]), np.full([4, 3], np.nan))
    with pytest.raises(ValueError, match="cmmd compares images with images"):
        METRICS["cmmd"].compute[0](Evidence(features=np.zeros([2, 2])))
