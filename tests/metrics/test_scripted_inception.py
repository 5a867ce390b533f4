"""A TorchScript of Inception-v3's interface: run as it is."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import relative_error
from torch import Tensor, nn

from dnnlib.util import file_sha256
from metrics.inception import load_inception
from metrics.scripted_inception import ScriptedInception


class Stand(nn.Module):
    """The interface of NVIDIA's file, with other arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Linear(2048, 1008)

    def forward(
        self,
        img: Tensor,
        return_features: bool = False,
        use_fp16: bool = False,
        no_output_bias: bool = False,
    ) -> Tensor:
        features = F.adaptive_avg_pool2d(img.float(), (32, 64)).mean(1).flatten(1) / 128
        if return_features:
            return features
        bias = torch.zeros_like(self.output.bias) if no_output_bias else self.output.bias
        return F.softmax(F.linear(features, self.output.weight, bias), 1)


class OtherNames(Stand):
    """The same, with its last layer under another name."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.head = nn.Linear(2048, 1008)

    def forward(
        self,
        img: Tensor,
        return_features: bool = False,
        use_fp16: bool = False,
        no_output_bias: bool = False,
    ) -> Tensor:
        features = F.adaptive_avg_pool2d(img.float(), (32, 64)).mean(1).flatten(1) / 128
        if return_features:
            return features
        bias = torch.zeros_like(self.head.bias) if no_output_bias else self.head.bias
        return F.softmax(F.linear(features, self.head.weight, bias), 1)


class Stranger(nn.Module):
    """Something else."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1


def script(net: nn.Module, path: Path) -> Path:
    torch.jit.script(net).save(str(path))
    return path


@pytest.mark.parametrize("kind", [Stand, OtherNames])
def test_features_and_logits(kind: type[nn.Module], tmp_path: Path) -> None:
    source = kind()
    path = script(source, tmp_path / "script.pt")
    net = load_inception(path)
    assert isinstance(net, ScriptedInception)
    assert net.name == f"other-inception-{file_sha256(path)[:8]}-torchscript"
    images = torch.randint(0, 256, (3, 1, 40, 80), dtype=torch.uint8)
    features, logits = net(images)
    rgb = images.repeat(1, 3, 1, 1)
    assert torch.equal(features, source(rgb, return_features=True))
    assert logits.shape == (3, 1008)
    assert relative_error(logits.softmax(1), source(rgb, no_output_bias=True)) < 1e-5
    assert relative_error(logits.softmax(1), source(rgb)) > 1e-4  # the bias would show
    assert len(net.sha256) == 64
    with pytest.raises(ValueError, match="reads uint8 images"):
        net(images.float())


def test_what_it_cannot_do_is_said(tmp_path: Path) -> None:
    path = script(Stand(), tmp_path / "script.pt")
    with pytest.raises(ValueError, match="resizes as TensorFlow, in float32"):
        load_inception(path, "torch")
    with pytest.raises(ValueError, match="resizes as TensorFlow, in float32"):
        load_inception(path, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="its forward has other arguments"):
        load_inception(script(Stranger(), tmp_path / "stranger.pt"))
