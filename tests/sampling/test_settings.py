"""Settings: what they resolve to, what they refuse, how many evaluations they take."""

import inspect
import json
import math
from typing import Any

import pytest
import torch
from tiny_network import tiny_network

from sampling.samplers import SAMPLERS, SOLVERS
from sampling.settings import SamplerSettings
from sampling.sigmas import SIGMAS, default_range
from training.precond import VPPrecond, iDDPMPrecond


class Network:
    """Knows every noise level within its range."""

    def __init__(self, sigma_min: float = 0.0, sigma_max: float = math.inf) -> None:
        self.sigma_min, self.sigma_max = sigma_min, sigma_max

    def round_sigma(self, sigma: float | torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(sigma)


NET = Network()


def test_the_default_is_edms_sampler() -> None:
    record = SamplerSettings().resolved(NET)
    assert record.pop("sigmas") == [*SIGMAS["edm"](18, 0.002, 80.0, 7.0).tolist(), 0.0]
    assert record == {
        "sampler": "heun", "S_churn": 0, "S_min": 0, "S_max": "inf", "S_noise": 1,
        "grid": "edm", "steps": 18, "ending": "zero", "nfe": 35,
    }  # fmt: skip


@pytest.mark.parametrize("sampler", SOLVERS)
def test_every_record_is_json_and_holds_every_setting(sampler: str) -> None:
    record = SamplerSettings(sampler=sampler, steps=6).resolved(NET)
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert list(record)[: 1 + len(SOLVERS[sampler].names)] == ["sampler", *SOLVERS[sampler].names]


@pytest.mark.parametrize("sampler", SOLVERS)
def test_a_solver_called_alone_does_what_its_record_says(sampler: str) -> None:
    """Its function has the defaults of its settings, and no argument that is neither a setting nor needed."""
    solver, parameters = SOLVERS[sampler], inspect.signature(SOLVERS[sampler].function).parameters
    defaults = {name: parameters[name].default for name in solver.names}
    assert defaults == vars(solver.settings())
    unknown = set(parameters) - {*solver.names, *solver.needs, "denoise", "x", "sigmas"}
    assert unknown == ({"epsilon_s"} if sampler == "ablation" else set())


@pytest.mark.parametrize("sampler", SOLVERS)
def test_every_setting_of_a_solver_can_be_given(sampler: str) -> None:
    solver = SOLVERS[sampler]
    given = vars(solver.settings())
    assert SamplerSettings(sampler, **given).of_solver == solver.settings()
    assert SamplerSettings(sampler).of_solver == solver.settings()


@pytest.mark.parametrize(
    "settings, nfe",
    [
        ({"sampler": "heun", "steps": 10}, 19),
        ({"sampler": "heun", "steps": 10, "S_churn": 20.0}, 19),
        ({"sampler": "heun", "steps": 10, "ending": "sigma_min"}, 18),
        ({"sampler": "heun", "steps": 10, "ending": "denoise"}, 19),
        ({"sampler": "dpm_2", "steps": 10}, 19),
        ({"sampler": "euler", "steps": 10}, 10),
        ({"sampler": "unipc", "steps": 9}, 9),
        ({"sampler": "unipc", "steps": 9, "ending": "sigma_min"}, 8),
        ({"sampler": "dpmpp", "steps": 9, "thresholding": True}, 9),
        ({"sampler": "ipndm", "steps": 9}, 9),
        ({"sampler": "ipndm_v", "steps": 9}, 9),
        ({"sampler": "dpm_singlestep", "steps": 9}, 9),
        ({"sampler": "dpm_singlestep", "steps": 51, "ending": "sigma_min"}, 50),
        ({"sampler": "deis", "steps": 9, "ending": "denoise"}, 9),
        ({"sampler": "euler_a", "steps": 9}, 9),
        ({"sampler": "dpmpp_sde", "steps": 9}, 17),
        ({"sampler": "dpmpp_sde", "steps": 9, "ending": "sigma_min"}, 16),
        ({"sampler": "dpmpp_m_sde", "steps": 9, "order": 3}, 9),
        ({"sampler": "sa_solver", "steps": 9, "tau": 0.5}, 9),
        ({"sampler": "sa_solver", "steps": 9, "ending": "denoise", "corrector_order": 0}, 9),
        ({"sampler": "ablation", "steps": 9, "solver": "euler"}, 9),
        ({"sampler": "ablation", "steps": 9, "schedule": "vp", "scaling": "vp"}, 17),
        ({"sigmas": "80"}, 1),
    ],
)
def test_evaluations_are_counted(settings: dict[str, Any], nfe: int) -> None:
    assert SamplerSettings(**settings).nfe(NET) == nfe
    assert SamplerSettings(**settings).resolved(NET)["nfe"] == nfe


@pytest.mark.parametrize("grid", SIGMAS)
def test_a_grid_has_its_own_range_cut_to_the_networks(grid: str) -> None:
    low, high = default_range(grid)
    assert torch.equal(SamplerSettings(sigmas=grid, steps=5).nodes(NET), SIGMAS[grid](5, low, high))
    given = SamplerSettings(sigmas=grid, steps=5, sigma_min=0.01, sigma_max=30.0)
    assert torch.equal(given.nodes(NET), SIGMAS[grid](5, 0.01, 30.0))
    assert torch.equal(given.nodes(Network(0.05, 20.0)), SIGMAS[grid](5, 0.05, 20.0))


def test_grids_by_default_are_those_a_solver_was_published_with() -> None:
    grids = {sampler: SamplerSettings(sampler).grid for sampler in SOLVERS}
    assert set(grids.values()) == {"edm", "logsnr"}
    assert {sampler for sampler in SOLVERS if grids[sampler] == "logsnr"} == {
        "unipc",
        "dpmpp",
        "dpm_singlestep",
        "sa_solver",
    }


def test_listed_levels_are_taken_as_they_are() -> None:
    record = SamplerSettings(sigmas="80, 10,1").resolved(NET)
    assert (record["grid"], record["steps"], record["sigmas"]) == (
        "listed",
        3,
        [80.0, 10.0, 1.0, 0.0],
    )
    assert record == SamplerSettings(sigmas="80,10,1.0", steps=3).resolved(NET)


def test_the_exponent_reaches_the_grid() -> None:
    assert torch.equal(
        SamplerSettings(exponent=3.0, steps=4).nodes(NET), SIGMAS["edm"](4, 0.002, 80.0, 3.0)
    )
    quadratic = SamplerSettings(sigmas="time_uniform", exponent=2.0, steps=4).nodes(NET)
    assert torch.equal(quadratic, SIGMAS["time_uniform"](4, 0.002, 80.0, 2.0))


def test_levels_are_rounded_to_the_networks_own() -> None:
    net = tiny_network(kind=iDDPMPrecond)
    nodes = SamplerSettings(steps=6).nodes(net)
    assert torch.isin(nodes.float(), net.u).all() and nodes.dtype == torch.float64
    with pytest.raises(
        ValueError, match="900 steps are more than the network has noise levels for"
    ):
        SamplerSettings(steps=900).nodes(net)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"steps": 1}, "steps is 1, but a grid has 2 noise levels or more"),
        ({"sampler": "rk4"}, "unknown sampler 'rk4'; choose from euler, heun"),
        (
            {"order": 3},
            "order=3 is given, but the sampler heun has no such setting; it belongs to unipc, dpmpp, dpm_singlestep",
        ),
        ({"sampler": "euler", "S_churn": 0.0}, "belongs to heun, ablation"),
        ({"solver": "euler"}, "belongs to ablation"),
        ({"sampler": "dpmpp", "exact": False}, "belongs to unipc, ipndm_v, deis, sa_solver"),
        ({"eta": 0.5}, "belongs to euler_a, dpmpp_sde, dpmpp_m_sde"),
        ({"sampler": "euler_a", "tau": 0.5}, "belongs to sa_solver"),
        ({"sampler": "sa_solver", "S_churn": 1.0}, "belongs to heun, ablation"),
        ({"sampler": "euler_a", "eta": math.inf}, "eta is inf"),
        ({"S_noise": math.nan}, "S_noise is nan"),
        ({"S_noise": math.inf}, "S_noise is inf"),
        ({"S_max": math.nan}, "S_max is nan"),
        ({"S_churn": math.inf}, "S_churn is inf"),
        ({"sigmas": "lognsr"}, "'lognsr'; or name a grid: edm, logsnr, vp"),
        ({"sigmas": ""}, "or name a grid"),
        ({"sigmas": "1,80"}, "strictly decreasing"),
        ({"sigmas": "80,1", "steps": 3}, "steps is 3, but 2 noise levels are listed"),
        (
            {"sigmas": "80,1", "sigma_max": 80.0},
            "sigma_max is given, but the noise levels are listed",
        ),
        ({"sigmas": "80,1", "exponent": 7.0}, "exponent is given, but the noise levels are listed"),
        ({"sigmas": "vp", "exponent": 7.0}, "exponent 7 .* but the vp grid has none"),
        ({"sampler": "unipc", "exponent": 7.0}, "the logsnr grid has none"),
        ({"ending": "nowhere"}, "unknown ending 'nowhere'"),
    ],
)
def test_contradictions_are_refused_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplerSettings(**settings)


@pytest.mark.parametrize(
    "settings, net, message",
    [
        ({"sampler": "unipc", "steps": 2}, NET, "unipc of order 3 needs at least 3 steps, got 2"),
        ({"sampler": "unipc", "order": 4}, NET, "unipc has orders 1 to 3, got 4"),
        ({"sampler": "unipc", "variant": "tab"}, NET, "unknown UniPC variant 'tab'"),
        ({"sampler": "ablation", "schedule": "ddpm"}, NET, "unknown schedule 'ddpm'"),
        ({"S_churn": -1.0}, NET, "S_churn must be 0 or more"),
        ({"exponent": math.nan}, NET, "exponent must be positive"),
        ({"sigma_min": math.nan}, NET, "nothing is left of the range"),
        ({"sigma_max": math.inf}, NET, "got 0.002 and inf"),
        ({"sigma_min": 90.0}, NET, "noise levels from 90 to 80"),
        (
            {"sigmas": "vp", "sigma_min": 0.5, "sigma_max": 20.0},
            NET,
            "the vp grid does not fall from 20 to 0.5; lower",
        ),
        (
            {},
            Network(100.0, 200.0),
            "nothing is left of the range within the network's own, 100 to 200",
        ),
        (
            {"sigmas": "80,1"},
            Network(0.0, 50.0),
            "from 80 to 1 are listed, but the network knows .* 0 and 50",
        ),
        ({"sigmas": "80,1"}, Network(2.0, 90.0), "between 2 and 90"),
        ({"sigmas": "80", "ending": "sigma_min"}, NET, "at least two noise levels"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_evaluation(
    settings: dict[str, Any], net: Network, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SamplerSettings(**settings).resolved(net)


def test_settings_reach_the_solver() -> None:
    net = tiny_network(kind=VPPrecond)
    churn = SamplerSettings(S_churn=4.0, S_min=0.1, S_noise=1.1).bound(net, torch.zeros_like)
    assert churn.func is SAMPLERS["heun"]  # type: ignore[attr-defined]
    assert churn.keywords == {  # type: ignore[attr-defined]
        "S_churn": 4.0, "S_min": 0.1, "S_max": math.inf, "S_noise": 1.1,
        "randn_like": torch.zeros_like, "round_sigma": net.round_sigma,
    }  # fmt: skip
    vp = SamplerSettings(sampler="ablation", schedule="vp", sigma_max=1000.0).bound(
        net, torch.zeros_like
    )
    assert vp.keywords["sigma_range"] == (0.002, net.sigma_max)  # type: ignore[attr-defined]
    unipc = SamplerSettings(sampler="unipc", order=2, exact=True, lower_order_final=False).bound(
        net, torch.zeros_like
    )
    assert unipc.keywords == {  # type: ignore[attr-defined]
        "order": 2, "variant": "bh1", "predict": "x0", "exact": True, "lower_order_final": False,
        "thresholding": False,
    }  # fmt: skip


class Table:
    """A network with a table of times."""

    sigma_min, sigma_max = 0.1, 10.0
    sigma_grids = {"ddim": lambda steps: torch.linspace(9, 1, steps, dtype=torch.float64)}  # noqa: RUF012

    def round_sigma(self, sigma: float | torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(sigma)


def test_grids_of_the_network_itself() -> None:
    settings = SamplerSettings("euler", steps=5, sigmas="ddim")
    assert settings.nodes(Table()).tolist() == [9, 7, 5, 3, 1]
    resolved = settings.resolved(Table())
    assert resolved["grid"] == "ddim" and resolved["nfe"] == 5 and resolved["sigmas"][-1] == 0
    with pytest.raises(
        ValueError, match="the timesteps grid belongs to networks with a table of times"
    ):
        SamplerSettings(sigmas="timesteps").nodes(Table())
    with pytest.raises(ValueError, match="drop sigma_min and sigma_max"):
        SamplerSettings(sigmas="ddim", sigma_max=5.0)


def test_two_levels_that_round_to_one_are_answered_with_the_networks_own_grids() -> None:
    class Whole(Table):
        def round_sigma(self, sigma: float | torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(sigma).round()

    with pytest.raises(ValueError, match=r"6 steps are more than .*; use fewer steps or ddim$"):
        SamplerSettings(sigmas="logsnr", steps=6).nodes(Whole())


def test_absurd_numbers_of_steps_are_refused_at_once() -> None:
    SamplerSettings(steps=10_000)
    for steps in (10_001, 10**7, 10**30):
        with pytest.raises(ValueError, match=f"steps is {steps}; at most 10,000"):
            SamplerSettings(steps=steps)
