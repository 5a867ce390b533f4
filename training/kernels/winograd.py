r"""3x3 convolution by Winograd's minimal filtering F(4x4, 3x3): a quarter of the multiplications, for large layers.

Each 4x4 patch of the output comes from a 6x6 patch d of the input: Y = A^T [(G g G^T) * (B^T d B)] A, where the
products over channels become 36 matrix products: the groups of a 1x1 convolution. The direct convolution already runs
at the processor's full rate, so fewer multiplications are the only way to be faster; in float32 the result differs by
about 1e-5 of its largest value.

Reference: Lavin & Gray, 2016, "Fast Algorithms for Convolutional Neural Networks", https://arxiv.org/abs/1509.09308
"""

import torch
from torch import Tensor

from training.kernels import choose, onednn

TILES_AT_ONCE = 64  # keeps the 36 planes of a few hundred channels within the cache

_INPUT: list[list[float]] = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]  # B^T
_KERNEL: list[list[float]] = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]  # G
_OUTPUT: list[list[float]] = [
    [1, 1, 1, 1, 1, 0],
    [0, 1, -1, 2, -2, 0],
    [0, 1, 1, 4, 4, 0],
    [0, 1, -1, 8, -8, 1],
]  # A^T


def transform(weight: Tensor) -> Tensor:
    """G g G^T of every kernel g: [O, C, 3, 3] to [36 O, C, 1, 1], four times the memory; worth keeping between calls.

    They are the 36 groups of a 1x1 convolution, packed for it where that can be.
    """
    O, C = weight.shape[:2]  # noqa: E741
    kernel = (_squared(_KERNEL, weight) @ weight.permute(2, 3, 0, 1).reshape(9, O * C)).view(
        36 * O, C, 1, 1
    )
    planes = kernel.new_empty(1, TILES_AT_ONCE, 1, 36 * C).permute(0, 3, 1, 2)
    if choose.packs(planes, kernel):
        return onednn.packed_kernel(kernel, planes, groups=36)
    return kernel


def conv3x3(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """The convolution F.conv2d(x, weight, bias, padding=1).

    Each image is done on its own, so the result does not depend on the batch.

    Args:
        x: [N, C, H, W], H and W divisible by 4.
        kernel: the weight [O, C, 3, 3] as `transform` gives it.
        bias: [O].
    Returns:
        [N, O, H, W] in channels-last memory.
    """
    N, C, H, W = x.shape
    O = bias.shape[0]  # noqa: E741
    padded = x.new_zeros(H + 2, W + 2, C)
    to_planes, to_pixels = _squared(_INPUT, x), _squared(_OUTPUT, x)

    columns = W // 4
    rows = max(
        r
        for r in range(1, H // 4 + 1)
        if H // 4 % r == 0 and (r == 1 or r * columns <= TILES_AT_ONCE)
    )
    tiles = rows * columns
    patches = x.new_empty(rows, columns, 6, 6, C)
    y = x.new_empty(N, H, W, O)
    down, right, _ = padded.stride()
    for image, out in zip(x.permute(0, 2, 3, 1), y, strict=True):
        padded[1:-1, 1:-1] = image
        for top in range(0, H, 4 * rows):
            patches.copy_(
                padded[top:].as_strided(patches.shape, (4 * down, 4 * right, down, right, 1))
            )
            planes = to_planes @ patches.view(tiles, 36, C)
            planes = planes.view(1, tiles, 1, 36 * C).permute(0, 3, 1, 2)
            products = onednn.conv2d(planes, kernel, None, groups=36).permute(0, 2, 3, 1)
            pixels = to_pixels @ products.reshape(tiles, 36, O)
            block = out[top : top + 4 * rows].view(rows, 4, columns, 4, O)
            torch.add(pixels.view(rows, columns, 4, 4, O).transpose(1, 2), bias, out=block)
    return y.permute(0, 3, 1, 2)


def _squared(matrix: list[list[float]], like: Tensor) -> Tensor:
    """The matrix that acts on both axes of a flattened patch: its Kronecker square."""
    single = torch.tensor(matrix, dtype=torch.float64)
    return torch.kron(single, single).to(like)
