"""The plan of a U-Net's towers, against what EDM's networks were published with."""

import itertools

import pytest
import torch

from training.blocks.tower import Tower, levels_of
from training.networks import DhariwalUNet


def test_what_goes_down_comes_up() -> None:
    tower = Tower(3, 16, [16, 32, 32], 2, [1])
    down, up = list(tower.encoder()), list(tower.decoder())
    assert [place.at(16) for place in down] == [
        "16x16_conv", "16x16_block0", "16x16_block1", "8x8_down", "8x8_block0", "8x8_block1",
        "4x4_down", "4x4_block0", "4x4_block1",
    ]  # fmt: skip
    assert [place.at(16) for place in up] == [
        "4x4_in0", "4x4_in1", "4x4_block0", "4x4_block1", "4x4_block2", "8x8_up", "8x8_block0", "8x8_block1",
        "8x8_block2", "16x16_up", "16x16_block0", "16x16_block1", "16x16_block2",
    ]  # fmt: skip
    for before, after in itertools.pairwise(down):
        assert after.in_channels == before.out_channels
    skips, channels = [place.out_channels for place in down], down[-1].out_channels
    for place in up:
        assert place.in_channels == channels + (skips.pop() if place.takes_skip else 0)
        channels = place.out_channels
    assert not skips and channels == 16
    assert {place.level for place in [*down, *up] if place.attention and place.takes_skip} == {1}
    assert [place.name for place in up if place.attention and not place.takes_skip] == ["in0"]
    assert [place.at(16) for place in [*down, *up] if place.last] == [
        "16x16_block1", "8x8_block1", "4x4_block1", "4x4_block2", "8x8_block2", "16x16_block2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("resolutions", "levels"), [((8,), [1]), ((16, 4), [0, 2]), ((2,), []), ((), [])]
)
def test_levels_of_a_resolution(resolutions: tuple[int, ...], levels: list[int]) -> None:
    assert levels_of(resolutions, 16, 3) == levels


def test_initial_values_are_drawn_in_the_order_of_the_layers() -> None:
    """A seed gives the same weights as ever: the first of each tower, drawn by hand."""
    net = DhariwalUNet(
        8, 1, 1, model_channels=32, channel_mult=[1, 2], num_blocks=1, attn_resolutions=[]
    )
    names = [
        name.removesuffix(".weight")
        for name, _ in net.named_parameters()
        if name.endswith(".weight")
    ]
    assert names[:3] == ["map_layer0", "map_layer1", "enc.8x8_conv"]
    torch.manual_seed(7)
    net = DhariwalUNet(
        8, 1, 1, model_channels=32, channel_mult=[1, 2], num_blocks=1, attn_resolutions=[]
    )
    torch.manual_seed(7)
    for layer in (net.map_layer0, net.map_layer1):
        assert torch.equal(layer.weight, draw(layer.weight.shape, layer.in_features))
        assert layer.bias is not None and torch.equal(
            layer.bias, draw(layer.bias.shape, layer.in_features)
        )
    first = net.enc["8x8_conv"].weight
    assert isinstance(first, torch.Tensor) and torch.equal(first, draw(first.shape, 9))


def draw(shape: torch.Size, fan_in: int) -> torch.Tensor:
    """kaiming_uniform, times sqrt(1 / 3)."""
    return torch.rand(shape).mul_(2).sub_(1).mul_((3 / fan_in) ** 0.5 * (1 / 3) ** 0.5)
