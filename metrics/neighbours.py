"""Nearest neighbours and balls around them, in tiles: no N x N matrix is ever held.

Distances come from a matrix product of the centred vectors, in the dtype asked for. What its rounding leaves in doubt
is decided again in float64. So neither dtype nor chunk changes a result, nor where the origin lies, and ties stay ties.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

SPARE = 8  # further candidates for the k-th neighbour, among which float64 chooses
SAME = 1e-12  # relative difference of two squared distances in float64 that is rounding
# The largest feature may lie here as it is; squares of others could leave float32's range.
PEAKS = (2.0**-10, 2.0**20)


def rescaled(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets times one power of two, where their squares would overflow or vanish: exact, and no ball changes.

    Args:
        first, second: [M, d] and [N, d].
    Returns:
        The two, as they are wherever their largest value lies within PEAKS.
    """
    peak = max(float(bound.abs()) for x in (first, second) for bound in x.aminmax())
    if peak == 0 or PEAKS[0] <= peak <= PEAKS[1]:
        return first, second
    factor = 2.0 ** -max(-1000, math.frexp(peak)[1])
    return first.double() * factor, second.double() * factor


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
    radii = torch.empty(len(features), dtype=torch.float64, device=features.device)
    rows = torch.arange(len(features), device=features.device)
    for precision in dict.fromkeys((dtype, torch.float64)):
        if len(rows) > 0:
            rows = _search_radii(features, k, precision, chunk, rows, radii)
    return radii


def _search_radii(
    features: Tensor, k: int, dtype: torch.dtype, chunk: int, rows: Tensor, radii: Tensor
) -> Tensor:
    """Write the radii of `rows`; return those of them whose neighbours rounding may have hidden."""
    x = _centred(features, features, dtype)
    margin = _margin(x, x)
    doubtful = []
    for part in rows.split(chunk):
        tile = squared_distances(x[part], x)  # (chunk, N)
        tile[torch.arange(len(part), device=part.device), part] = torch.inf  # not its own neighbour
        near = tile.topk(min(k + SPARE, len(x) - 1), dim=1, largest=False)  # (chunk, k + SPARE)
        exact = _exact(
            features,
            features,
            part[:, None].expand_as(near.indices).flatten(),
            near.indices.flatten(),
        )
        radii[part] = exact.view(near.indices.shape).kthvalue(k, dim=1).values
        # The others are no nearer than the last of these, but for rounding.
        if near.indices.shape[1] < len(x) - 1:
            hidden = near.values.amax(1).double() - margin[part] <= radii[part]
            doubtful.append(part[hidden & (radii[part] > 0)])
    return torch.cat(doubtful) if doubtful else rows[:0]


def nearest(
    points: Tensor, centres: Tensor, dtype: torch.dtype, chunk: int
) -> tuple[Tensor, Tensor]:
    """The centre nearest to each point; of several at one distance the first.

    Args:
        points, centres: [M, d] and [N, d].
        dtype: of the search, float32 or float64.
        chunk: points searched at a time.
    Returns:
        Its place among the centres, int64 [M], and its squared distance, float64 [M].
    """
    places = torch.empty(len(points), dtype=torch.int64, device=points.device)
    squares = torch.empty(len(points), dtype=torch.float64, device=points.device)
    rows = torch.arange(len(points), device=points.device)
    for precision in dict.fromkeys((dtype, torch.float64)):
        x, y = _centred(points, centres, precision), _centred(centres, centres, precision)
        margin = _margin(x, y).amax()
        doubtful = [rows[:0]]
        for part in rows.split(chunk):
            tile = squared_distances(x[part], y)  # (chunk, N)
            near = tile.topk(min(1 + SPARE, len(y)), dim=1, largest=False)  # (chunk, 1 + SPARE)
            order = near.indices.sort(1)
            exact = _exact(
                points,
                centres,
                part[:, None].expand_as(order.values).flatten(),
                order.values.flatten(),
            ).view(order.values.shape)
            best = exact.amin(1)
            first = (exact <= best[:, None] * (1 + SAME)).int().argmax(1)
            places[part] = order.values.gather(1, first[:, None])[:, 0]
            squares[part] = best
            # The others are no nearer than the last of these, but for rounding.
            if near.indices.shape[1] < len(y):
                hidden = near.values.amax(1).double() - margin <= best
                doubtful.append(part[hidden])
        rows = torch.cat(doubtful)
    return places, squares


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
    x, y = _centred(points, centres, dtype), _centred(centres, centres, dtype)
    margin = _margin(x, y)
    surely_in, surely_out = (radii - margin).to(dtype), (radii + margin).to(dtype)
    for start in range(0, len(x), chunk):
        tile = squared_distances(x[start : start + chunk], y)  # (chunk, N)
        inside = tile < surely_in
        row, column = torch.nonzero((tile <= surely_out) & ~inside, as_tuple=True)
        exact, bound = _exact(points, centres, row + start, column), radii[column]
        inside[row, column] = exact <= bound * (1 + SAME) if closed else exact < bound * (1 - SAME)
        yield inside


def _centred(x: Tensor, centres: Tensor, dtype: torch.dtype) -> Tensor:
    """x less the mean of `centres`, rounded only where it is small."""
    wide = torch.promote_types(x.dtype, dtype)
    return (x.to(wide) - centres.mean(0)).to(dtype)


def _margin(x: Tensor, y: Tensor) -> Tensor:
    """How far `squared_distances` from any x to each y may be off, float64 [N]."""
    # Rounding of a product of length d wanders like sqrt(d); that of the vectors themselves does not grow. 4 is ample.
    rounding = 4 * (1 + x.shape[1] ** 0.5) * torch.finfo(x.dtype).eps
    return rounding * (x.square().sum(1).max() + y.square().sum(1)).double()


def _exact(x: Tensor, y: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """|x[row] - y[column]|^2 of pairs, in float64 from the differences, 2 MB at a time: what a cache holds."""
    step = max(1, 2**18 // x.shape[1])
    parts = [
        (x[i].double() - y[j].double()).square().sum(1)
        for i, j in zip(rows.split(step), columns.split(step), strict=True)
    ]
    return torch.cat(parts)
