"""Inception-v3 from NVIDIA's TorchScript, inception-2015-12-05.pt: the file that EDM's own fid.py downloads.

The file is run as it is, by torch's interpreter, and not taken apart for its weights: its tensors have other names
than the published state dict's, and running it gives an EDM user's numbers by construction. TorchScript cannot call
Python, but torch's operators include some that touch files; `load_detector` therefore checks the hash of the file that
it fetches, and any other TorchScript is as trustworthy as whoever made it.
"""

import os
import zipfile

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dnnlib.text import printable
from metrics.pixels import as_rgb, check_images


def is_torchscript(path: str | os.PathLike[str]) -> bool:
    """Whether the file is a TorchScript archive: a zip with code in it."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


class ScriptedInception(nn.Module):
    """The script as a detector; slower than `metrics.inception.InceptionV3` with the same weights.

    Args:
        path: of the TorchScript.
        sha256: of the file.
        name: what results call it, such as inception-2015-12-05-torchscript.
    Attributes:
        feature_dim, num_logits: 2048; 1008.
    Raises:
        ValueError: if the file is damaged, or its forward lacks return_features and no_output_bias.
    """

    feature_dim = 2048
    num_logits = 1008

    def __init__(
        self, path: str | os.PathLike[str], sha256: str = "", name: str = "scripted-inception"
    ) -> None:
        super().__init__()
        self.sha256, self.name = sha256, name
        try:
            self.script = torch.jit.load(path, map_location="cpu").eval()
        except Exception as error:  # what is wrong with a file can show in any way
            raise ValueError(f"a damaged TorchScript ({printable(error)})") from error
        arguments = {argument.name for argument in self.script.forward.schema.arguments}
        if not {"return_features", "no_output_bias"} <= arguments:
            raise ValueError(
                "a TorchScript, but not NVIDIA's inception-2015-12-05.pt: its forward has other arguments"
            )

    @torch.inference_mode()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The features, and logits without bias up to a constant for each image, which a softmax does not see.

        The script returns either features or probabilities. Logits are the features times its last layer's weight
        where that lies under its name, else the logarithm of the probabilities, at the price of a second pass.

        Args:
            images: uint8 [N, 1 or 3, H, W]; grayscale is repeated.
        Returns:
            features [N, 2048] and logits [N, 1008].
        Raises:
            ValueError: if `images` are of another type or shape.
        """
        check_images(images, self.name)
        rgb = as_rgb(images)
        features = self.script(rgb, return_features=True)
        weight = self.script.state_dict().get("output.weight")
        if weight is not None and weight.shape == (self.num_logits, self.feature_dim):
            return features, F.linear(features, weight)
        return features, self.script(rgb, no_output_bias=True).log()
