"""ScaleLong's constants, from the outermost skip inwards."""

import torch

from skip.methods.scalelong import ScaleLong


def test_each_skip_further_in_has_one_more_factor() -> None:
    u, d = torch.randn(2, 3, 4, 4), torch.ones(2, 5, 4, 4)
    for layer, factor in enumerate((0.125, 0.25, 0.5, 1.0)):
        same, scaled = ScaleLong(0.5).join(u, d, layer, (0, 0, 1, 1), torch.tensor(1.0))
        assert same is u and torch.equal(scaled, torch.full_like(d, factor))
    assert ScaleLong(1.0).is_identity and not ScaleLong(0.9).is_identity
