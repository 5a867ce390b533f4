"""Noise levels alone: whose they are, and what range a solver is told. What is refused: test_settings.py."""

import math

import pytest
import torch

from sampling.levels import SIGMAS, NoiseLevels
from sampling.names import GRIDS


class Network:
    """Knows the noise levels from 0.1 to 50, and two of its own."""

    sigma_min, sigma_max = 0.1, 50.0

    @property
    def sigma_grids(self) -> dict[str, object]:
        return {"ddim": lambda steps: torch.tensor([9.0, 1.0], dtype=torch.float64)[:steps]}

    def round_sigma(self, sigma: float | torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(sigma)


@pytest.mark.parametrize(
    ("levels", "ends", "span"),
    [
        (NoiseLevels(), (50.0, 0.1), (0.1, 50.0)),
        (NoiseLevels("logsnr", steps=3, sigma_min=0.5, sigma_max=99.0), (50.0, 0.5), (0.5, 50.0)),
        (NoiseLevels("20,3"), (20.0, 3.0), None),
        (NoiseLevels("ddim"), (9.0, 1.0), None),
    ],
)
def test_a_grid_has_a_range_and_a_list_has_none(
    levels: NoiseLevels, ends: tuple[float, float], span: tuple[float, float] | None
) -> None:
    nodes = levels.nodes(Network())
    assert (float(nodes[0]), float(nodes[-1])) == pytest.approx(ends, rel=1e-12)
    assert nodes.dtype == torch.float64 and levels.range_in(Network()) == span
    assert levels.is_grid == (levels.grid in GRIDS) == (levels.grid != "20,3")


def test_the_number_of_levels_is_edms_where_none_is_said() -> None:
    assert len(NoiseLevels("ve").nodes(Network())) == 18
    exact = SIGMAS["edm"](4, 0.1, 50.0, 3.0)
    assert torch.equal(NoiseLevels(steps=4, exponent=3.0).nodes(Network()), exact)


def test_an_empty_range_is_refused_when_a_network_is_there() -> None:
    levels = NoiseLevels(sigma_min=60.0)
    for refuses in (levels.nodes, levels.range_in):
        with pytest.raises(ValueError, match="noise levels from 60 to 50: nothing is left"):
            refuses(Network())
    assert math.isclose(float(levels.nodes(Wide())[-1]), 60.0)


class Wide(Network):
    """Knows higher ones too."""

    sigma_max = 100.0
