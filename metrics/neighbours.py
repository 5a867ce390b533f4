"""Nearest neighbours and balls around them, in tiles: no N x N matrix is ever held.

Distances come from a matrix product in the dtype asked for; whatever its rounding leaves in doubt is decided again in
float64 from the difference of the two vectors. So neither dtype nor chunk changes a result, and ties stay ties.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

SPARE = 8  # further candidates for the k-th neighbour, among which float64 chooses
SAME = 1e-12  # relative difference of two squared distances in float64 that is rounding


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2 = |x_i|^2 + |y_j|^2 - 2 x_i . y_j, at least 0.

    Args:
        x, y: [m, d] and [n, d].
    Returns:
        [m, n], good to some roundings of |x|^2 + |y|^2.
    """
    squares = x.square().sum(1)[:, None] + y.square().sum(1)
    return squares.addmm_(x, y.T, alpha=-2).clamp_(min=0)


def kth_radii(features: Tensor, k: int, dtype: torch.dtype, chunk: int) -> Tensor:
    """Squared distance from each row to its k-th nearest other row.

    Args:
        features: [N, d], N > k.
        k: at least 1.
        dtype: of the search, float32 or float64.
        chunk: rows searched at a time.
    Returns:
        float64 [N].
    """
    x = features.to(dtype)
    found = []
    for start in range(0, len(x), chunk):
        tile = squared_distances(x[start : start + chunk], x)  # (chunk, N)
        tile.diagonal(start).fill_(torch.inf)  # not its own neighbour
        others = tile.topk(min(k + SPARE, len(x) - 1), dim=1, largest=False).indices  # (chunk, k + SPARE)
        rows = torch.arange(start, start + len(tile), device=x.device)[:, None].expand_as(others)
        exact = _exact(features, features, rows.flatten(), others.flatten())
        found.append(exact.view(others.shape).kthvalue(k, dim=1).values)
    return torch.cat(found)


def inside_balls(
    points: Tensor, centres: Tensor, radii: Tensor, closed: bool, dtype: torch.dtype, chunk: int
) -> Iterator[Tensor]:
    """Which points lie in which balls.

    Args:
        points, centres: [M, d] and [N, d].
        radii: squared, float64 [N].
        closed: whether the sphere itself belongs to the ball.
        dtype: of the search, float32 or float64.
        chunk: points examined at a time.
    Yields:
        For each chunk of points, bool [m, N].
    """
    x, y = points.to(dtype), centres.to(dtype)
    # Rounding of a product of length d wanders like sqrt(d); 4 is ample.
    rounding = 4 * x.shape[1] ** 0.5 * torch.finfo(dtype).eps
    margin = rounding * (x.square().sum(1).max() + y.square().sum(1)).double()
    surely_in, surely_out = (radii - margin).to(dtype), (radii + margin).to(dtype)
    for start in range(0, len(x), chunk):
        tile = squared_distances(x[start : start + chunk], y)  # (chunk, N)
        inside = tile < surely_in
        row, column = torch.nonzero((tile <= surely_out) & ~inside, as_tuple=True)
        exact, bound = _exact(points, centres, row + start, column), radii[column]
        inside[row, column] = exact <= bound * (1 + SAME) if closed else exact < bound * (1 - SAME)
        yield inside


def _exact(x: Tensor, y: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """|x[row] - y[column]|^2 of pairs, in float64 from the differences, 2 MB at a time: what a cache holds."""
    step = max(1, 2**18 // x.shape[1])
    parts = [
        (x[i].double() - y[j].double()).square().sum(1)
        for i, j in zip(rows.split(step), columns.split(step), strict=True)
    ]
    return torch.cat(parts)
