"""Numbers that float32 can compute with."""

import math

import pytest
import torch

from dnnlib.numbers import LEAST, MOST, check_positive


def test_the_ends_have_squares_in_float32_and_beyond_is_refused() -> None:
    for end in (LEAST, MOST):
        check_positive("lr", end)
        assert 0 < float(torch.tensor(end).square()) < math.inf
    for value, words in ((0.0, "positive"), (-1.0, "positive"), (math.nan, "positive"), (1e-320, "float32"),
                         (1e300, "float32"), (math.inf, "float32")):  # fmt: skip
        with pytest.raises(ValueError, match=f"lr is .*{words}"):
            check_positive("lr", value)
