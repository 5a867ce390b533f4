"""What is accepted as features, and what is said of the rest."""

import numpy as np
import pytest
import torch

from metrics.features import as_features, as_pair


def test_numpy_and_torch_are_the_same_features() -> None:
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    values.setflags(write=False)  # torch would warn
    for given in (values, torch.from_numpy(values.copy()), values.astype(np.int64)):
        assert torch.equal(as_features(given), torch.arange(6, dtype=torch.float64).view(3, 2))


@pytest.mark.parametrize(
    "dtype, kept",
    [(torch.float32, torch.float32), (torch.float16, torch.float64), (torch.int64, torch.float64)],
)
def test_dtype_none_keeps_what_metrics_can_use(dtype: torch.dtype, kept: torch.dtype) -> None:
    assert as_features(torch.ones(2, 2, dtype=dtype), dtype=None).dtype == kept


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_damaged_features_are_named(value: float) -> None:
    features = np.zeros((5, 3))
    features[3, 1] = value
    with pytest.raises(ValueError, match=r"^real features hold NaN or infinity, first in row 3;"):
        as_features(features, "real features")


def test_shapes_and_counts_are_checked() -> None:
    with pytest.raises(ValueError, match=r"^features have shape \[4\]; need \[N, d\]"):
        as_features(np.zeros(4))
    with pytest.raises(ValueError, match=r"^logits have 4 rows; this needs at least 10$"):
        as_features(np.zeros((4, 2)), "logits", at_least=10)
    with pytest.raises(
        ValueError, match=r"^x have 2 dimensions and y 3; use the same detector for both$"
    ):
        as_pair(np.zeros((4, 2)), np.zeros((4, 3)), ("x", "y"))
