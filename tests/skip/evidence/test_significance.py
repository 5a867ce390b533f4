"""The threshold against scipy's quantiles, and how often chance passes it."""

import numpy as np
import pytest
from scipy.stats import norm, t, ttest_rel

from skip.evidence.estimate import Estimate, difference
from skip.evidence.significance import lies, threshold


@pytest.mark.parametrize("tests", [1, 5, 12])
def test_the_threshold_is_bonferronis_of_students_t(tests: int) -> None:
    assert threshold(tests) == pytest.approx(norm.ppf(1 - 0.025 / tests))
    for blocks in (2, 20, 100):
        assert threshold(tests, blocks) == pytest.approx(t(blocks - 1).ppf(1 - 0.025 / tests))


def test_paired_blocks_are_judged_as_scipy_judges_them() -> None:
    """Student's t of 5 pairs: of 200, those with a one-sided p below 0.025."""
    rng = np.random.default_rng(0)
    seen = 0
    for _ in range(200):
        common = rng.standard_normal(5)
        a, b = common + 0.5 * rng.standard_normal(5) - 0.6, common + 0.5 * rng.standard_normal(5)
        gap = difference(Estimate.of_mean(a), Estimate.of_mean(b))
        p = ttest_rel(a, b, alternative="less").pvalue
        assert lies(gap, 1) == (p < 0.025)
        assert lies(gap, 1, 3) == (p < 0.025 / 3)
        assert not lies(gap, -1)
        seen += lies(gap, 1)
    assert 20 < seen < 180


def test_few_blocks_without_an_effect_pass_as_often_as_the_level_says() -> None:
    """With 4 blocks 1.96 errors would pass 7% on this side alone."""
    values = np.random.default_rng(0).standard_normal([4000, 4])
    passed = sum(lies(Estimate.of_mean(row), 1) for row in values)
    assert 0.018 < passed / 4000 < 0.032


def test_without_an_error_nothing_is_believed() -> None:
    assert not lies(Estimate.plain(-5.0), 1)
    assert lies(Estimate.plain(-5.0, 0.0), 1) and not lies(Estimate.plain(0.0, 0.0), 1)
