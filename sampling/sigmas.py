"""Noise levels to visit, and how the visit ends."""

import itertools
import math
import pkgutil
from collections.abc import Callable, Sequence
from typing import get_args

import torch
from torch import Tensor

from sampling import names
from sampling.names import Ending
from sampling.time_axes import VPTime

LEAST, MOST = 1e-18, 1e18  # noise levels; see `_check_range`


def edm(num_steps: int, sigma_min: float, sigma_max: float, exponent: float = 7.0) -> Tensor:
    r"""Noise levels evenly spaced in sigma ** (1 / exponent).

    sigma_i = (a + i / (N - 1) * (b - a)) ** p,  a = sigma_max ** (1/p),  b = sigma_min ** (1/p)

    Reference: Karras et al., 2022, Eq. 5, https://arxiv.org/abs/2206.00364

    Args:
        num_steps: N >= 2, the number of nodes.
        sigma_min, sigma_max: in data units, 0 < sigma_min < sigma_max.
        exponent: p > 0; larger spends more steps at low noise.
    Returns:
        Decreasing float64 tensor [N] from sigma_max to sigma_min.
    Raises:
        ValueError: if a range above is violated, or p is so extreme that float64 cannot tell the levels apart.
    """
    return _power_spaced(
        _fractions(num_steps, sigma_min, sigma_max), sigma_max, sigma_min, exponent
    )


def logsnr(num_steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    r"""Noise levels evenly spaced in log sigma, hence in the logarithm of the signal-to-noise ratio.

    sigma_i = sigma_max (sigma_min / sigma_max) ** (i / (N - 1))

    Reference: Lu et al., 2022, https://arxiv.org/abs/2206.00927; as the steps of the VE process:
    Karras et al., 2022, Table 1, https://arxiv.org/abs/2206.00364

    Args, Returns, Raises: as `edm`.
    """
    fraction = _fractions(num_steps, sigma_min, sigma_max)
    a, b = math.log(sigma_max), math.log(sigma_min)
    return (a + fraction * (b - a)).exp()


def time_uniform(
    num_steps: int,
    sigma_min: float,
    sigma_max: float,
    exponent: float = 1.0,
    epsilon_s: float = 1e-3,
) -> Tensor:
    r"""Noise levels evenly spaced in VP time t ** (1 / exponent), t from 1 to epsilon_s.

    sigma_i = sigma_vp((1 + i / (N - 1) * (epsilon_s ** (1/p) - 1)) ** p)

    Reference: Lu et al., 2022 (uniform and quadratic time steps), https://arxiv.org/abs/2206.00927

    Args:
        exponent: p > 0; 1 is uniform time, 2 quadratic.
        epsilon_s: in (0, 1), the VP time at which sigma_vp is sigma_min.
    Other arguments, Returns, Raises: as `edm`.
    """
    fraction = _fractions(num_steps, sigma_min, sigma_max)
    if not 0 < epsilon_s < 1:
        raise ValueError(f"epsilon_s must lie between 0 and 1, got {epsilon_s}")
    t = _power_spaced(fraction, 1.0, epsilon_s, exponent)
    return VPTime.fitted(sigma_min, sigma_max, epsilon_s).sigma(t)


def vp(num_steps: int, sigma_min: float, sigma_max: float, epsilon_s: float = 1e-3) -> Tensor:
    r"""Noise levels of the VP process at evenly spaced times: `time_uniform` with exponent 1.

    Reference: Karras et al., 2022, Table 1, https://arxiv.org/abs/2206.00364

    Args, Returns, Raises: as `time_uniform`.
    """
    return time_uniform(num_steps, sigma_min, sigma_max, exponent=1.0, epsilon_s=epsilon_s)


def iddpm(
    num_steps: int,
    sigma_min: float,
    sigma_max: float,
    M: int = 1000,
    C_1: float = 0.001,
    C_2: float = 0.008,
) -> Tensor:
    r"""Noise levels picked evenly from the table of the improved DDPM's cosine schedule.

    u_M = 0,  u_{j-1} = sqrt((u_j^2 + 1) / max(a_{j-1} / a_j, C_1) - 1),  a_j = sin(pi/2 j / (M (C_2 + 1)))^2

    Reference: Karras et al., 2022, Table 1, https://arxiv.org/abs/2206.00364

    Args:
        num_steps: N, 2 <= N <= the number of table entries within [sigma_min, sigma_max].
        M: length of the table.
        C_1, C_2: floor of the ratio and offset of the cosine.
    Other arguments: as `edm`.
    Returns:
        Decreasing float64 tensor [N]; its ends are the outermost table entries within the range.
    Raises:
        ValueError: if a range above is violated.
    """
    fraction = _fractions(num_steps, sigma_min, sigma_max)
    # The ratios in float32, as EDM's code has them: that moves the lowest levels by up to 5e-4 of themselves.
    a = (math.pi / 2 * torch.arange(M + 1) / M / (C_2 + 1)).sin() ** 2
    ratios = (a[:-1] / a[1:]).clamp(min=C_1).tolist()
    u = [0.0]
    for ratio in reversed(ratios):
        u.append(math.sqrt((u[-1] ** 2 + 1) / ratio - 1))
    table = [level for level in reversed(u) if sigma_min <= level <= sigma_max]
    if num_steps > len(table):
        raise ValueError(
            f"the iddpm table has {len(table)} noise levels within [{sigma_min:g}, {sigma_max:g}], "
            f"too few for {num_steps} steps: use fewer steps or another grid"
        )
    index = (fraction * (len(table) - 1)).round().long()
    return torch.tensor(table, dtype=torch.float64)[index]


def explicit(values: str | Sequence[float]) -> Tensor:
    """Noise levels as listed, from numbers or from text such as "80,10,1,0.1".

    Args:
        values: at least one, positive, strictly decreasing; the final 0 is the ending's, not the list's.
    Returns:
        Decreasing float64 tensor.
    Raises:
        ValueError: if an entry is no number, or the list violates the above.
    """
    items = values.replace(",", " ").split() if isinstance(values, str) else values
    try:
        levels = [float(item) for item in items]
    except ValueError:
        raise ValueError(
            f"noise levels must be numbers separated by commas, got {values!r}"
        ) from None
    falling = all(a > b for a, b in itertools.pairwise(levels))
    if not levels or not falling or not math.inf > levels[0] or not levels[-1] > 0:
        raise ValueError(
            f"noise levels must be positive and strictly decreasing, without the final 0, got {values!r}"
        )
    _check_range(levels[-1], levels[0])
    return torch.tensor(levels, dtype=torch.float64)


def default_range(name: str) -> tuple[float, float]:
    """The (sigma_min, sigma_max) that a grid is used with unless the user or the network says otherwise.

    Reference: Karras et al., 2022, Table 1, https://arxiv.org/abs/2206.00364 (vp: beta_d = 19.9,
    beta_min = 0.1, t from 0.001 to 1).

    Args:
        name: a key of SIGMAS.
    Returns:
        sigma_min and sigma_max in data units.
    Raises:
        ValueError: for an unknown name.
    """
    if name == "vp":
        low, high = VPTime(19.9, 0.1).sigma(torch.tensor([1e-3, 1.0], dtype=torch.float64)).tolist()
        return low, high
    ranges = {"ve": (0.02, 100.0), "iddpm": (0.002, 81.0)}
    if name not in SIGMAS:
        raise ValueError(f"unknown grid {name!r}: choose from {', '.join(SIGMAS)}")
    return ranges.get(name, (0.002, 80.0))


def with_ending(nodes: Tensor, ending: Ending) -> Tensor:
    """The noise levels a solver visits: the nodes, then 0 if the ending is `zero`.

    Args:
        nodes: decreasing, positive.
        ending: `zero`: a last step to 0. `sigma_min`: stop at the last node. `denoise`: as `sigma_min` for
            the solver; the caller then replaces x by D(x; sigma_min), one more evaluation.
    Returns:
        Tensor like `nodes`, one longer for `zero`.
    Raises:
        ValueError: for an unknown ending.
    """
    if ending not in get_args(Ending):
        raise ValueError(f"unknown ending {ending!r}: choose from {', '.join(get_args(Ending))}")
    return torch.cat([nodes, nodes.new_zeros(1)]) if ending == "zero" else nodes


def checked(sigmas: Tensor) -> list[float]:
    """The levels as Python floats, read from their device once; ValueError if no solver can step along them.

    Args:
        sigmas: [M + 1], M >= 1, strictly decreasing (sampling) or increasing (inversion), positive but for a
            last 0.
    Returns:
        List of M + 1 floats.
    Raises:
        ValueError: if a range above is violated.
    """
    levels = [float(level) for level in sigmas.tolist()] if sigmas.ndim == 1 else []
    if len(levels) < 2:
        raise ValueError(
            f"a sampler needs a list of at least two noise levels, got shape {tuple(sigmas.shape)}"
        )

    signs = {(b > a) - (b < a) for a, b in itertools.pairwise(levels)}
    if not all(math.isfinite(level) for level in levels) or signs not in ({1}, {-1}):
        raise ValueError(
            f"noise levels must be finite and strictly monotone, got {_abbreviated(levels)}"
        )

    if min(levels[:-1]) <= 0 or levels[-1] < 0:
        raise ValueError(
            f"noise levels must be positive, but for a last 0, got {_abbreviated(levels)}"
        )

    return levels


def falling(sigmas: Tensor, solver: str) -> list[float]:
    """As `checked`, for a solver that only leads from noise to images.

    Raises:
        ValueError: as there, and if the levels increase.
    """
    levels = checked(sigmas)
    if levels[-1] > levels[0]:
        raise ValueError(
            f"{solver} needs decreasing noise levels: it cannot lead from images to noise"
        )
    return levels


def _fractions(num_steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """i / (N - 1) for i = 0 .. N - 1, after checking what every grid demands."""
    if num_steps < 2:
        raise ValueError(
            f"num_steps must be at least 2, got {num_steps}: for one step list its noise level"
        )
    if not 0 < sigma_min < sigma_max < math.inf:
        raise ValueError(
            f"noise levels need 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}"
        )
    _check_range(sigma_min, sigma_max)
    return torch.arange(num_steps, dtype=torch.float64) / (num_steps - 1)


def _check_range(low: float, high: float) -> None:
    """Refuse noise levels whose square is no number of float32, in which networks compute."""
    if not LEAST <= low <= high <= MOST:
        raise ValueError(
            f"noise levels run from {high:g} to {low:g}; float32 can compute with {LEAST:g} to {MOST:g}"
        )


def _power_spaced(fraction: Tensor, start: float, end: float, exponent: float) -> Tensor:
    """From `start` down to `end`, evenly in value ** (1 / exponent)."""
    if not 0 < exponent < math.inf:
        raise ValueError(f"exponent must be positive, got {exponent}")
    try:
        a, b = start ** (1 / exponent), end ** (1 / exponent)
    except OverflowError:
        a = b = math.inf
    values = (a + fraction * (b - a)) ** exponent
    if not ((values.diff() < 0).all() and values[-1] > 0):  # beyond the digits of float64, or NaN
        raise ValueError(
            f"exponent {exponent:g} leaves no {len(values)} different values from {start:g} to {end:g}: "
            "use one from 1 to 100"
        )
    return values


def _abbreviated(levels: list[float]) -> str:
    text = [f"{level:g}" for level in levels]
    return ", ".join(text if len(text) <= 8 else [*text[:4], "...", *text[-3:]])


# num_steps, sigma_min, sigma_max -> decreasing float64 [num_steps].
SIGMAS: dict[str, Callable[..., Tensor]] = {
    name: pkgutil.resolve_name(f"{__package__}.{place}") for name, place in names.SIGMAS.items()
}
