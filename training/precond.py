"""Preconditioning: from a raw network F to a denoiser D(x; sigma), four ways.

D(x; sigma) = c_skip(sigma) x + c_out(sigma) F(c_in(sigma) x; c_noise(sigma))

Reference: Karras et al., 2022, Table 1 and Appendix C, https://arxiv.org/abs/2206.00364
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from training.blocks.layers import Conv2d
from training.networks import DhariwalUNet, SkipTarget, SongUNet
from training.schedules import VPSchedule, iddpm_levels

NETWORKS: dict[str, type[DhariwalUNet] | type[SongUNet]] = {
    "DhariwalUNet": DhariwalUNet,
    "SongUNet": SongUNet,
}


class Scalings(NamedTuple):
    """The four coefficients at one noise level, each [N, 1, 1, 1] (or a float where it is constant)."""

    c_skip: Tensor | float
    c_out: Tensor
    c_in: Tensor | float
    c_noise: Tensor


class Precond(nn.Module):
    """A denoiser D(x; sigma): a raw network between the four coefficients of a subclass.

    Args:
        img_resolution, img_channels: of the images x.
        label_dim: number of classes, 0 if unconditional.
        use_fp16: run the raw network in float16 on CUDA devices.
        model_type: "DhariwalUNet" or "SongUNet".
        model_kwargs: keywords of that class.
    """

    sigma_min: float
    sigma_max: float
    out_channels_factor = 1
    has_no_class = True  # whether it can be asked without labels, as its authors' code can
    assumed = ""  # what its file does not tell and was taken from the published networks, for people
    cuda_dtype: torch.dtype | None = None  # what its entry in configs/networks.toml says, on CUDA before use_fp16
    parts: tuple[type, ...] = (DhariwalUNet, SongUNet)  # further classes whose keywords the constructor takes

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        *,
        model_type: str,
        **model_kwargs: Any,
    ) -> None:
        super().__init__()
        if model_type not in NETWORKS:
            raise ValueError(f"unknown model_type {model_type!r}; choose from {', '.join(NETWORKS)}")
        self.img_resolution, self.img_channels, self.label_dim = img_resolution, img_channels, label_dim
        self.use_fp16 = use_fp16
        self.dtype: torch.dtype | None = None
        self.init_kwargs: dict[str, Any] = {
            "img_resolution": img_resolution, "img_channels": img_channels, "label_dim": label_dim,
            "use_fp16": use_fp16, "model_type": model_type, **model_kwargs,
        }  # fmt: skip
        self.model = NETWORKS[model_type](
            img_resolution=img_resolution,
            in_channels=img_channels,
            out_channels=img_channels * self.out_channels_factor,
            label_dim=label_dim,
            **model_kwargs,
        )

    @classmethod
    def constructors(cls) -> list[type]:
        """The classes whose constructors the keywords of this one's reach; see `dnnlib.keywords.check_keywords`."""
        own = [kind for kind in cls.__mro__ if issubclass(kind, Precond) and "__init__" in vars(kind)]
        return [*own, *cls.parts]

    def scalings(self, sigma: Tensor) -> Scalings:
        """The coefficients at float32 noise levels sigma [N, 1, 1, 1]."""
        raise NotImplementedError(f"{type(self).__name__} defines no scalings")

    def round_sigma(self, sigma: float | Tensor) -> Tensor:
        """The nearest noise level that the network was trained on; here every level is."""
        return torch.as_tensor(sigma)

    @property
    def num_skips(self) -> int:
        """k, the number of long skip connections."""
        return self.model.num_skips

    def check_skip_target(self, target: str) -> None:
        """Raise ValueError for a skip_target that the network does not have; see `forward`."""
        self.model.check_skip_target(target)

    @property
    def image_channels(self) -> int:
        """Channels of the images that `decode` gives."""
        return self.img_channels

    @property
    def image_resolution(self) -> int:
        """Side of the images that `decode` gives, in pixels."""
        return self.img_resolution

    def decode(self, x: Tensor) -> Tensor:
        """Images in [-1, 1] of what the network denoises: here x itself; a network of latents has a decoder."""
        return x

    def set_dtype(self, dtype: torch.dtype) -> "Precond":
        """Run the raw network in `dtype` from now on; for inference: its weights are converted once, in place.

        The embeddings, the coefficients and D itself stay float32.
        """
        self.dtype = dtype
        for module in self.model.modules():
            if isinstance(module, Conv2d | nn.GroupNorm):
                module.to(dtype)
        return self

    def channels_last(self) -> "Precond":
        """Keep the weights in channels-last memory, and with them the features: the faster layout for inference."""
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing from torch's stubs
        return self

    def forward(
        self,
        x: Tensor,
        sigma: Tensor | float,
        class_labels: Tensor | None = None,
        skip_scale: Tensor | Sequence[float] | None = None,
        skip_target: SkipTarget = "full",
        augment_labels: Tensor | None = None,
        force_fp32: bool = False,
    ) -> Tensor:
        """Denoise x.

        Args:
            x: noisy images [N, C, H, W], data in [-1, 1] plus noise.
            sigma: noise level in data units, a scalar or [N].
            class_labels: one-hot [N, label_dim]; None is "no class", all zeros, where the network knows that
                (`has_no_class`). Ignored by an unconditional network.
            skip_scale: rho of each long skip, deepest decoder layer first, [k] or per image [N, k]; None leaves every
                skip as it is.
            skip_target: what in a decoder block sees the scaled skip; see `UNetBlock.forward`.
            augment_labels: [N, augment_dim], for networks trained with augmentation.
            force_fp32: ignore the half-precision setting.
        Returns:
            D(x; sigma), float32, of the shape of x.
        Raises:
            ValueError: if skip_scale does not fit the network, or it needs labels and has none.
        """
        if self.label_dim and class_labels is None and not self.has_no_class:
            raise ValueError('this network was trained with classes only, and none of them is "no class": give labels')
        x = x.to(torch.float32)
        sigma = torch.as_tensor(sigma, device=x.device).to(torch.float32).reshape(-1, 1, 1, 1)
        if skip_scale is not None:
            skip_scale = torch.as_tensor(skip_scale, device=x.device)
        labels: Tensor | None = None
        if self.label_dim:
            labels = x.new_zeros([1, self.label_dim]) if class_labels is None else class_labels.to(x.dtype)
            labels = labels.reshape(-1, self.label_dim)
        c_skip, c_out, c_in, c_noise = self.scalings(sigma)
        dtype = torch.float32 if force_fp32 else self.compute_dtype(x.device)
        F_x = self.model(
            (c_in * x).to(dtype),
            c_noise.flatten(),
            labels,
            augment_labels,
            skip_scale,
            skip_target,
        )
        return c_skip * x + c_out * F_x[:, : self.img_channels].to(torch.float32)

    def compute_dtype(self, device: torch.device) -> torch.dtype:
        """What the raw network computes in on this device."""
        if self.dtype is not None:
            return self.dtype
        if device.type != "cuda":
            return torch.float32
        if self.cuda_dtype is not None:
            return self.cuda_dtype
        return torch.float16 if self.use_fp16 else torch.float32


class EDMPrecond(Precond):
    """EDM's preconditioning: unit variance in and out, the least amplified error.

    c_skip = s^2 / (sigma^2 + s^2),  c_out = sigma s / sqrt(sigma^2 + s^2),  c_in = 1 / sqrt(sigma^2 + s^2),
    c_noise = ln(sigma) / 4, where s = sigma_data.

    Args:
        sigma_min, sigma_max: the range the network may be asked for.
        sigma_data: standard deviation of the data.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        sigma_min: float = 0.0,
        sigma_max: float = math.inf,
        sigma_data: float = 0.5,
        model_type: str = "DhariwalUNet",
        **model_kwargs: Any,
    ) -> None:
        super().__init__(img_resolution, img_channels, label_dim, use_fp16, model_type=model_type, **model_kwargs)
        self.sigma_min, self.sigma_max, self.sigma_data = sigma_min, sigma_max, sigma_data
        self.init_kwargs |= {"sigma_min": sigma_min, "sigma_max": sigma_max, "sigma_data": sigma_data}

    def scalings(self, sigma: Tensor) -> Scalings:
        """See the class."""
        total = sigma**2 + self.sigma_data**2
        c_out = sigma * self.sigma_data / total.sqrt()
        return Scalings(self.sigma_data**2 / total, c_out, 1 / total.sqrt(), sigma.log() / 4)


class VPPrecond(Precond):
    """Variance-preserving preconditioning (Song et al., 2021).

    c_skip = 1,  c_out = -sigma,  c_in = 1 / sqrt(sigma^2 + 1),  c_noise = (M - 1) t(sigma), where
    log(1 + sigma(t)^2) = beta_d t^2 / 2 + beta_min t.

    `sigma` and `sigma_inv` have EDM's form of these formulas: in float32 the published networks carry its rounding, of
    2.4% at the lowest level.

    Args:
        beta_d, beta_min: see `training.schedules.VPSchedule`.
        M: number of discrete training times.
        epsilon_t: the smallest training time.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        beta_d: float = 19.9,
        beta_min: float = 0.1,
        M: int = 1000,
        epsilon_t: float = 1e-5,
        model_type: str = "SongUNet",
        **model_kwargs: Any,
    ) -> None:
        super().__init__(img_resolution, img_channels, label_dim, use_fp16, model_type=model_type, **model_kwargs)
        self.schedule, self.M, self.epsilon_t = VPSchedule(beta_d, beta_min), M, epsilon_t
        self.init_kwargs |= {"beta_d": beta_d, "beta_min": beta_min, "M": M, "epsilon_t": epsilon_t}
        with torch.device("cpu"):  # real numbers even where the network is built on the meta device
            self.sigma_min, self.sigma_max = float(self.sigma(epsilon_t)), float(self.sigma(1))

    def sigma(self, t: float | Tensor) -> Tensor:
        """Noise level at time t in [0, 1]."""
        return (self.schedule.log_gain(torch.as_tensor(t)).exp() - 1).sqrt()

    def sigma_inv(self, sigma: float | Tensor) -> Tensor:
        """Time at which the noise level is sigma."""
        beta_d, beta_min = self.schedule.beta_d, self.schedule.beta_min
        sigma = torch.as_tensor(sigma)
        return ((beta_min**2 + 2 * beta_d * (1 + sigma**2).log()).sqrt() - beta_min) / beta_d

    def scalings(self, sigma: Tensor) -> Scalings:
        """See the class."""
        return Scalings(1.0, -sigma, 1 / (sigma**2 + 1).sqrt(), (self.M - 1) * self.sigma_inv(sigma))


class VEPrecond(Precond):
    """Variance-exploding preconditioning (Song et al., 2021): c_skip = c_in = 1, c_out = sigma, c_noise = ln(sigma/2).

    Args:
        sigma_min, sigma_max: the range of training noise levels.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        sigma_min: float = 0.02,
        sigma_max: float = 100.0,
        model_type: str = "SongUNet",
        **model_kwargs: Any,
    ) -> None:
        super().__init__(img_resolution, img_channels, label_dim, use_fp16, model_type=model_type, **model_kwargs)
        self.sigma_min, self.sigma_max = sigma_min, sigma_max
        self.init_kwargs |= {"sigma_min": sigma_min, "sigma_max": sigma_max}

    def scalings(self, sigma: Tensor) -> Scalings:
        """See the class."""
        return Scalings(1.0, sigma, 1.0, (0.5 * sigma).log())


class iDDPMPrecond(Precond):
    """Improved-DDPM preconditioning (Nichol & Dhariwal, 2021) at M discrete levels u_0 > .. > u_{M-1} > u_M = 0.

    c_skip = 1,  c_out = -sigma,  c_in = 1 / sqrt(sigma^2 + 1),  c_noise = M - 1 - argmin_j |u_j - sigma|.

    The network's second half of output channels (a learned variance) is not used.

    Args:
        C_1, C_2, M: of the levels, see `training.schedules.iddpm_levels`.
    Raises:
        ValueError: if M is out of range.
    """

    out_channels_factor = 2
    u: Tensor

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        C_1: float = 0.001,
        C_2: float = 0.008,
        M: int = 1000,
        model_type: str = "DhariwalUNet",
        **model_kwargs: Any,
    ) -> None:
        super().__init__(img_resolution, img_channels, label_dim, use_fp16, model_type=model_type, **model_kwargs)
        self.C_1, self.C_2, self.M = C_1, C_2, M
        self.init_kwargs |= {"C_1": C_1, "C_2": C_2, "M": M}
        u = iddpm_levels(M, C_1, C_2)
        self.register_buffer("u", u)
        self.sigma_min, self.sigma_max = float(u[M - 1]), float(u[0])

    def level_index(self, sigma: Tensor) -> Tensor:
        """Index j of the level u_j nearest to each sigma; of two equally near, the larger level."""
        levels = self.u.to(sigma.dtype)
        return (sigma.reshape(-1, 1) - levels).abs().argmin(dim=1).reshape(sigma.shape)

    def round_sigma(self, sigma: float | Tensor) -> Tensor:
        """The nearest trained noise level u_j."""
        sigma = torch.as_tensor(sigma, device=self.u.device)
        return self.u[self.level_index(sigma)].to(sigma.dtype)

    def scalings(self, sigma: Tensor) -> Scalings:
        """See the class."""
        c_noise = (self.M - 1 - self.level_index(sigma)).to(torch.float32)
        return Scalings(1.0, -sigma, 1 / (sigma**2 + 1).sqrt(), c_noise)


PRECONDS: dict[str, type[Precond]] = {
    "EDMPrecond": EDMPrecond,
    "VPPrecond": VPPrecond,
    "VEPrecond": VEPrecond,
    "iDDPMPrecond": iDDPMPrecond,
}
