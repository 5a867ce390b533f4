"""UniPC: a predictor, and a corrector that costs no evaluation."""

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from sampling.denoiser import Denoiser, Thresholded
from sampling.multistep import Scheme, Step, multistep, positive_steps, step_orders
from sampling.names import Prediction
from sampling.names import UniPCVariant as Variant
from sampling.solver import Solver


@dataclass(frozen=True)
class UniPCSettings:
    """The settings of `unipc`, which explains them."""

    order: int = 3
    variant: Variant = "bh1"
    predict: Prediction = "x0"
    exact: bool = False
    lower_order_final: bool = True
    thresholding: bool = False


def unipc(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    order: int = UniPCSettings.order,
    variant: Variant = UniPCSettings.variant,
    predict: Prediction = UniPCSettings.predict,
    exact: bool = UniPCSettings.exact,
    lower_order_final: bool = UniPCSettings.lower_order_final,
    thresholding: bool = UniPCSettings.thresholding,
) -> Tensor:
    r"""UniPC, a unified predictor-corrector for the exponentially weighted ODE, in lambda = -log sigma.

    x_s = x_base - B(z) (sum_m c_m (D_m - D_0) / r_m + c_p (D_new - D_0)),  R c = b,
    x_base = e^z x_{s-1} - (e^z - 1) D_0,  z = -h,  h = lambda_s - lambda_{s-1},
    R_ij = r_j ** (i-1),  b_i = z phi_{i+1}(z) i! / B(z),  B(z) = z (bh1) or e^z - 1 (bh2)

    The predictor leaves the last term out and solves for one coefficient less.

    Reference: Zhao et al., 2023, Alg. 1 and 2, https://arxiv.org/abs/2302.04867

    Args:
        denoise: D(x; sigma).
        x: state at sigmas[0], float64 [N, C, H, W].
        sigmas: [M + 1] noise levels, decreasing (sampling) or increasing (inversion), the last may be 0.
        order: 1, 2 or 3, at most M.
        variant: B(z), `bh1` or `bh2`.
        predict: interpolate the denoised image (`x0`) or the noise (x - D) / sigma (`noise`).
        exact: solve for the single coefficient of the 1st-order corrector and of the 2nd-order predictor too;
            the published code sets both to 0.5, and so does False.
        lower_order_final: lower the order in the last steps; convergence is then of order 2.
        thresholding: clip each D to the 99.5% quantile of its image where that is above 1, and divide by it.
    Returns:
        The state at sigmas[-1]; NFE = M.
    Raises:
        ValueError: for noise levels or an order out of range, or an unknown variant or prediction.
    """
    if variant not in ("bh1", "bh2"):
        raise ValueError(f"unknown UniPC variant {variant!r}: choose from bh1, bh2")
    if predict not in ("x0", "noise"):
        raise ValueError(f"unknown UniPC prediction {predict!r}: choose from x0, noise")

    def scheme(levels: list[float]) -> Scheme:
        orders = step_orders("unipc", levels, order, 3, lower_order_final)
        steps = [
            _steps(levels[: s + 2], orders[s], variant, predict, exact)
            for s in range(positive_steps(levels))
        ]
        return Scheme(
            predict=tuple(predictor for predictor, _ in steps),
            correct=tuple(corrector for _, corrector in steps),
            derivative=predict == "noise",
        )

    return multistep(Thresholded(denoise) if thresholding else denoise, x, sigmas, scheme)


UNIPC = Solver(unipc, UniPCSettings, grid="logsnr")


def _steps(
    levels: list[float], order: int, variant: Variant, predict: Prediction, exact: bool
) -> tuple[Step, Step]:
    """Predictor and corrector of the step to levels[-1]; the values stand at levels[-2], levels[-3], ..."""
    end, start, *past = reversed(levels[-order - 1 :])
    h = math.log(start / end)
    if predict == "x0":
        z, keep, scale = -h, end / start, 1.0
    else:
        z, keep, scale = h, 1.0, end

    base = math.expm1(z)
    B = z if variant == "bh1" else base
    r = [math.log(start / level) / h for level in past] + [1.0]
    b = [z * _phi(i + 1, z) * math.factorial(i) / B for i in range(1, order + 1)]

    c = [0.5] if order == 1 and not exact else _solve(r, b)
    a = [0.5] if order == 2 and not exact else _solve(r[:-1], b[:-1])

    old = [-scale * B * a_m / r_m for a_m, r_m in zip(a, r, strict=False)]
    predictor = Step(keep, (-scale * base - sum(old), *old))
    *old, new = [-scale * B * c_m / r_m for c_m, r_m in zip(c, r, strict=True)]
    corrector = Step(keep, (new, -scale * base - sum(old) - new, *old))
    return predictor, corrector


def _solve(r: list[float], b: list[float]) -> list[float]:
    """The c with sum_j r_j ** (i-1) c_j = b_i."""
    return np.linalg.solve(np.vander(r, increasing=True).T, np.array(b)).tolist() if r else []


def _phi(k: int, z: float) -> float:
    """phi_1(z) = (e^z - 1) / z, phi_{k+1}(z) = (phi_k(z) - 1/k!) / z."""
    phi = math.expm1(z) / z
    for i in range(1, k):
        phi = (phi - 1 / math.factorial(i)) / z
    return phi
