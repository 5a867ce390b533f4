"""SkipScale against the paper's formula, written out."""

import pytest
import torch
from conftest import fill, relative_error

from skip.scale import SkipScale
from skip.tuned import SkipTuned
from training.precond import EDMPrecond


def test_paper_spacing_never_reaches_the_top() -> None:
    rho = SkipScale(bottom=0.68, top=1.0)(16, 1.0)
    assert rho.dtype == torch.float32
    assert rho.tolist() == pytest.approx([0.68 + 0.32 / 16 * i for i in range(16)])


def test_other_spacings() -> None:
    assert SkipScale(0.5, 1.0, "one-based")(4, 1.0).tolist() == pytest.approx(
        [0.625, 0.75, 0.875, 1.0]
    )
    assert SkipScale(0.4, 1.0, "inclusive")(4, 1.0).tolist() == pytest.approx([0.4, 0.6, 0.8, 1.0])
    assert SkipScale(0.4, 1.0, "inclusive")(1, 1.0).tolist() == pytest.approx([0.4])


def test_constant_rho_has_equal_ends() -> None:
    assert SkipScale(0.78, 0.78)(5, 3.0).tolist() == pytest.approx([0.78] * 5)


def test_explicit_layers() -> None:
    assert SkipScale(layers=(0.5, 1.5, 0.0))(3, 1.0).tolist() == [0.5, 1.5, 0.0]
    with pytest.raises(ValueError, match=r"3 skip coefficients given; this network has 4"):
        SkipScale(layers=(0.5, 1.5, 0.0))(4, 1.0)


@pytest.mark.parametrize(
    ("time", "clean", "noisy"), [("increasing", 0.6, 1.0), ("decreasing", 1.0, 0.6)]
)
@pytest.mark.parametrize("axis", ["edm", "sigma", "log-sigma"])
def test_time_order_ends(time: str, clean: float, noisy: float, axis: str) -> None:
    scale = SkipScale(0.6, 0.6, time=time, axis=axis)  # type: ignore[arg-type]
    assert scale(2, 0.002).tolist() == pytest.approx([clean] * 2)
    assert scale(2, 80.0).tolist() == pytest.approx([noisy] * 2)
    assert scale(2, 1000.0).tolist() == pytest.approx([noisy] * 2)
    assert scale(2, 1e-5).tolist() == pytest.approx([clean] * 2)


@pytest.mark.parametrize(
    ("axis", "middle"),
    [("edm", ((0.002 ** (1 / 7) + 80 ** (1 / 7)) / 2) ** 7), ("sigma", 40.001), ("log-sigma", 0.4)],
)
def test_time_axis_middle(axis: str, middle: float) -> None:
    assert SkipScale(0.6, 0.6, time="increasing", axis=axis)(1, middle).item() == pytest.approx(0.8)  # type: ignore[arg-type]


@pytest.mark.parametrize("time, expected", [("increasing", 0.7), ("decreasing", 0.9)])
def test_the_networks_own_time(time: str, expected: float) -> None:
    scale = SkipScale(0.6, 0.6, time=time, axis="time")  # type: ignore[arg-type]
    quarter = torch.tensor(0.25, dtype=torch.float64)
    assert scale(2, 5.0, quarter).tolist() == pytest.approx([expected] * 2)

    ends = torch.tensor([-1.0, 0.0, 1.0, 2.0])  # clamped, as noise levels beyond the ends are
    low, high = (0.6, 1.0) if time == "increasing" else (1.0, 0.6)
    found = scale(2, torch.full([4], 5.0), ends)
    assert found.tolist() == [pytest.approx([rho] * 2) for rho in (low, low, high, high)]

    of_methods = (1 - (expected - 0.6) / 0.4) * torch.ones(3)
    assert torch.allclose(scale.strength(torch.ones(3), quarter.expand(3)), of_methods)
    assert scale.resolved(1) == {"rho": [0.6], "time": time, "axis": "time"}
    with pytest.raises(ValueError, match="axis time is of the network's own time"):
        scale(2, 5.0)


def test_the_time_is_needed_only_where_rho_depends_on_it() -> None:
    assert SkipScale(0.6, time="increasing", axis="time").needs_time
    assert SkipScale(time="increasing", axis="time")(2, 5.0).tolist() == [1, 1]
    for scale in (SkipScale(0.6, axis="time"), SkipScale(0.6, time="increasing")):
        assert not scale.needs_time and scale(2, 5.0).shape == (2,)


def test_an_end_of_a_window_is_itself_in_either_precision() -> None:
    for end in (0.1, 0.7):
        inside, above = (SkipScale(0.5, 0.5, window=ends) for ends in ((0.01, end), (end, 80.0)))
        for dtype in (torch.float32, torch.float64):
            level = torch.tensor(end, dtype=dtype)
            assert inside(2, level).tolist() == [0.5, 0.5] and above(2, level).tolist() == [1, 1]
            assert inside.strength(level) == 1 and above.strength(level) == 0


def test_window() -> None:
    scale = SkipScale(0.5, 0.5, window=(0.1, 2.0))
    rho = scale(3, torch.tensor([0.05, 0.1, 0.11, 2.0, 2.1], dtype=torch.float64))
    assert rho.shape == (5, 3)
    assert rho[:, 0].tolist() == [1.0, 1.0, 0.5, 0.5, 1.0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bottom": float("nan")}, "nan"),
        ({"spacing": "linear"}, "paper, one-based, inclusive"),
        ({"time": "rising"}, "constant, increasing, decreasing"),
        ({"axis": "t"}, "edm, sigma, log-sigma, time"),
        ({"axis": "time", "sigma_max": 14.6}, "0.002 to 14.6 does nothing with axis time"),
        ({"window": (2.0, 1.0)}, "2.0 to 1.0"),
        ({"layers": ()}, "empty"),
        ({"layers": (0.5,), "bottom": 0.5}, "not both"),
        ({"sigma_min": 0.0}, "0.0 to 80.0"),
    ],
)
def test_nonsense_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SkipScale(**settings)  # type: ignore[arg-type]


@torch.inference_mode()
def test_skip_tuned_network() -> None:
    kwargs = {
        "model_type": "DhariwalUNet",
        "model_channels": 16,
        "channel_mult": [1, 4],
        "num_blocks": 1,
    }
    net = fill(EDMPrecond(8, 3, **kwargs, attn_resolutions=[])).eval()
    x, sigma = torch.randn(2, 3, 8, 8), torch.tensor([0.5, 5.0])
    tuned = SkipTuned(net, SkipScale(0.7, 1.0, time="decreasing"))
    rho = tuned.scale(4, sigma)
    assert torch.equal(tuned(x, sigma), net(x, sigma, skip_scale=rho))
    assert relative_error(tuned(x, sigma), net(x, sigma)) > 1e-3
    assert torch.equal(tuned(x, sigma.reshape(2, 1, 1, 1)), tuned(x, sigma))
    assert torch.equal(tuned(x, torch.tensor([5.0])), tuned(x, 5.0))
    assert tuned.img_resolution == 8
    assert torch.equal(SkipTuned(net, SkipScale())(x, sigma), net(x, sigma))
    with pytest.raises(ValueError, match="4 long skips"):
        SkipTuned(net, SkipScale(layers=(1.0,)))
