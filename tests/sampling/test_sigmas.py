import math
from typing import Any

import pytest
import torch
from conftest import golden_json, golden_npz, relative_error
from torch import Tensor

from sampling.sigmas import SIGMAS, checked, default_range, explicit, with_ending
from sampling.time_axes import LinearTime, VETime, VPTime

FACTS = golden_json("samplers")
EDM_RUNS = {
    e["name"].removeprefix("edm_adm/rho1/"): e
    for e in FACTS["edm"]
    if e["name"].startswith("edm_adm/rho1/")
}
TOLERANCE = 1e-9


def float64(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("name", SIGMAS)
def test_every_grid_falls_from_sigma_max_to_sigma_min(name: str) -> None:
    low, high = default_range(name)
    nodes = SIGMAS[name](9, low, high)
    assert nodes.dtype == torch.float64 and nodes.shape == (9,)
    assert (nodes.diff() < 0).all() and (nodes > 0).all()
    if name != "iddpm":  # whose ends are entries of a table
        assert relative_error(nodes[[0, -1]], float64([high, low])) < 1e-12


@pytest.mark.parametrize("run, name", [("edm_n5", "edm"), ("edm_n10", "edm"), ("ablation0", "vp"),
                                       ("ablation1", "ve"), ("ablation2", "iddpm")])  # fmt: skip
def test_grids_match_the_levels_edm_hands_to_the_network(run: dict[str, Any], name: str) -> None:
    entry = EDM_RUNS[run]
    second_order = entry["nfe"] > entry["kwargs"]["num_steps"]
    expected = float64(entry["sigmas_passed_to_net"][:: 2 if second_order else 1])
    nodes = SIGMAS[name](entry["kwargs"]["num_steps"], *default_range(name))
    assert ((nodes - expected).abs() / expected).max() < TOLERANCE


@pytest.mark.parametrize(
    "entry", [e for e in FACTS["diffsampler"] if "t_steps" in e], ids=lambda e: e["name"]
)
def test_grids_match_diff_sampler(entry: dict[str, Any]) -> None:
    kwargs = entry["kwargs"]
    name = {"polynomial": "edm", "logsnr": "logsnr"}[kwargs["schedule_type"]]
    expected = float64(entry["t_steps"])
    assert (
        (SIGMAS[name](kwargs["num_steps"], 0.002, 80.0) - expected).abs() / expected
    ).max() < TOLERANCE


def test_grids_are_even_in_their_own_coordinate() -> None:
    low, high = 0.01, 50.0
    vp = VPTime.fitted(low, high)

    def even(values: Any) -> Any:
        return bool((values.diff() - values.diff().mean()).abs().max() < 1e-10)

    assert even(SIGMAS["edm"](7, low, high, exponent=3.0) ** (1 / 3))
    assert even(SIGMAS["logsnr"](7, low, high).log())
    assert even((SIGMAS["ve"](7, low, high) ** 2).log())
    assert even(vp.time(SIGMAS["vp"](7, low, high)))
    assert even(vp.time(SIGMAS["time_uniform"](7, low, high, exponent=2.0)).sqrt())


def test_vp_time_matches_the_reference_and_inverts() -> None:
    facts, arrays = golden_json("precond_facts")["vp"], golden_npz("precond_facts")
    vp = VPTime(facts["beta_d"], facts["beta_min"])
    t, sigma = (torch.from_numpy(arrays[key]).double() for key in ("vp_t", "vp_sigma_of_t"))
    assert torch.allclose(vp.sigma(t), sigma, rtol=1e-6)
    assert torch.allclose(vp.time(vp.sigma(t)), t, rtol=1e-9)
    fitted = VPTime.fitted(0.002, 80.0)
    assert torch.allclose(fitted.sigma(float64([1e-3, 1.0])), float64([0.002, 80.0]), rtol=1e-9)


@pytest.mark.parametrize(
    "axis", [LinearTime(), VETime(), VPTime(19.9, 0.1)], ids=lambda a: type(a).__name__
)
def test_slopes_are_the_derivatives(axis: Any) -> None:
    t = float64([0.01, 0.3, 1.0]).requires_grad_()
    axis.sigma(t).sum().backward()
    assert torch.allclose(axis.slope(t.detach()), t.grad, rtol=1e-10)
    assert torch.allclose(axis.time(axis.sigma(t)), t, rtol=1e-10)


def test_the_iddpm_table_has_the_published_ends() -> None:
    expected = torch.from_numpy(golden_npz("precond_facts")["iddpm_u"]).double()
    table = SIGMAS["iddpm"](1000, 0.001, 1e5)
    assert torch.allclose(table[:900], expected[:900], rtol=5e-5)
    # Near 0 its float32 ratios cost digits.
    assert torch.allclose(table, expected[:1000], rtol=1e-3)


@pytest.mark.parametrize("text", ["80,10,1,0.1", "80 10 1 0.1", " 80, 10, 1, 0.1 "])
def test_explicit_lists(text: str) -> None:
    assert torch.equal(explicit(text), float64([80, 10, 1, 0.1]))
    assert torch.equal(explicit([80, 10, 1, 0.1]), float64([80, 10, 1, 0.1]))
    assert torch.equal(explicit("80"), float64([80]))


@pytest.mark.parametrize(
    "bad", ["", "80,10,10", "1,2", "80,0", "80,-1", "inf,1", "nan", "80,nan", "80,x", [3.0, 3.0]]
)
def test_bad_explicit_lists_are_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match="noise levels must be"):
        explicit(bad)


@pytest.mark.parametrize("name", SIGMAS)
@pytest.mark.parametrize("num_steps, low, high, message", [
    (1, 0.002, 80.0, "num_steps must be at least 2, got 1"),
    (0, 0.002, 80.0, "num_steps must be at least 2, got 0"),
    (5, 0.0, 80.0, "got 0.0 and 80.0"),
    (5, 80.0, 0.002, "got 80.0 and 0.002"),
    (5, 0.002, math.inf, "got 0.002 and inf"),
    (5, math.nan, 80.0, "got nan and 80.0"),
])  # fmt: skip
def test_nonsense_ranges_are_refused(
    name: str, num_steps: int, low: float, high: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SIGMAS[name](num_steps, low, high)


def test_nonsense_settings_are_refused() -> None:
    for name in ("edm", "time_uniform"):
        for exponent in (1e-3, 0.1, 1e300):
            with pytest.raises(ValueError, match="leaves no 5 different values"):
                SIGMAS[name](5, 0.002, 80.0, exponent=exponent)
    with pytest.raises(ValueError, match="exponent must be positive, got 0"):
        SIGMAS["edm"](5, 0.002, 80.0, exponent=0)
    with pytest.raises(ValueError, match="epsilon_s must lie between 0 and 1, got 1"):
        SIGMAS["vp"](5, 0.002, 80.0, epsilon_s=1)
    with pytest.raises(ValueError, match=r"has \d+ noise levels within .* too few for 2000"):
        SIGMAS["iddpm"](2000, 0.002, 80.0)
    with pytest.raises(ValueError, match="unknown grid 'karras': choose from edm, logsnr"):
        default_range("karras")


def test_endings() -> None:
    nodes = float64([3, 2, 1])
    assert with_ending(nodes, "zero").tolist() == [3, 2, 1, 0]
    assert (
        with_ending(nodes, "sigma_min").tolist()
        == with_ending(nodes, "denoise").tolist()
        == [3, 2, 1]
    )
    with pytest.raises(
        ValueError, match="unknown ending 'nought': choose from zero, sigma_min, denoise"
    ):
        with_ending(nodes, "nought")


@pytest.mark.parametrize("levels", [[2, 1, 0], [2, 1], [1, 2, 3]])
def test_levels_that_a_solver_can_follow(levels: Any) -> None:
    assert checked(float64(levels)) == levels


@pytest.mark.parametrize(
    "levels", [[1], [[2, 1]], [2, 2], [2, 1, 3], [0, 1], [2, 1, -1], [2, math.nan], [math.inf, 1]]
)
def test_levels_that_no_solver_can_follow(levels: Any) -> None:
    with pytest.raises(ValueError, match="noise levels"):
        checked(float64(levels))


@pytest.mark.parametrize("text", ["80,1e-320", "1e300,1", "1e30"])
def test_levels_that_float32_cannot_square_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="float32 can compute with 1e-18 to 1e"):
        explicit(text)
    with pytest.raises(ValueError, match="float32 can compute"):
        SIGMAS["edm"](4, 1e-30, 80.0)
