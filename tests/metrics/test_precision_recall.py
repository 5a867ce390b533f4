"""Precision, recall, density, coverage: sets with a known answer, prdc, the reference vectors, ties."""

import numpy as np
import pytest
import torch
from conftest import golden_json, golden_npz

from metrics.metric import Evidence
from metrics.names import METRICS
from metrics.precision_recall import density_coverage, precision_recall

# With k = 1 their balls have the radii 1, 1, 1, 1 and 7
REAL = np.array([[0.0], [1], [2], [3], [10]])


def test_a_line_of_points() -> None:
    generated = np.array([[-0.5], [4], [4.5], [20]])  # radii 4.5, 0.5, 0.5, 15.5
    # Of the generated all but 20 lie in a real ball; of the real, 0 to 3 lie in that of -0.5, and 10 in that of 20.
    assert precision_recall(REAL, generated, k=1) == (3 / 4, 5 / 5)
    assert precision_recall(REAL, np.array([[-2.0], [-3.0]]), k=1) == (0.0, 0.0)
    # Open balls: -0.5 lies in that of 0; 4 and 4.5 in that of 10; 20 in none.
    assert density_coverage(REAL, generated, k=1) == (3 / 4, 2 / 5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("origin, step", [(0.0, 1.0), (0.2, 0.1), (0.4, 0.3)])
def test_a_point_on_the_sphere_is_in_the_closed_ball_only(
    origin: float, step: float, dtype: torch.dtype
) -> None:
    """In float64, rounding puts the point on the sphere, inside by 5e-16, and outside by as much."""
    real, generated = origin + step * REAL, np.full((2, 1), origin - step)
    assert precision_recall(real, generated, k=1, dtype=dtype)[0] == 1.0
    assert density_coverage(real, generated, k=1, dtype=dtype) == (0.0, 0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_identical_sets(dtype: torch.dtype) -> None:
    """Each ball holds its centre and its k - 1 nearest, its k-th lies on the sphere: density is 1, not nearly."""
    x = np.random.default_rng(0).standard_normal((150, 40)) + 5
    for k in (1, 3, 5):
        assert precision_recall(x, x.copy(), k, dtype) == (1.0, 1.0)
        assert density_coverage(x, x.copy(), k, dtype) == (1.0, 1.0)


def test_far_sets_and_repeated_images() -> None:
    x = np.random.default_rng(0).standard_normal((60, 4))
    assert precision_recall(x, x + 100) == density_coverage(x, x + 100) == (0.0, 0.0)
    collapsed = np.repeat(x[:1], 60, axis=0)  # balls of radius 0 hold their centre
    assert precision_recall(x, collapsed) == (1.0, 1 / 60)


def test_equals_the_reference_vectors_in_any_dtype() -> None:
    stored, expected = golden_npz("metrics"), golden_json("metrics")
    real, generated = stored["features_real"], stored["features_generated"]
    for dtype in (torch.float32, torch.float64):
        for k in (3, 5):
            e = expected[f"prdc_k{k}"]
            assert precision_recall(real, generated, k, dtype) == (e["precision"], e["recall"])
            assert density_coverage(real, generated, k, dtype) == pytest.approx(
                (e["density"], e["coverage"]), rel=1e-12
            )
        for key in ("float64", "float32", "batched_float64"):
            e = expected[f"improved_precision_recall_k3_{key}"]
            assert precision_recall(real, generated, 3, dtype) == pytest.approx(
                (e["precision"], e["recall"]), rel=1e-7
            )


def test_prdc_agrees() -> None:
    prdc = pytest.importorskip("prdc", reason="the judge, of the extra `dev`")
    rng = np.random.default_rng(1)
    real, generated = rng.standard_normal((220, 16)), 0.9 * rng.standard_normal((180, 16)) + 0.2
    for k in (1, 4):
        judge = prdc.compute_prdc(real, generated, k)
        assert precision_recall(real, generated, k) == (judge["precision"], judge["recall"])
        assert density_coverage(real, generated, k) == pytest.approx(
            (judge["density"], judge["coverage"])
        )


@pytest.mark.parametrize("chunk", [1, 7, 90, 1000])
def test_the_chunk_does_not_matter(chunk: int) -> None:
    """Offset features, half of them in both sets: many float32 comparisons are in doubt, and many are ties."""
    rng = np.random.default_rng(2)
    real = (rng.standard_normal((91, 8)) + 30).astype(np.float32)
    generated = np.concatenate([real[:40], (rng.standard_normal((30, 8)) + 30).astype(np.float32)])
    whole = (
        precision_recall(real, generated, dtype=torch.float64),
        density_coverage(real, generated, dtype=torch.float64),
    )
    assert (
        precision_recall(real, generated, chunk=chunk),
        density_coverage(real, generated, chunk=chunk),
    ) == whole


def test_what_is_refused() -> None:
    x = np.random.default_rng(0).standard_normal((5, 3))
    with pytest.raises(ValueError, match="generated features have 3 rows; this needs at least 4"):
        precision_recall(x, x[:3])
    with pytest.raises(ValueError, match="real features have 5 rows; this needs at least 6"):
        density_coverage(x, x)
    with pytest.raises(ValueError, match="k is 0; need at least 1 neighbour"):
        density_coverage(x, x, k=0)
    with pytest.raises(
        ValueError, match="real features have 3 dimensions and generated features 2"
    ):
        precision_recall(x, x[:, :2])


def clusters(spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Tight groups of more points than there are candidates for a neighbour, far apart."""
    rng = np.random.default_rng(3)
    centres = 1000 * rng.standard_normal((4, 5))
    real, generated = (
        np.repeat(centres, 30, 0) + spread * rng.standard_normal((120, 5)) for _ in range(2)
    )
    return real, generated


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_neighbours_that_float32_cannot_tell_apart(dtype: torch.dtype) -> None:
    prdc = pytest.importorskip("prdc", reason="the judge, of the extra `dev`")
    real, generated = clusters(1e-3)
    judge = prdc.compute_prdc(real, generated, 3)  # from differences of vectors, in float64
    assert precision_recall(real, generated, 3, dtype) == (judge["precision"], judge["recall"])
    expected = (judge["density"], judge["coverage"])
    assert density_coverage(real, generated, 3, dtype) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "scale, shift", [(1e30, 0), (1e-30, 0), (1e160, 0), (1e-160, 0), (1, 1e7), (1e-6, 1)]
)
def test_neither_scale_nor_origin_matters(scale: float, shift: float) -> None:
    """Nor do squares that overflow float32, or float64."""
    rng = np.random.default_rng(4)
    real, generated = rng.standard_normal((50, 6)), 2 * rng.standard_normal((60, 6)) + 1
    moved = (scale * real + shift, scale * generated + shift)
    assert precision_recall(*moved) == precision_recall(real, generated)
    assert density_coverage(*moved) == density_coverage(real, generated)


def test_the_error_of_a_share_is_the_binomials_where_it_tells_one() -> None:
    x = np.random.default_rng(0).standard_normal((40, 3))
    same = METRICS["pr"].compute[0](Evidence(features=x, real=x))
    assert (same["precision"].value, same["precision"].error) == (1, None)
    apart = METRICS["pr"].compute[0](
        Evidence(features=np.concatenate([x[:30], x[:10] + 99]), real=x)
    )
    assert apart["precision"].error == pytest.approx((0.75 * 0.25 / 40) ** 0.5)
