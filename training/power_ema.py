r"""Power-function averages of the weights, and averages of another length made from stored ones afterwards.

mean(t) = integral of p_t(tau) w(tau) d tau,  p_t(tau) = (g + 1) tau^g / t^(g + 1) for 0 <= tau <= t

Its length is told as the standard deviation of p_t in units of t: sqrt((g + 1) / ((g + 2)^2 (g + 3))), which is below
1 / sqrt(12), that of the plain mean (g = 0).

Reference: Karras et al., 2023, "Analyzing and Improving the Training Dynamics of Diffusion Models", Section 3 and
Appendix C, https://arxiv.org/abs/2312.02696
"""

import copy
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import torch
from torch import Tensor, nn

from dnnlib.text import reason
from training.formats import format_of
from training.own_format import Contents

LONGEST = 1 / math.sqrt(12)
PREFIX = "power-ema"
LENGTH = "power_ema"  # of a snapshot, what it tells of its length
ERROR = "power_ema_error"  # of a reconstructed average: how far it is from what it stands for
MOST_WEIGHT = 1e4  # of a stored average; beyond it rounding is all that is left
# Of a profile's distance, see `fit_error`: what is warned of, and what is another average altogether. From 16 snapshots
# of two lengths a third one between 0.03 and 0.25 is within the first.
WARNED_ERROR, MOST_ERROR = 0.1, 0.25
# EDM2's own: PREFIX-THOUSANDS-LENGTH.pkl, at multiples of 1024 images.
_EDM2_NAME = re.compile(r".*-(\d+)-(\d\.\d{3})\.pkl")


# ---- lengths and weights


def check_length(std: float) -> None:
    """Refuse a length that no average has.

    Raises:
        ValueError: naming it.
    """
    if not 0 < std < LONGEST:
        raise ValueError(
            f"the length of an average is {std:g}; it must be above 0 and below {LONGEST:.4f}, that of the plain mean"
        )


def exponent(std: float) -> float:
    """The g of a length: the largest root of (g + 2)^2 (g + 3) = (g + 1) / std^2.

    Raises:
        ValueError: if there is no such length.
    """
    check_length(std)
    s = std**-2
    return float(np.roots([1, 7, 16 - s, 12 - s]).real.max())


def decay(std: float, images_seen: int, batch: int) -> float:
    """What is left of an average after a step: (1 - batch / images_seen)^(g + 1).

    Args:
        std: its length.
        images_seen: after the step; from a first step, nothing is left of the weights at the start.
        batch: of the step.
    """
    return (1 - batch / images_seen) ** (exponent(std) + 1)


def weights_for(
    times: Sequence[float], stds: Sequence[float], time: float, std: float
) -> np.ndarray:
    r"""How to add up stored averages, so that their profiles come nearest to that of another one.

    min_x integral of (sum_i x_i p_i(tau) - p(tau))^2 d tau, then sum_i x_i = 1

    Args:
        times, stds: when each average was stored, and its length; no two are the same.
        time, std: of the one that is wanted.
    Returns:
        x, float64 [len(times)].
    """
    products, target, _ = _products(times, stds, time, std)
    x = np.linalg.solve(products, target)
    return x / x.sum()


def fit_error(
    weights: np.ndarray, times: Sequence[float], stds: Sequence[float], time: float, std: float
) -> float:
    r"""How far a sum of stored averages is from the one that is wanted, as a share of it: 0 where it is the same.

    || sum_i x_i p_i - p || / || p ||,  ||q||^2 = integral of q(tau)^2 d tau

    Args:
        weights: x, as `weights_for` gives them, which add up to 1: so it is told of what is stored in the end.
        times, stds, time, std: as there.
    """
    products, target, own = _products(times, stds, time, std)
    squared = weights @ products @ weights - 2 * (weights @ target) + own
    return math.sqrt(max(float(squared), 0.0) / own)


def _products(
    times: Sequence[float], stds: Sequence[float], time: float, std: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Integrals of p_i p_j, of p_i p, and of p^2."""
    stored = [(a, exponent(value)) for a, value in zip(times, stds, strict=True)]
    wanted = exponent(std)
    products = np.array([[_product(*one, *other) for other in stored] for one in stored])
    target = np.array([_product(*one, time, wanted) for one in stored])
    return products, target, _product(time, wanted, time, wanted)


def _product(a: float, g: float, b: float, h: float) -> float:
    """The integral of p(tau) q(tau), of averages at times a and b with exponents g and h."""
    logarithm = (g + h + 1) * math.log(min(a, b)) - (g + 1) * math.log(a) - (h + 1) * math.log(b)
    return (g + 1) * (h + 1) / (g + h + 1) * math.exp(logarithm)


# ---- in training


class PowerAverages(nn.Module):
    """Averages of a network's weights, one for each length.

    Args:
        net: the network, copied as often; None of no lengths.
        stds: the lengths.
    """

    def __init__(self, net: nn.Module | None = None, stds: Sequence[float] = ()) -> None:
        super().__init__()
        self.stds = tuple(stds)
        self.means = nn.ModuleList()
        if net is not None:
            for _ in self.stds:
                self.means.append(copy.deepcopy(net).eval().requires_grad_(False))

    @torch.no_grad()
    def follow(self, net: nn.Module, images_seen: int, batch: int) -> None:
        """Take a step of training in.

        Args:
            net: the weights after it.
            images_seen: after it.
            batch: of it.
        """
        for std, mean in zip(self.stds, self.means, strict=True):
            weight = 1 - decay(std, images_seen, batch)
            torch._foreach_lerp_(list(mean.parameters()), list(net.parameters()), weight)


def path_of(outdir: Path, images_seen: int, std: float) -> Path:
    """Where training stores an average: power-ema-000000012544-0.050.safetensors after 12,544 images."""
    return outdir / f"{PREFIX}-{images_seen:012d}-{std:.3f}.safetensors"


# ---- afterwards


@dataclass(frozen=True)
class Stored:
    """An average in a file: after how many images, and of which length."""

    path: Path
    images_seen: int
    std: float


def find_stored(folder: Path) -> list[Stored]:
    """The averages in a folder: training's, and EDM2's raw snapshots, by their names; oldest first.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if there are none, or one is damaged.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder")

    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(f"{PREFIX}-") and path.suffix == ".safetensors":
            found.append(_own(path))
        elif named := _EDM2_NAME.fullmatch(path.name):
            images_seen = (int(named[1]) * 1000 + 999) // 1024 * 1024
            found.append(Stored(path, images_seen, float(named[2])))

    if not found:
        raise ValueError(
            f"{folder} has no power-function averages ({PREFIX}-*.safetensors, which train.py stores when it is told "
            "their lengths, or EDM2's raw snapshots)"
        )
    return sorted(found, key=lambda stored: (stored.images_seen, stored.std))


def _own(path: Path) -> Stored:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            told = json.loads(file.metadata()["provenance"])
        images_seen, std = told["images_seen"], told[LENGTH]
        check_length(std)
        return Stored(path, int(images_seen), float(std))
    except Exception as error:  # the file can hold anything
        raise ValueError(
            f"{path} is no average of a training, or damaged ({reason(error)})"
        ) from error


@dataclass(frozen=True)
class Mixture:
    """Which stored averages add up to another one, and how well.

    Attributes:
        used: the stored averages.
        weights: of each, float64 [len(used)].
        std, images_seen: of the average that is wanted.
        error: how far the sum is from it, see `fit_error`.
    """

    used: Sequence[Stored]
    weights: np.ndarray
    std: float
    images_seen: int
    error: float


def mixture(stored: Sequence[Stored], std: float, images_seen: int | None = None) -> Mixture:
    """How the average of another length is made of stored ones.

    Args:
        stored: from `find_stored`; later ones than `images_seen` are left out.
        std: the length that is wanted.
        images_seen: when; None: at the last one.
    Raises:
        ValueError: if there is no such length, none was stored then, two files are the same average, or the length is
            too far from those that were stored.
    """
    check_length(std)
    times = [one.images_seen for one in stored]
    end = times[-1] if images_seen is None else images_seen
    if end not in times:
        near = min(times, key=lambda time: abs(time - end))
        raise ValueError(
            f"no average was stored after {end:,} images; the nearest is of {near:,} images"
        )
    used = [one for one in stored if one.images_seen <= end]
    if len({(one.images_seen, one.std) for one in used}) < len(used):
        raise ValueError(f"two files in {used[0].path.parent} are the same average; remove one")

    times, stds = [one.images_seen for one in used], [one.std for one in used]
    if len(used) == 1 and stds != [std]:
        raise ValueError(
            f"{used[0].path} is the only average up to {end:,} images, and its length is {stds[0]:g}: of one alone no "
            f"other can be made, such as {std:g}; other lengths need more snapshots, or a second one in --power-ema"
        )

    weights = weights_for(times, stds, float(end), std)
    if not np.abs(weights).max() < MOST_WEIGHT:
        raise ValueError(
            f"an average of length {std:g} cannot be made of these {len(used)}: the weights would be up to "
            f"{np.abs(weights).max():.2g}"
        )
    error = fit_error(weights, times, stds, float(end), std)
    if error > MOST_ERROR:
        lengths = ", ".join(f"{one:g}" for one in sorted(set(stds)))
        raise ValueError(
            f"an average of length {std:g} cannot be made of these {len(used)}: the nearest sum is {error:.1%} off, "
            f"more than {MOST_ERROR:.0%}; choose a length nearer to those that are stored ({lengths}), or store more "
            "snapshots"
        )
    return Mixture(used, weights, std, end, error)


def added(mix: Mixture) -> Contents:
    """The networks of the files, added up; what is the same in all, as a buffer is, stays as it is.

    Returns:
        Class name, constructor keywords and tensors of the network.
    Raises:
        ValueError: if a file is damaged, or two are of different networks.
    """
    used, weights = mix.used, mix.weights
    class_name, kwargs, first = _read(used[0])
    total = {name: float(weights[0]) * value for name, value in first.items()}
    same = dict.fromkeys(first, True)
    for one, weight in zip(used[1:], weights[1:], strict=True):
        other_name, other_kwargs, tensors = _read(one)
        if (other_name, other_kwargs) != (class_name, kwargs) or not _alike(tensors, first):
            raise ValueError(f"{one.path} is of another network than {used[0].path}")
        for name, value in tensors.items():
            same[name] = same[name] and torch.equal(value, first[name])
            total[name] += float(weight) * value
    return class_name, kwargs, {n: first[n] if same[n] else value for n, value in total.items()}


def _read(one: Stored) -> Contents:
    try:
        class_name, kwargs, tensors = format_of(one.path).read(one.path)
    except ValueError as error:
        raise ValueError(f"{one.path}: {error}") from error
    return class_name, kwargs, {name: value.to(torch.float32) for name, value in tensors.items()}


def _alike(tensors: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    return {n: v.shape for n, v in tensors.items()} == {n: v.shape for n, v in others.items()}
