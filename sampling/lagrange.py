"""Weights of multistep solvers: a polynomial through past values, integrated over the next step."""

from functools import cache

import numpy as np
import torch
from torch import Tensor


def legendre(start: float, end: float) -> tuple[Tensor, Tensor]:
    """Points and masses of the Gauss-Legendre rule, so that sum(masses * f(points)) is the integral of f.

    Of 128 points each, which integrate what solvers ask for to rounding.

    Args:
        start, end: of the integral, in any order.
    Returns:
        Two float64 tensors [128].
    """
    roots, masses = (torch.tensor(values) for values in _on_one())
    return (start + end) / 2 + (end - start) / 2 * roots, (end - start) / 2 * masses


def lagrange_weights(nodes: Tensor, points: Tensor, masses: Tensor) -> tuple[float, ...]:
    r"""w_j = sum_p masses_p L_j(points_p), L_j(tau) = prod_{k != j} (tau - node_k) / (node_j - node_k)

    With them sum_j w_j f(node_j) is the integral of the polynomial through f's values at the nodes.

    Args:
        nodes: where the values stand, float64 [p], on the axis of the polynomial.
        points: of the integral, float64 [P], on the same axis.
        masses: of the points, float64 [P], in units of what is integrated over.
    Returns:
        p weights, in the order of the nodes.
    """
    weights = []
    for j, node in enumerate(nodes):
        others = torch.cat([nodes[:j], nodes[j + 1 :]])
        lagrange = ((points[:, None] - others) / (node - others)).prod(dim=1)  # (points,)
        weights.append(float((masses * lagrange).sum()))
    return tuple(weights)


@cache
def _on_one() -> tuple[np.ndarray, np.ndarray]:
    """The rule on [-1, 1]."""
    return np.polynomial.legendre.leggauss(128)
