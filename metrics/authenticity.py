"""Authenticity: how many generated images are no copies of training images."""

import torch

from metrics.features import ArrayLike, as_pair
from metrics.metric import Evidence, Value
from metrics.neighbours import SAME, kth_radii, nearest, rescaled


def authentic(
    real: ArrayLike,
    generated: ArrayLike,
    dtype: torch.dtype = torch.float32,
    chunk: int = 1024,
) -> torch.Tensor:
    r"""Which generated images lie farther from their nearest training image than that has its own nearest other.

    a_i = [ |g_i - r_n| > min_{j != n} |r_j - r_n| ],  r_n the training image nearest to g_i

    Of several at one distance the first counts. AuthPct is 100 times the mean of a.

    Reference: Alaa et al., 2022, https://arxiv.org/abs/2102.08921; as dgm-eval computes it, Stein et al.,
        2023, https://arxiv.org/abs/2306.04675

    Args:
        real: of the training images, [M, d].
        generated: [N, d].
        dtype: of the search, float32 or float64. Doubtful comparisons are made in float64 in any case.
        chunk: rows compared at a time; the result stays.
    Returns:
        bool [N].
    Raises:
        ValueError: if there are fewer than 2 real images, dimensions differ, or a feature is not finite.
    """
    names = ("real features", "generated features")
    centres, points = rescaled(*as_pair(real, generated, names, dtype=None))
    if len(centres) < 2:
        raise ValueError(
            f"authpct needs at least 2 real images, to compare their distances; {len(centres)} given"
        )
    places, squares = nearest(points, centres, dtype, chunk)
    own = kth_radii(centres, 1, dtype, chunk)[places]
    return squares > own * (1 + SAME)


def _authpct(e: Evidence) -> dict[str, Value]:
    generated, real = e.both("authpct")
    shares = 100 * authentic(real, generated).double()
    influence = shares - shares.mean()
    error = None
    beside = {}
    if influence.any():  # a share of none or of all does not tell how sure it is
        error = float(influence.std() / len(shares) ** 0.5)
        beside = {"authpct_standard_error": error}
    return {"authpct": Value(float(shares.mean()), error, influence, beside)}
