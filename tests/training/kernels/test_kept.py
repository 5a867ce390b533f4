"""What layers keep of their weights in inference: it follows the weights, and copies begin without it."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from conftest import relative_error

from training.blocks.layers import Conv2d
from training.kernels import choose, onednn, winograd


@pytest.fixture(autouse=True)
def usual_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """From which on a layer is large, whatever --kernels says."""
    monkeypatch.setattr(choose, "forced", None)


SIDES = {"packed": 8, "winograd": 32}  # of the images that a layer of 128 channels treats so


def layer() -> Conv2d:
    return Conv2d(128, 128, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def images(side: int) -> torch.Tensor:
    return torch.randn(2, 128, side, side).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("side", SIDES.values(), ids=SIDES)
def test_new_weights_are_noticed(side: int) -> None:
    net, x = layer(), images(side)
    assert net.weight is not None and net.bias is not None

    def check() -> None:
        with torch.inference_mode():
            assert relative_error(net(x), F.conv2d(x, net.weight, net.bias, padding=1)) < 1e-4

    check()
    net.load_state_dict({"weight": torch.randn(128, 128, 3, 3), "bias": torch.randn(128)})
    check()
    with torch.inference_mode():
        net.weight.mul_(2)
    check()
    net.weight.data = torch.randn(128, 128, 3, 3).to(memory_format=torch.channels_last)
    check()


@torch.inference_mode()
def test_each_dtype_has_its_own() -> None:
    net, x = layer(), images(8)
    for dtype in (torch.float32, torch.bfloat16, torch.float32):
        assert net(x.to(dtype)).dtype == dtype
    assert relative_error(net(x.bfloat16()).float(), net(x)) < 2e-2


@pytest.mark.parametrize("side", SIDES.values(), ids=SIDES)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
@torch.no_grad()
def test_copies_work_on_their_own(side: int, copied: object) -> None:
    net, x = layer(), images(side)
    expected = net(x)
    twin = copied(net)  # type: ignore[operator]
    twin.weight.zero_(), twin.bias.zero_()
    assert not twin(x).any()
    assert torch.equal(net(x), expected)


def test_what_is_kept_is_what_the_layer_is_computed_with() -> None:
    net, x = layer(), images(8)
    plain = net(x)
    assert plain.requires_grad
    with torch.inference_mode():
        assert relative_error(net(x), plain.detach()) < 1e-5


@pytest.mark.parametrize("side", SIDES.values(), ids=SIDES)
@torch.no_grad()
def test_a_weight_is_prepared_once(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for module, name in ((winograd, "transform"), (onednn, "packed_kernel")):
        own = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *given, own=own, **more: made.append(1) or own(*given, **more)
        )
    net, x = layer(), images(side)
    net(x)
    first = len(made)
    net(x)
    assert len(made) == first
    if side == SIDES["winograd"] or onednn.computes(torch.float32):
        assert first >= 1
