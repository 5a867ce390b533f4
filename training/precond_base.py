"""What all denoisers share: a raw network F between four coefficients.

D(x; sigma) = c_skip(sigma) x + c_out(sigma) F(c_in(sigma) x; c_noise(sigma))

Reference: Karras et al., 2022, Eq. 7, https://arxiv.org/abs/2206.00364
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from torch_utils.init_kwargs import RecordsArguments
from training.blocks.layers import Conv2d
from training.blocks.raw_network import RawNetwork
from training.blocks.skip_block import SkipJoin
from training.blocks.unet_block import SkipTarget


class Scalings(NamedTuple):
    """The four coefficients at one noise level, each [N, 1, 1, 1] (or a float where it is constant)."""

    c_skip: Tensor | float
    c_out: Tensor
    c_in: Tensor | float
    c_noise: Tensor


def predicting_noise(sigma: Tensor, c_noise: Tensor) -> Scalings:
    """Of an F that predicts the noise: c_skip = 1,  c_out = -sigma,  c_in = 1 / sqrt(sigma^2 + 1)."""
    return Scalings(1.0, -sigma, 1 / (sigma**2 + 1).sqrt(), c_noise)


class Precond(RecordsArguments, nn.Module):
    """A denoiser D(x; sigma): a raw network between the four coefficients of a subclass.

    Args:
        model: F, a `training.blocks.raw_network.RawNetwork`, or what has its methods.
        img_resolution, img_channels: of the images x.
        label_dim: number of classes, 0 if unconditional.
        use_fp16: run the raw network in float16 on CUDA devices.
    """

    model: RawNetwork
    sigma_min: float
    sigma_max: float
    model_name = "model"  # under which the raw network's tensors are stored
    has_no_class = True  # whether it can be asked without labels, as its authors' code can
    # What its file does not tell and was taken from the published networks, for people.
    assumed = ""
    # What its entry in configs/networks.toml says, on CUDA before use_fp16.
    cuda_dtype: torch.dtype | None = None
    parts: tuple[type, ...] = ()  # further classes whose keywords the constructor takes

    def __init__(
        self,
        model: nn.Module,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
    ) -> None:
        super().__init__()
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.label_dim = label_dim
        self.use_fp16 = use_fp16
        self.dtype: torch.dtype | None = None
        self.register_module(self.model_name, model)

    @classmethod
    def constructors(cls) -> list[type]:
        """The classes whose constructors the keywords of this one's reach; see `dnnlib.keywords.check_keywords`."""
        own = [
            kind for kind in cls.__mro__ if issubclass(kind, Precond) and "__init__" in vars(kind)
        ]
        return [*own, *cls.parts]

    def scalings(self, sigma: Tensor) -> Scalings:
        """The coefficients at float32 noise levels sigma [N, 1, 1, 1]."""
        raise NotImplementedError(f"{type(self).__name__} defines no scalings")

    def round_sigma(self, sigma: float | Tensor) -> Tensor:
        """The nearest noise level that the network was trained on; here every level is."""
        return torch.as_tensor(sigma)

    @property
    def skip_levels(self) -> tuple[int, ...]:
        """The level of each long skip, deepest layer first: 0 is the lowest resolution, the next has twice its side."""
        return self.model.skip_levels

    @property
    def relative_time(self) -> Callable[[Tensor], Tensor] | None:
        """Of noise levels of any shape, where each lies among the times that the network was trained at.

        0 at the first time, 1 at the last, and linear in what the network is told between them, in float64; None of a
        network that was trained at noise levels, as here.
        """
        return None

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
        skip_join: SkipJoin | None = None,
    ) -> Tensor:
        """Denoise x.

        Args:
            x: noisy images [N, C, H, W], data in [-1, 1] plus noise.
            sigma: noise level in data units, a scalar or [N].
            class_labels: one-hot [N, label_dim]; None is "no class", all zeros, where the network knows that
                (`has_no_class`). Ignored by an unconditional network.
            skip_scale: rho of each long skip, deepest decoder layer first, [k] or per image [N, k]; None leaves every
                skip as it is.
            skip_target: what in a decoder block sees the scaled skip: "full" the block; "shortcut" its residual
                shortcut alone; "norm_input" its first group norm alone; "norm_output": that norm's output is scaled
                instead.
            augment_labels: [N, augment_dim], for networks trained with augmentation.
            force_fp32: ignore the half-precision setting.
            skip_join: what else is done to features u and skip d before a block joins them, called with the layer's
                number and both, [N, C, H, W]: other methods than a coefficient, see skip/methods.
        Returns:
            D(x; sigma), float32, of the shape of x.
        Raises:
            ValueError: if skip_scale does not fit the network, or it needs labels and has none.
        """
        if self.label_dim and class_labels is None and not self.has_no_class:
            raise ValueError(
                'this network was trained with classes only, and none of them is "no class": give labels'
            )

        x = x.to(torch.float32)
        sigma = torch.as_tensor(sigma, device=x.device).to(torch.float32).reshape(-1, 1, 1, 1)
        if skip_scale is not None:
            skip_scale = torch.as_tensor(skip_scale, device=x.device)
        labels: Tensor | None = None
        if self.label_dim:
            labels = (
                x.new_zeros([1, self.label_dim])
                if class_labels is None
                else class_labels.to(x.dtype)
            )
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
            skip_join,
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
