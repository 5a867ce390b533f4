"""CMMD: the maximum mean discrepancy of CLIP's embeddings."""

import torch
from torch import Tensor

from metrics.features import ArrayLike, as_pair
from metrics.kernel_functions import RBF, Kernel
from metrics.metric import Evidence, Value

BANDWIDTH = 10.0
SCALE = 1000.0


def cmmd(
    generated: ArrayLike,
    real: ArrayLike,
    bandwidth: float = BANDWIDTH,
    scale: float = SCALE,
    chunk: int = 2048,
) -> Value:
    r"""1000 times the squared MMD under a Gaussian kernel, the V-statistic: all pairs, i = j among them.

    CMMD = 1000 (mean k(x_i, x_j) + mean k(y_i, y_j) - 2 mean k(x_i, y_j)),  k(x, y) = exp(-|x - y|^2 / (2 s^2))

    of embeddings of length 1 and s = 10: CLIP ViT-L/14's at 336 pixels, behind its projection. Weighting image i a
    little more moves it in proportion to

        h_i = 2000 (mean_j k(x_i, x_j) - mean_j k(x_i, y_j))

    less the mean of h. The standard error, std(h) / sqrt(N), is the infinitesimal jackknife, the real images fixed. The
    bias of few images is not in it; for equal distributions the value is little else.

    Reference: Jayasumana et al., 2024, https://arxiv.org/abs/2401.09603; the estimator: Gretton et
        al., 2012, Eq. 5, https://jmlr.org/papers/v13/gretton12a.html

    Args:
        generated, real: embeddings, [m, d] and [n, d].
        bandwidth: s > 0.
        scale: a factor, for readable numbers.
        chunk: rows of a tile; memory grows by its square, the result stays.
    Returns:
        The value, at least 0, with influence; with an error if m is at least 2.
    Raises:
        ValueError: if dimensions differ, or a value is not finite.
    """
    x, y = as_pair(generated, real, ("generated features", "real features"))
    kernel = RBF(bandwidth)
    within, across = _row_means(x, kernel, chunk), _cross_means(x, y, kernel, chunk)
    other = _row_means(y, kernel, chunk).mean()

    value = scale * float(within.mean() + other - 2 * across.mean())
    influence = 2 * scale * (within - across)
    influence = influence - influence.mean()
    if len(x) < 2:
        return Value(max(value, 0.0), influence=influence)
    error = float(influence.std() / len(x) ** 0.5)
    return Value(max(value, 0.0), error, influence, {"cmmd_standard_error": error})


def _row_means(x: Tensor, kernel: Kernel, chunk: int) -> Tensor:
    """Mean of k(x_i, x_j) over all j, [m]; each pair of tiles is computed once."""
    tiles = x.split(chunk)
    sums = [tile.new_zeros(len(tile)) for tile in tiles]
    for i, p in enumerate(tiles):
        for j in range(i, len(tiles)):
            found = kernel(p, tiles[j])
            sums[i] += found.sum(1)
            if j > i:
                sums[j] += found.sum(0)
    return torch.cat(sums) / len(x)


def _cross_means(x: Tensor, y: Tensor, kernel: Kernel, chunk: int) -> Tensor:
    """Mean of k(x_i, y_j) over all j, [m]."""
    sums = []
    for p in x.split(chunk):
        total = p.new_zeros(len(p))
        for q in y.split(chunk):
            total += kernel(p, q).sum(1)
        sums.append(total)
    return torch.cat(sums) / len(y)


def _cmmd(e: Evidence) -> dict[str, Value]:
    return {"cmmd": cmmd(*e.both("cmmd"))}
