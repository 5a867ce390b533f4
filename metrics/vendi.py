"""Vendi score: how many different images a set is worth, with no reference."""

import torch
from torch import Tensor

from metrics.features import ArrayLike, as_features
from metrics.metric import Evidence, Value

BLOCK = 4096  # rows that are held in float64 at a time


def vendi_score(features: ArrayLike) -> Value:
    r"""Vendi score of order 1 under the cosine kernel: an effective number of different images.

    VS = exp(-sum_k l_k ln l_k),  l the eigenvalues of K / N,  K_ij = u_i . u_j,  u_i = x_i / |x_i|

    It lies between 1, where all features point one way, and N, where no two have anything in common. K / N and
    S = sum_i u_i u_i^T / N have the same eigenvalues but for zeros: those of the smaller matrix are taken.

    Weighting image i a little more moves VS in proportion to

        h_i = VS (-u_i^T ln(S) u_i - ln VS),

    whose mean is 0. The standard error, std(h) / sqrt(N), is the infinitesimal jackknife: that of one draw of images,
    too small by a quarter with fewer images than features. N images are worth fewer than infinitely many, and that
    bias is not in it. Compare sets of one size.

    Reference: Friedman and Dieng, 2023, https://arxiv.org/abs/2210.02410; on a detector's features,
        Stein et al., 2023, https://arxiv.org/abs/2306.04675

    Args:
        features: of the generated images, [N, d].
    Returns:
        The score, with error and influence.
    Raises:
        ValueError: if there are fewer than 2 rows, one is all 0, or a value is not finite.
    """
    x = as_features(features, "generated features", dtype=None, at_least=2)
    if len(x) < x.shape[1]:
        values, pulls = _of_kernel(_directions(x, 0))
    else:
        values, pulls = _of_scatter(x)

    entropy = float(-(values * values.log()).sum())
    score = float(torch.tensor(entropy, dtype=torch.float64).exp())
    influence = score * (-pulls - entropy)
    error = float(influence.std() / len(influence) ** 0.5)
    return Value(score, error, influence, {"vendi_standard_error": error})


def _of_kernel(u: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues above rounding, u_i^T ln(S) u_i; of K / N = A diag(l) A^T, S has the vectors U^T A / sqrt(N l)."""
    values, vectors = _decomposed(u @ u.T / len(u))
    return values, vectors.square() @ (len(u) * values * values.log())


def _of_scatter(x: Tensor) -> tuple[Tensor, Tensor]:
    """The same from S, block by block."""
    scatter = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64, device=x.device)
    blocks = [(start, x[start : start + BLOCK]) for start in range(0, len(x), BLOCK)]
    for start, block in blocks:
        u = _directions(block, start)
        scatter.addmm_(u.T, u, alpha=1 / len(x))

    values, vectors = _decomposed(scatter)
    pulls = [
        (_directions(block, start) @ vectors).square() @ values.log() for start, block in blocks
    ]
    return values, torch.cat(pulls)


def _decomposed(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The eigenvalues above rounding, which add up to 1, and their vectors."""
    values, vectors = torch.linalg.eigh(matrix)
    kept = values > len(values) * torch.finfo(torch.float64).eps * values[-1]
    return values[kept], vectors[:, kept]


def _directions(rows: Tensor, first: int) -> Tensor:
    """x / |x| of each row in float64; `first` is the number of the first row."""
    wide = rows.double()
    peaks = wide.abs().amax(1, keepdim=True)  # so that no square overflows or vanishes
    if not bool((peaks > 0).all()):
        row = first + int(torch.nonzero(peaks[:, 0] == 0)[0])
        raise ValueError(
            f"the features of image {row} are all 0, which have no direction: vendi is not defined"
        )
    wide = wide / peaks
    return wide / wide.norm(dim=1, keepdim=True)


def _vendi(e: Evidence) -> dict[str, Value]:
    if e.features is None:
        raise ValueError("vendi needs the features of the generated images")
    return {"vendi": vendi_score(e.features)}
