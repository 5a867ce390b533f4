"""The blocks of Inception-v3 as TensorFlow's 2015-12-05 graph has them; names as in the published state dict.

Reference: Szegedy et al., 2016, "Rethinking the Inception Architecture", https://arxiv.org/abs/1512.00567
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class ConvBN(nn.Module):
    """Convolution, batch norm, ReLU.

    Args:
        inputs, outputs: channels.
        kernel: its side, or (height, width).
        stride: 2 halves the resolution.
        same: pad so that stride 1 keeps the resolution; False pads nothing.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        same: bool = True,
    ) -> None:
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, width // 2) if same else 0
        self.conv = nn.Conv2d(inputs, outputs, (height, width), stride, padding, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, H', W']."""
        return F.relu_(self.bn(self.conv(x)))

    def fold(self) -> None:
        """Multiply the batch norm into the convolution: one pass over the image instead of two; inference only."""
        if isinstance(self.bn, nn.BatchNorm2d):
            self.conv = fuse_conv_bn_eval(self.conv, self.bn)
            self.bn = nn.Identity()


def _average(x: Tensor) -> Tensor:
    # As TensorFlow's SAME pooling counts.
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _maximum(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=1, padding=1)


class MixedA(nn.Module):
    """1x1, 5x5, double 3x3 and average pool, at 35 x 35.

    Args:
        inputs: channels.
        pool: channels of the pooled branch.
    """

    def __init__(self, inputs: int, pool: int) -> None:
        super().__init__()
        self.branch1x1 = ConvBN(inputs, 64, 1)
        self.branch5x5_1 = ConvBN(inputs, 48, 1)
        self.branch5x5_2 = ConvBN(48, 64, 5)
        self.branch3x3dbl_1 = ConvBN(inputs, 64, 1)
        self.branch3x3dbl_2 = ConvBN(64, 96, 3)
        self.branch3x3dbl_3 = ConvBN(96, 96, 3)
        self.branch_pool = ConvBN(inputs, pool, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, 35, 35] -> [N, 224 + pool, 35, 35]."""
        five = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(_average(x))], 1)


class ReductionA(nn.Module):
    """From 35 x 35 to 17 x 17: 288 channels become 768."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3 = ConvBN(288, 384, 3, stride=2, same=False)
        self.branch3x3dbl_1 = ConvBN(288, 64, 1)
        self.branch3x3dbl_2 = ConvBN(64, 96, 3)
        self.branch3x3dbl_3 = ConvBN(96, 96, 3, stride=2, same=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 288, 35, 35] -> [N, 768, 17, 17]."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, stride=2)], 1)


class MixedB(nn.Module):
    """1x1, factored 7x7, factored double 7x7 and average pool, at 17 x 17.

    Args:
        width: channels within the factored branches.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch1x1 = ConvBN(768, 192, 1)
        self.branch7x7_1 = ConvBN(768, width, 1)
        self.branch7x7_2 = ConvBN(width, width, (1, 7))
        self.branch7x7_3 = ConvBN(width, 192, (7, 1))
        self.branch7x7dbl_1 = ConvBN(768, width, 1)
        self.branch7x7dbl_2 = ConvBN(width, width, (7, 1))
        self.branch7x7dbl_3 = ConvBN(width, width, (1, 7))
        self.branch7x7dbl_4 = ConvBN(width, width, (7, 1))
        self.branch7x7dbl_5 = ConvBN(width, 192, (1, 7))
        self.branch_pool = ConvBN(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 768, 17, 17] -> the same shape."""
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(_average(x))], 1)


class ReductionB(nn.Module):
    """From 17 x 17 to 8 x 8: 768 channels become 1280."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = ConvBN(768, 192, 1)
        self.branch3x3_2 = ConvBN(192, 320, 3, stride=2, same=False)
        self.branch7x7x3_1 = ConvBN(768, 192, 1)
        self.branch7x7x3_2 = ConvBN(192, 192, (1, 7))
        self.branch7x7x3_3 = ConvBN(192, 192, (7, 1))
        self.branch7x7x3_4 = ConvBN(192, 192, 3, stride=2, same=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 768, 17, 17] -> [N, 1280, 8, 8]."""
        seven = self.branch7x7x3_2(self.branch7x7x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(seven))
        return torch.cat(
            [self.branch3x3_2(self.branch3x3_1(x)), seven, F.max_pool2d(x, 3, stride=2)], 1
        )


class MixedC(nn.Module):
    """1x1, split 3x3, split double 3x3 and a pool, at 8 x 8.

    Args:
        inputs: channels.
        maximum: pool by the maximum, as the graph's last block does; the others average.
    """

    def __init__(self, inputs: int, maximum: bool) -> None:
        super().__init__()
        self.branch1x1 = ConvBN(inputs, 320, 1)
        self.branch3x3_1 = ConvBN(inputs, 384, 1)
        self.branch3x3_2a = ConvBN(384, 384, (1, 3))
        self.branch3x3_2b = ConvBN(384, 384, (3, 1))
        self.branch3x3dbl_1 = ConvBN(inputs, 448, 1)
        self.branch3x3dbl_2 = ConvBN(448, 384, 3)
        self.branch3x3dbl_3a = ConvBN(384, 384, (1, 3))
        self.branch3x3dbl_3b = ConvBN(384, 384, (3, 1))
        self.branch_pool = ConvBN(inputs, 192, 1)
        self._pool = _maximum if maximum else _average

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, 8, 8] -> [N, 2048, 8, 8]."""
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        split = [self.branch3x3_2a(three), self.branch3x3_2b(three)]
        split_double = [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)]
        return torch.cat(
            [self.branch1x1(x), *split, *split_double, self.branch_pool(self._pool(x))], 1
        )
