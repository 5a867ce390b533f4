"""Inception Score: its two ends, the definition by scipy, the reference vectors."""

import numpy as np
import pytest
from conftest import golden_json, golden_npz
from scipy.special import rel_entr, softmax

from metrics.inception_score import inception_score


def test_sure_and_varied_is_the_number_of_classes_and_unsure_is_1() -> None:
    sure = np.tile(1000.0 * np.eye(10), (20, 1))
    assert inception_score(sure, splits=10) == pytest.approx((10.0, 0.0))
    assert inception_score(np.zeros((200, 10))) == pytest.approx((1.0, 0.0))
    # Sorted by class.
    assert inception_score(np.repeat(1000.0 * np.eye(10), 20, axis=0)) == pytest.approx((1.0, 0.0))
    assert inception_score(np.repeat(1000.0 * np.eye(10), 20, axis=0), shuffle_seed=0)[0] > 5


def test_equals_the_definition() -> None:
    logits = np.random.default_rng(0).standard_normal((103, 7)) * 3
    p = softmax(logits, axis=1)
    scores = [np.exp(rel_entr(q, q.mean(0)).sum(1).mean()) for q in (p[:34], p[34:68], p[68:])]
    assert inception_score(logits, splits=3) == pytest.approx(
        (np.mean(scores), np.std(scores)), rel=1e-12
    )


@pytest.mark.parametrize(
    "name, splits, seed",
    [
        ("is_splits10_noshuffle", 10, None),
        ("is_splits10_shuffle_seed2020", 10, 2020),
        ("is_splits7_noshuffle", 7, None),
        ("is_splits1_noshuffle", 1, None),
    ],
)
def test_equals_the_reference_vectors(name: str, splits: int, seed: int | None) -> None:
    expected = golden_json("metrics")[name]
    mean, std = inception_score(golden_npz("metrics")["logits"], splits, seed)
    assert mean == pytest.approx(expected["inception_score_mean"], rel=1e-9)
    assert std == pytest.approx(expected["inception_score_std"], rel=1e-9, abs=1e-12)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="logits have 5 rows; this needs at least 10"):
        inception_score(np.zeros((5, 3)))
    with pytest.raises(ValueError, match="splits is 0; need at least 1"):
        inception_score(np.zeros((5, 3)), splits=0)
