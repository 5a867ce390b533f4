"""torch-fidelity as a judge, on features it has not seen before; its stored values are in the other files.

It asks for torchvision, which only its data sets and other networks use, so it is not in the `dev` extra:

    pip install --no-deps torch-fidelity==0.4.0
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch

from metrics.frechet import statistics_distance
from metrics.inception_score import inception_score
from metrics.kernel import kid
from metrics.precision_recall import precision_recall
from metrics.statistics import FeatureStatistics, Statistics
from metrics.stored_features import StoredFeatures

ABSENT = (
    "torchvision",
    "torchvision.datasets",
    "torchvision.transforms",
    "torchvision.transforms.functional",
)


@pytest.fixture(scope="module")
def metric() -> dict[str, ModuleType]:
    """Its modules by metric, imported with a stand-in for torchvision where that is missing."""
    with pytest.MonkeyPatch.context() as patch:
        try:
            importlib.import_module("torchvision")
        except (ImportError, RuntimeError):  # RuntimeError: made for another torch
            for name in ABSENT:
                patch.setitem(sys.modules, name, MagicMock())
        pytest.importorskip("torch_fidelity", reason="pip install --no-deps torch-fidelity==0.4.0")
        return {
            name: importlib.import_module(f"torch_fidelity.metric_{name}")
            for name in ("fid", "isc", "kid", "prc")
        }


def samples() -> tuple[torch.Tensor, torch.Tensor]:
    """Two samples of skewed, correlated, float64 features."""
    rng = np.random.default_rng(3)
    mix = rng.standard_normal((24, 24))
    generated, real = (
        np.abs(rng.standard_normal((n, 24)) @ mix + shift) for n, shift in ((300, 0.5), (350, 0.0))
    )
    return torch.from_numpy(generated), torch.from_numpy(real)


def statistics(features: torch.Tensor) -> Statistics:
    """Mean and covariance of all rows."""
    gathered = FeatureStatistics(features.shape[1], "cpu")
    gathered.update(features)
    return gathered.result()


def test_frechet_distance(metric: dict[str, ModuleType]) -> None:
    both = samples()
    judge = metric["fid"].fid_statistics_to_metric(
        *(metric["fid"].fid_features_to_statistics(x) for x in both), False
    )
    ours = statistics_distance(*(statistics(x) for x in both))
    assert ours == pytest.approx(judge["frechet_inception_distance"], rel=1e-9)


def test_inception_score(metric: dict[str, ModuleType]) -> None:
    judge = metric["isc"].isc_features_to_metric(samples()[0], splits=7, shuffle=True, rng_seed=11)
    expected = judge["inception_score_mean"], judge["inception_score_std"]
    assert inception_score(samples()[0], splits=7, shuffle_seed=11) == pytest.approx(
        expected, rel=1e-9
    )


def test_kid(metric: dict[str, ModuleType]) -> None:
    judge = metric["kid"].kid_features_to_metric(
        *samples(), kid_subsets=9, kid_subset_size=120, rng_seed=5, verbose=False
    )
    expected = judge["kernel_inception_distance_mean"], judge["kernel_inception_distance_std"]
    assert kid(*samples(), subsets=9, subset_size=120, seed=5) == pytest.approx(expected, rel=1e-9)


def test_precision_recall(metric: dict[str, ModuleType]) -> None:
    generated, real = samples()
    judge = metric["prc"].prc_features_to_metric(generated, real, prc_neighborhood=4, verbose=False)
    expected = judge["precision"], judge["recall"]
    # It averages in float32.
    assert precision_recall(real, generated, k=4) == pytest.approx(expected, rel=1e-6)


def test_its_cache_is_read(metric: dict[str, ModuleType], tmp_path: Path) -> None:
    """Statistics and features, as its own functions write them."""
    features = samples()[0].float()
    utils = importlib.import_module("torch_fidelity.utils")
    asked = {"cache": True, "cache_root": str(tmp_path), "verbose": False}
    utils.cache_lookup_group_recompute_all_on_any_miss(
        "set-features-", ["24"], lambda: {"24": features}, **asked
    )
    made = utils.cache_lookup_one_recompute_on_miss(
        "set-stat-fid-24", lambda: metric["fid"].fid_features_to_statistics(features), **asked
    )
    kept = StoredFeatures(tmp_path / "set-features-24.pt")
    assert torch.equal(kept.features, features)
    for found in (Statistics.load(tmp_path / "set-stat-fid-24.pt"), kept.statistics()):
        # It averages in float32.
        assert found.mean == pytest.approx(made["mu"], rel=1e-5)
        assert found.cov == pytest.approx(made["sigma"], rel=1e-5)
