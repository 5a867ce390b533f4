"""Time the Frechet distance, and what precision/recall needs, at the sizes of a real evaluation.

    python benchmarks/metrics.py                  # FID's arithmetic in 2048 dimensions, beside scipy's sqrtm
    python benchmarks/metrics.py --images 6000    # and of so many images a set: FID with its error, precision/recall

Prints JSON. Made-up features: the arithmetic is the same.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import scipy.linalg
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from metrics.frechet import frechet, frechet_distance
from metrics.gaussian import Gaussian
from metrics.metric import Value
from metrics.precision_recall import precision_recall
from metrics.statistics import FeatureStatistics


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Wall time of one call, and its result."""
    began = time.perf_counter()
    result = run()
    return time.perf_counter() - began, result


def covariance(dim: int, rng: np.random.Generator) -> np.ndarray:
    """A random rotation of eigenvalues from 1 down to 1e-4."""
    q = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    cov = (q * np.geomspace(1, 1e-4, dim)) @ q.T
    return (cov + cov.T) / 2


def sqrtm_distance(c1: np.ndarray, c2: np.ndarray) -> float:
    """The same distance the old way, for equal means."""
    return float(np.trace(c1 + c2 - 2 * np.real(scipy.linalg.sqrtm(c1 @ c2))))


def gaussians(made: torch.Tensor, real: torch.Tensor) -> tuple[Gaussian, Gaussian]:
    """Of two sets of features; nothing is decomposed yet."""
    both = []
    for rows in (made, real):
        gathered = FeatureStatistics(rows.shape[1], "cpu")
        gathered.update(rows)
        both.append(Gaussian(gathered.result(), "covariance"))
    return both[0], both[1]


def piecemeal(made: torch.Tensor, own: Gaussian, reference: Gaussian) -> Value:
    """Root, distance, error and influence one by one, each with decompositions of its own: as it was done before."""

    def anew(one: Gaussian) -> Gaussian:
        return Gaussian(one.statistics, one.name)

    _ = anew(reference).root
    frechet(anew(own), anew(reference))
    for _ in range(2):  # the error, then the influence, each with a mean and covariance of its own
        gathered = FeatureStatistics(made.shape[1], "cpu")
        gathered.update(made)
        found = frechet(Gaussian(gathered.result(), "covariance"), anew(reference), made)
    return found


@click.command()
@click.option("--dim", type=click.IntRange(min=2), default=2048, help="Number of features")
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=3,
    help="Distances timed, of which the median is given",
)
@click.option(
    "--sqrtm/--no-sqrtm", default=True, help="Compare with scipy's matrix square root; slow"
)
@click.option(
    "--images", type=click.IntRange(min=0), default=0, help="Images of each set; 0 leaves them out"
)
def main(dim: int, rounds: int, sqrtm: bool, images: int) -> None:
    """Print the times as JSON."""
    rng = np.random.default_rng(0)
    c1, c2, mean = covariance(dim, rng), covariance(dim, rng), np.zeros(dim)
    runs = [timed(lambda: frechet_distance(mean, c1, mean, c2)) for _ in range(rounds)]
    seconds = float(np.median([time for time, _ in runs]))
    result: dict[str, Any] = {
        "dim": dim,
        "threads": torch.get_num_threads(),
        "frechet_seconds": round(seconds, 2),
    }

    if sqrtm:
        slow, judge = timed(lambda: sqrtm_distance(c1, c2))
        result |= {
            "sqrtm_seconds": round(slow, 2),
            "relative_difference": abs(runs[0][1] / judge - 1),
        }

    if images > 0:
        sets = [
            torch.randn(images, dim, generator=torch.Generator().manual_seed(seed))
            for seed in (0, 1)
        ]
        own, reference = gaussians(*sets)
        slow, _ = timed(lambda: piecemeal(sets[0], own, reference))
        fast, _ = timed(lambda: frechet(own, reference, sets[0]))
        result |= {"fid_with_error_seconds": round(fast, 1), "piecemeal_seconds": round(slow, 1)}

        seconds, _ = timed(lambda: precision_recall(*sets))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
            2**30 if sys.platform == "darwin" else 2**20
        )
        result |= {
            "images": images,
            "precision_recall_seconds": round(seconds, 1),
            "peak_gib": round(peak, 2),
        }

    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
