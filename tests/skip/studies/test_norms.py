"""Strength of the long skips, against closed forms and against what the blocks concatenate."""

from typing import Any

import pytest
import torch
from conftest import fill, golden_json, golden_npz, relative_error
from tiny_network import tiny_network
from torch import Tensor, nn

from skip.scale import SkipScale
from skip.studies.inputs import pure_noise, random_labels
from skip.studies.norms import skip_norms, slice_norms
from skip.tuned import SkipTuned
from training.families.ldm.unet import LDMUNet
from training.networks import SKIP_TARGETS, SkipTarget, UNetBlock

SEEDS = [3, 4, 5]
U_CHANNELS, D_CHANNELS = [32, 32, 32, 16], [32, 16, 16, 16]  # of tiny_network, read off its layout
PLAIN = SkipScale()


class Hand(nn.Module):
    """One block without a long skip, and two whose u and d are known: u = x, d = 3 x and d = -x / 4 on 4 channels."""

    num_skips, img_channels, img_resolution, label_dim = 2, 8, 4, 0

    def __init__(self) -> None:
        super().__init__()
        self.inner = UNetBlock(8, 8, 4)
        self.low, self.high = UNetBlock(16, 8, 4), UNetBlock(12, 8, 4)

    def forward(
        self,
        x: Tensor,
        sigma: Any,
        class_labels: Any,
        skip_scale: Any = None,
        skip_target: Any = "full",
    ) -> Any:
        emb = torch.zeros(1, 4)
        rho = [None, None] if skip_scale is None else skip_scale.unbind(-1)
        self.inner(x, emb)
        self.low(x, emb, 3 * x, rho[0], skip_target)
        return self.high(x, emb, skip=-x[:, :4] / 4, skip_scale=rho[1], skip_target=skip_target)


def inputs() -> tuple[Tensor, float, Tensor | None]:
    return pure_noise((1, 8, 8), SEEDS, 80.0), 80.0, random_labels(SEEDS, 10, (1, 8, 8))


def ratios(scale: SkipScale, target: SkipTarget = "full") -> Tensor:
    return skip_norms(SkipTuned(tiny_network(), scale, target), *inputs())


def test_a_known_ratio() -> None:
    x = torch.ones(2, 8, 4, 4)
    x[1, :4] = 2.0
    x[1, 4:] = 0.0
    expected = torch.tensor([[3, 0.25 * 0.5**0.5], [3, 0.25]], dtype=torch.float64)
    found = skip_norms(Hand(), x, 1.0)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    tuned = skip_norms(SkipTuned(Hand(), SkipScale(layers=(0.5, -0.25))), x, 1.0)
    torch.testing.assert_close(tuned, expected * torch.tensor([0.5, 0.25]), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["cin", "uncond"])
def test_golden_norms_of_ldm(name: str) -> None:
    facts, arrays = golden_json("ldm")["unets"][name]["kwargs"], golden_npz("ldm")
    unused = ("image_size", "use_spatial_transformer")
    net = fill(LDMUNet(**{key: value for key, value in facts.items() if key not in unused})).eval()
    x, t = (torch.from_numpy(arrays[f"{name}/{key}"]) for key in "xt")
    context = torch.from_numpy(arrays[f"{name}/context"]) if f"{name}/context" in arrays else None
    found = skip_norms(net, x, t, context)
    assert relative_error(found.T, arrays[f"{name}/prop_per_sample"]) < 1e-5


def test_rho_of_each_image() -> None:
    scale = SkipScale(0.5, 0.5, window=(1.0, 10.0))
    found = skip_norms(SkipTuned(Hand(), scale), torch.ones(2, 8, 4, 4), torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(
        found[:, 0], torch.tensor([3.0, 1.5], dtype=torch.float64), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("scale", [PLAIN, SkipScale(0.5)])
def test_the_two_parts_of_what_the_blocks_concatenate(scale: SkipScale) -> None:
    net, joined = tiny_network(), []
    for name, block in net.model.dec.items():
        if name in ("4x4_block0", "4x4_block1", "8x8_block0", "8x8_block1"):
            block.norm0.register_forward_pre_hook(lambda module, args: joined.append(args[0]))
    found = skip_norms(SkipTuned(net, scale), *inputs())
    assert len(joined) == 4
    for i, (both, width) in enumerate(zip(joined, U_CHANNELS, strict=True)):
        u, d = both[:, :width].double().flatten(1), both[:, width:].double().flatten(1)
        torch.testing.assert_close(found[:, i], d.norm(dim=1) / u.norm(dim=1), rtol=1e-6, atol=0)


@pytest.mark.parametrize("layer", range(4))
def test_rho_of_one_layer_multiplies_its_ratio(layer: int) -> None:
    layers = tuple(0.75 if i == layer else 1.0 for i in range(4))
    plain, tuned = ratios(PLAIN), ratios(SkipScale(layers=layers))
    assert torch.equal(tuned[:, layer], 0.75 * plain[:, layer])
    # Deeper layers come first and know nothing of it.
    assert torch.equal(tuned[:, :layer], plain[:, :layer])
    assert (tuned[:, layer + 1 :] != plain[:, layer + 1 :]).all()


@pytest.mark.parametrize("target", SKIP_TARGETS)
def test_the_deepest_ratio_is_rho_times_the_plain_one_for_every_target(target: SkipTarget) -> None:
    assert torch.equal(ratios(SkipScale(0.75), target)[:, 0], 0.75 * ratios(PLAIN)[:, 0])


def test_an_image_does_not_depend_on_its_batch() -> None:
    x, sigma, labels = inputs()
    net = SkipTuned(tiny_network(), SkipScale(0.5))
    assert labels is not None
    alone = torch.cat([skip_norms(net, x[i : i + 1], sigma, labels[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(skip_norms(net, x, sigma, labels), alone, rtol=1e-5, atol=0)


def test_slices_of_the_weights() -> None:
    net = tiny_network()
    u, d = slice_norms(SkipTuned(net, SkipScale(0.5)))
    names = ["4x4_block0", "4x4_block1", "8x8_block0", "8x8_block1"]
    for i, (name, width) in enumerate(zip(names, U_CHANNELS, strict=True)):
        weight = net.state_dict()[f"model.dec.{name}.conv0.weight"].double()
        assert weight.shape[1] == width + D_CHANNELS[i]
        assert float(u[i]) == pytest.approx(float((weight[:, :width] ** 2).sum().sqrt()), rel=1e-12)
        assert float(d[i]) == pytest.approx(float((weight[:, width:] ** 2).sum().sqrt()), rel=1e-12)
    assert u.dtype == d.dtype == torch.float64 and u.shape == d.shape == (4,)


def test_half_precision_neither_overflows_nor_hides_the_rounded_rho() -> None:
    net = tiny_network(label_dim=0).set_dtype(torch.float16)
    x = pure_noise((1, 8, 8), SEEDS, 80.0)
    plain = skip_norms(net, x, 80.0)
    tuned = skip_norms(SkipTuned(net, SkipScale(0.8, 0.8)), x, 80.0)
    assert torch.isfinite(plain).all()
    assert torch.equal(tuned[:, 0], float(torch.tensor(0.8).half()) * plain[:, 0])
    with torch.no_grad():
        net.model.dec["4x4_block0"].conv0.weight.fill_(6e4)  # its square is beyond float16
    assert float(slice_norms(net)[0][0]) == pytest.approx(6e4 * (32 * 32 * 9) ** 0.5, rel=1e-12)


def test_the_network_is_left_as_it_was() -> None:
    net = tiny_network()
    skip_norms(net, *inputs())
    slice_norms(net)
    with pytest.raises(ValueError):
        # An error in the middle of the call.
        skip_norms(SkipTuned(net, SkipScale(0.5), "nowhere"), *inputs())
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_refuses_a_network_whose_skips_it_cannot_see() -> None:
    net = Hand()
    net.num_skips = 3
    with pytest.raises(ValueError, match="2 of the network's 3 long skips"):
        skip_norms(net, torch.ones(1, 8, 4, 4), 1.0)
