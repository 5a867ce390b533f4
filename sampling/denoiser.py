"""What a sampler asks for: a function of a noisy image and its noise level that gives the denoised one."""

from typing import Protocol

import torch
from torch import Tensor

CLIP_QUANTILE = 0.995


class Denoiser(Protocol):
    """D(x; sigma): the estimate of the clean image behind x = image + sigma * noise."""

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoise `x` [N, C, H, W] at the 0-dim noise level `sigma`; the result has x's shape and dtype."""
        ...


class Network(Protocol):
    """A preconditioned network, with or without Skip-Tuning around it."""

    def __call__(self, x: Tensor, sigma: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """Denoise float32 `x` [N, C, H, W] for the one-hot `class_labels` [N, L]; the result is float32."""
        ...


def bind(net: Network, class_labels: Tensor | None = None) -> Denoiser:
    """Turn a network into a denoiser: labels fixed, float32 inside, the dtype of the state (float64) outside.

    Args:
        net: net(x, sigma, class_labels) -> D, float32.
        class_labels: one-hot [N, L] in the order of the images, or None.
    Returns:
        The denoiser D(x; sigma).
    """

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return net(x.to(torch.float32), sigma.to(torch.float32), class_labels).to(x.dtype)

    return denoise


class Counted:
    """A denoiser that counts its calls in `nfe`: the number of function evaluations per image.

    Args:
        denoise: the denoiser to call.
    """

    def __init__(self, denoise: Denoiser) -> None:
        self.denoise = denoise
        self.nfe = 0

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Count one evaluation, and denoise."""
        self.nfe += 1
        return self.denoise(x, sigma)


class Finite:
    """A denoiser that stops at a NaN or infinity instead of drawing grey images of it.

    On a CPU it stops at once. Another device would have to be waited for at every call: there `check`, after the last
    one, reads all that was noted, and still names the noise level where it began.

    Args:
        denoise: the denoiser to call.
    """

    def __init__(self, denoise: Denoiser) -> None:
        self.denoise = denoise
        self._sigmas: list[Tensor] = []
        # Of each call since the last check: whether x and D are, bool [2].
        self._finite: list[Tensor] = []

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoise; on a CPU raise RuntimeError if any value is not finite."""
        D = self.denoise(x, sigma)
        self._sigmas.append(sigma)
        self._finite.append(torch.stack([torch.isfinite(x).all(), torch.isfinite(D).all()]))
        if D.device.type == "cpu":
            self.check()
        return D

    def check(self) -> None:
        """Wait for the device once, and look at every call since the last check.

        Raises:
            RuntimeError: if a value was not finite; names the first noise level, and who is to blame.
        """
        if not self._finite:
            return
        sigmas, finite = self._sigmas, torch.stack(self._finite).cpu().tolist()
        self._sigmas, self._finite = [], []
        for sigma, (given, returned) in zip(sigmas, finite, strict=True):
            if not returned:
                raise RuntimeError(
                    f"the network {'returned' if given else 'was given'} NaN or infinity at sigma = {float(sigma):g}: "
                    "compute in float32, and check the checkpoint and the noise levels"
                )


class Thresholded:
    """Dynamic thresholding: keep each denoised image within [-1, 1] as a whole.

    D <- clamp(D, -q, q) / q,  q = max(1, 99.5 % quantile of |D| over the image)

    Reference: Saharia et al., 2022, Sec. 2.3, https://arxiv.org/abs/2205.11487

    Args:
        denoise: the denoiser to call.
    """

    def __init__(self, denoise: Denoiser) -> None:
        self.denoise = denoise

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoise, clamp to the quantile of each image, and divide by it."""
        D = self.denoise(x, sigma)
        q = D.abs().flatten(1).quantile(CLIP_QUANTILE, dim=1).clamp(min=1)  # (N, C * H * W) -> (N,)
        q = q.reshape(-1, *[1] * (D.ndim - 1))
        return D.clamp(-q, q) / q
