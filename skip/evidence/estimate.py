"""Estimate: a measured value, its error, and enough of the images behind it to compare two cells seed by seed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from dnnlib.text import printable
from metrics.features import ArrayLike

MAX_BLOCKS = 100


@dataclass(frozen=True)
class Estimate:
    r"""A value, its standard error, and block means: what each run of consecutive seeds would add up to alone.

    Cells of a table share their seeds, so most of their noise is common and drops out of differences. With blocks k of
    equal seeds on both sides, the error of a difference is

        std_k(a_k - b_k) / sqrt(B)

    without keeping a value per image. B = min(100, N) blocks tell an error to about 1 / sqrt(2 B), 7%. Where B does not
    divide N the blocks differ by one image and all weigh the same: that overstates an error by 6% at N = 150, by under
    0.5% from N = 500.

    Args:
        value: the quantity.
        error: its standard error; None if unknown.
        blocks: B block means in the order of the seeds; empty if unknown.
    Raises:
        ValueError: if a number is not finite, the error is negative, or there is only one block.
    """

    value: float
    error: float | None = None
    blocks: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not all(
            math.isfinite(number) for number in (self.value, self.error or 0.0, *self.blocks)
        ):
            raise ValueError(
                f"the estimate {self.value} with error {self.error} must be of finite numbers: measure again"
            )
        if self.error is not None and self.error < 0:
            raise ValueError(f"the error is {self.error}; it must be 0 or more, or None if unknown")
        if len(self.blocks) == 1:
            raise ValueError("one block tells nothing of the error; give 2 or more, or none")

    @classmethod
    def of_mean(cls, per_image: ArrayLike) -> "Estimate":
        """The mean of a quantity over images.

        Args:
            per_image: [N], in the order of the seeds.
        Returns:
            The mean, std / sqrt(N) and block means; of one image the value alone.
        Raises:
            ValueError: if it is not a vector, is empty, or holds NaN or infinity.
        """
        x = _vector(per_image)
        return cls.of_influence(float(x.mean()), x - x.mean())

    @classmethod
    def of_influence(cls, value: float, influence: ArrayLike) -> "Estimate":
        """A quantity that is not a mean, by what each image adds to it, as `metrics.uncertainty.frechet_influence`.

        Args:
            value: of all images.
            influence: [N] with mean about 0, in units of the value, in the order of the seeds.
        Returns:
            The value, std / sqrt(N), and value + block means; of one image the value alone.
        Raises:
            ValueError: as `of_mean`.
        """
        h = _vector(influence)
        if len(h) == 1:
            return cls.plain(value)
        error = float(h.std(ddof=1)) / len(h) ** 0.5
        blocks = value + _means_of_runs(h, min(MAX_BLOCKS, len(h)))
        return cls(float(value), error, tuple(blocks.tolist()))

    @classmethod
    def of_jackknife(cls, value: float, without: Sequence[float]) -> "Estimate":
        r"""Any quantity, by what it is without each of G runs of seeds: blocks of a delete-a-group jackknife.

            block_k = value + (G - 1) (value - value without run k),    error = std(blocks) / sqrt(G)

        Reference: Efron, 1982, The Jackknife, the Bootstrap and Other Resampling Plans

        Args:
            value: of all images.
            without: the quantity without each run, in the order of the seeds; 2 or more.
        """
        blocks = value + (len(without) - 1) * (value - np.array(without, dtype=np.float64))
        return cls(
            float(value), float(blocks.std(ddof=1)) / len(blocks) ** 0.5, tuple(blocks.tolist())
        )

    @classmethod
    def plain(cls, value: float, error: float | None = None) -> "Estimate":
        """A value whose images are not known: one that is quoted, say, or comes from a fit."""
        return cls(float(value), None if error is None else float(error))

    def to_json(self) -> dict[str, Any]:
        """The three fields as JSON holds them; `from_json` gives the same numbers to the last bit."""
        return {"value": self.value, "error": self.error, "blocks": list(self.blocks)}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Estimate":
        """What `to_json` wrote.

        Raises:
            ValueError: if it is something else.
        """
        try:
            error = record["error"]
            blocks = tuple(_number(block) for block in record["blocks"])
            return cls(_number(record["value"]), None if error is None else _number(error), blocks)
        except (KeyError, TypeError, OverflowError) as problem:
            shown = printable(repr(record))
            raise ValueError(
                f"{shown} is not an estimate: need value, error and blocks, all numbers"
            ) from problem


def _number(value: Any) -> float:
    """A number of JSON, which true, false and texts such as "80" are not.

    Raises:
        TypeError: if it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def difference(a: Estimate, b: Estimate) -> Estimate:
    """a - b, paired where both have the same number of blocks.

    Unpaired, the error is sqrt(ea^2 + eb^2), and None if either is. Blocks of equal number are taken to be of the same
    seeds. Are they not (other seeds, more images), the error comes out as if the two were independent.

    Returns:
        The difference; with blocks if it is paired, so that differences of differences are paired too.
    """
    return _combined(a.value - b.value, a, b, 1.0, -1.0)


def ratio(a: Estimate, b: Estimate) -> Estimate:
    """a / b, paired as `difference`, its error by the delta method.

    r = a / b,    r_k = r + ((a_k - a) - r (b_k - b)) / b;    unpaired: sqrt(ea^2 + r^2 eb^2) / |b|

    Good where b is many errors away from 0.

    Raises:
        ValueError: if b is 0.
    """
    if b.value == 0:
        raise ValueError(f"the ratio {a.value} / 0 does not exist: take the difference")
    r = a.value / b.value
    return _combined(r, a, b, 1 / b.value, -r / b.value)


def scaled(a: Estimate, factor: float) -> Estimate:
    """A known multiple of an estimate."""
    error = None if a.error is None else abs(factor) * a.error
    return Estimate(factor * a.value, error, tuple(factor * block for block in a.blocks))


def rounded(value: float, error: float | None, sign: Literal["", "+"] = "") -> str:
    """The value in words, as precisely as its error allows: to the error's first digit, to the second if that is a 1.

    Args:
        value: any number.
        error: of the value; None or 0 gives four significant digits. There are never more than six.
        sign: "+" writes the sign of positive values too.
    """
    if not error:
        return f"{value:{sign}z.4g}"
    first = math.floor(math.log10(error))
    last = first - 1 if error < 2 * 10.0**first else first  # power of ten of the last digit
    size = math.floor(math.log10(abs(value))) if value else last
    last = max(last, size - 5)
    if last >= 0:
        return f"{round(value, -last):{sign}z.0f}"
    if last >= -6:
        return f"{value:{sign}z.{-last}f}"
    return f"{value:{sign}.{max(size - last, 0)}e}"


def as_text(estimate: Estimate, sign: Literal["", "+"] = "") -> str:
    """The value and its error, "6.12 +- 0.05", see `rounded`; alone if that is unknown, or 0: a setting, say."""
    value = rounded(estimate.value, estimate.error, sign)
    if not estimate.error:
        return value
    return f"{value} +- {rounded(estimate.error, estimate.error)}"


def _combined(value: float, a: Estimate, b: Estimate, weight_a: float, weight_b: float) -> Estimate:
    """A function of two estimates, by its derivatives with respect to both."""
    if a.blocks and len(a.blocks) == len(b.blocks):
        moves = weight_a * (np.array(a.blocks) - a.value) + weight_b * (
            np.array(b.blocks) - b.value
        )
        error = float(moves.std(ddof=1)) / len(moves) ** 0.5
        return Estimate(value, error, tuple((value + moves).tolist()))
    if a.error is None or b.error is None:
        return Estimate.plain(value)
    return Estimate.plain(value, math.hypot(weight_a * a.error, weight_b * b.error))


def _means_of_runs(x: np.ndarray, runs: int) -> np.ndarray:
    """Means of consecutive runs of a vector, the first ones longer by one where their number does not divide it."""
    length, longer = divmod(len(x), runs)
    first, rest = np.split(x, [longer * (length + 1)])
    means = [
        first.reshape(longer, length + 1).mean(1),
        rest.reshape(runs - longer, length).mean(1),
    ]
    return np.concatenate(means)


def _vector(values: ArrayLike) -> np.ndarray:
    x = torch.as_tensor(values).detach().to("cpu", torch.float64).numpy()
    if x.ndim != 1 or len(x) == 0:
        raise ValueError(
            f"values per image have shape {list(x.shape)}; need [N], one per image, N at least 1"
        )
    if not np.isfinite(x).all():
        raise ValueError(
            f"the value of image {int(np.argmin(np.isfinite(x)))} is not finite; was its image damaged?"
        )
    return x
