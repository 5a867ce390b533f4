"""Inception-v3 of 2015-12-05: the features behind FID, the logits behind the Inception Score.

Any file of these weights will do: the state dict that pytorch-fid and torch-fidelity publish (the default; it is only
data), or NVIDIA's TorchScript (which is a program; see `metrics.scripted_inception`).
"""

import os
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dnnlib.files import check_readable
from dnnlib.util import file_sha256
from metrics.inception_blocks import ConvBN, MixedA, MixedB, MixedC, ReductionA, ReductionB
from metrics.pixels import PREPARATIONS, as_rgb, check_images
from metrics.scripted_inception import ScriptedInception, is_torchscript
from metrics.weights import load_weights
from torch_utils.weights import OldTorchError, load_pickled

NAME = "inception-2015-12-05"
SPATIAL_CHANNELS = 7
# How the SHA-256 of the published files begins: the state dict's, which its own name tells, and the TorchScript's
PUBLISHED = ("6726825d", "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4")


def weights_name(sha256: str) -> str:
    """inception-2015-12-05, if a file of that hash holds these weights; else a name that is nobody's.

    Only the published weights make a distance FID: `metrics.measure.measure` goes by the name.
    """
    return NAME if sha256.startswith(PUBLISHED) else f"other-inception-{sha256[:8] or 'unsaved'}"


class InceptionV3(nn.Module):
    """The network; state dict names as published. `load_inception` makes one that is ready for use.

    Args:
        resize: "tensorflow" (EDM, ADM's evaluator, torch-fidelity), "torch" (pytorch-fid) or "clean" (clean-fid).
        sha256: of the file of weights.
    Attributes:
        name: goes into every result: the weights, and what differs from the usual resize and dtype.
        feature_dim, num_logits, spatial_dim: 2048; 1008; 2023.
    Raises:
        ValueError: if `resize` is unknown.
    """

    feature_dim = 2048
    num_logits = 1008
    spatial_dim = 17 * 17 * SPATIAL_CHANNELS

    def __init__(self, resize: str = "tensorflow", sha256: str = "") -> None:
        super().__init__()
        if resize not in PREPARATIONS:
            raise ValueError(f"unknown resize {resize!r}; choose from {', '.join(PREPARATIONS)}")
        self.resize, self.sha256 = resize, sha256

        self.Conv2d_1a_3x3 = ConvBN(3, 32, 3, stride=2, same=False)
        self.Conv2d_2a_3x3 = ConvBN(32, 32, 3, same=False)
        self.Conv2d_2b_3x3 = ConvBN(32, 64, 3)
        self.Conv2d_3b_1x1 = ConvBN(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvBN(80, 192, 3, same=False)

        self.Mixed_5b = MixedA(192, pool=32)
        self.Mixed_5c = MixedA(256, pool=64)
        self.Mixed_5d = MixedA(288, pool=64)
        self.Mixed_6a = ReductionA()
        self.Mixed_6b = MixedB(128)
        self.Mixed_6c = MixedB(160)
        self.Mixed_6d = MixedB(160)
        self.Mixed_6e = MixedB(192)
        self.Mixed_7a = ReductionB()
        self.Mixed_7b = MixedC(1280, maximum=False)
        self.Mixed_7c = MixedC(2048, maximum=True)

        self.fc = nn.Linear(2048, 1008)

    @property
    def dtype(self) -> torch.dtype:
        """Of the convolutions."""
        return self.Conv2d_1a_3x3.conv.weight.dtype

    @property
    def name(self) -> str:
        """Such as inception-2015-12-05, inception-2015-12-05-torch-resize, inception-2015-12-05-bfloat16.

        Weights that are not the published ones have another; see `weights_name`.
        """
        resize = "" if self.resize == "tensorflow" else f"-{self.resize}-resize"
        return (
            weights_name(self.sha256)
            + resize
            + ("" if self.dtype == torch.float32 else f"-{str(self.dtype).removeprefix('torch.')}")
        )

    @torch.inference_mode()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The features, and the logits as the Inception Score takes them: without the bias of the last layer.

        Salimans et al.'s original code leaves the bias out, and so do torch-fidelity, NVIDIA's and ADM's evaluators.

        Args:
            images: uint8 [N, 1 or 3, H, W]; grayscale is repeated.
        Returns:
            features [N, 2048] and logits [N, 1008].
        Raises:
            ValueError: if `images` are of another type or shape.
        """
        check_images(images, self.name)
        return self.embed(images)

    @torch.inference_mode()
    def with_spatial(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`forward`, and the spatial features that sFID is of.

        They are the first 7 channels of what the ADM evaluator calls mixed_6/conv, after its ReLU, without averaging,
        in TensorFlow's order: row, column, channel.

        Args:
            images: as of `forward`.
        Returns:
            features [N, 2048], logits [N, 1008], spatial features [N, 2023].
        """
        taps = self.taps(self.prepare(images), spatial=True)
        return taps["2048"], taps["logits_unbiased"], taps["spatial"]

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """`forward` with gradients, of grey levels of any type in [0, 255], unchecked."""
        taps = self.taps(self._resized(images))
        return taps["2048"], taps["logits_unbiased"]

    def prepare(self, images: Tensor) -> Tensor:
        """uint8 [N, 1 or 3, H, W] -> what `taps` reads: [N, 3, 299, 299] in [-1, 1]."""
        check_images(images, self.name)
        return self._resized(images)

    def _resized(self, images: Tensor) -> Tensor:
        x = PREPARATIONS[self.resize](as_rgb(images), self.fc.weight.dtype)
        return x.to(self.dtype, memory_format=torch.channels_last)

    def taps(self, x: Tensor, spatial: bool = False) -> dict[str, Tensor]:
        """Features at the four usual depths, averaged over the image, and logits; differentiable.

        Args:
            x: [N, 3, 299, 299] in [-1, 1], in the network's dtype.
            spatial: give the features of `with_spatial` too.
        Returns:
            "64", "192", "768" and "2048" [N, that many]; "logits_unbiased" and "logits" [N, 1008]; "spatial" [N, 2023].
        """
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x1 = F.max_pool2d(x, 3, stride=2)  # [N, 64, 73, 73]
        # [N, 192, 35, 35].
        x2 = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x1)), 3, stride=2)
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x2))))
        x = self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x)))
        x3 = self.Mixed_6e(x)  # [N, 768, 17, 17]
        x4 = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x3)))  # [N, 2048, 8, 8]
        taps = {
            str(x.shape[1]): x.mean((2, 3), dtype=self.fc.weight.dtype) for x in (x1, x2, x3, x4)
        }
        if spatial:
            # A block's first channels are those of its 1x1 branch, the graph's mixed_6/conv.
            part = x[:, :SPATIAL_CHANNELS].permute(0, 2, 3, 1)
            taps["spatial"] = part.flatten(1).to(self.fc.weight.dtype)
        taps["logits_unbiased"] = F.linear(taps["2048"], self.fc.weight)
        taps["logits"] = taps["logits_unbiased"] + self.fc.bias
        return taps

    def fold(self) -> None:
        """Multiply every batch norm into its convolution, for speed; the state dict's names are then others."""
        for module in self.modules():
            if isinstance(module, ConvBN):
                module.fold()


def load_inception(
    path: str | os.PathLike[str], resize: str = "tensorflow", dtype: torch.dtype = torch.float32
) -> InceptionV3 | ScriptedInception:
    """Load Inception-v3 from a local file, on the CPU, ready for use; `.to(device)` moves it.

    `metrics.detector.load_detector` takes names and URLs too.

    Args:
        path: the published state dict (.pth), or NVIDIA's TorchScript (.pt).
        resize: "tensorflow" (as the published FIDs), "torch" or "clean".
        dtype: of the convolutions: float32, bfloat16 or float64. Features come in float32, or float64.
    Returns:
        A module: uint8 [N, 1 or 3, H, W] -> features [N, 2048], logits without bias [N, 1008].
    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged or of another network, or a TorchScript is asked for another resize or dtype.
    """
    check_readable(path)

    try:
        sha256 = file_sha256(path)
        if is_torchscript(path):
            if resize != "tensorflow" or dtype != torch.float32:
                raise ValueError(
                    "the TorchScript resizes as TensorFlow, in float32; take the state dict for others"
                )
            return ScriptedInception(path, sha256, f"{weights_name(sha256)}-torchscript")
        with torch.device("meta"):
            net = InceptionV3(resize, sha256)
        load_weights(net, _read_state_dict(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error

    net.requires_grad_(False).eval().fold()
    net.to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    net.fc.to(torch.promote_types(dtype, torch.float32))
    return net


def _read_state_dict(path: str | os.PathLike[str]) -> Mapping[str, Tensor]:
    try:
        tensors = load_pickled(path)
    except OldTorchError:
        raise
    except Exception as error:  # what is wrong with a file can show in any way
        raise ValueError(
            "neither a whole state dict (.pth) nor a TorchScript (.pt) of Inception-v3"
        ) from error
    if not isinstance(tensors, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in tensors.items()
    ):
        raise ValueError("a torch.save file, but not a state dict of tensors by name")
    return tensors
