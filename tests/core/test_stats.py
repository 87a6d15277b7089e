"""Standard errors and t-quantiles, against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from flashdd.core.stats import standard_error, t_quantile


@pytest.mark.parametrize("degrees", [*range(1, 35), 60, 100, 1000])
def test_t_quantiles_agree_with_scipy(degrees: int) -> None:
    assert t_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), abs=1e-5)


def test_no_quantile_without_freedom() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        t_quantile(0)


@pytest.mark.parametrize("n", [2, 3, 5, 40])
def test_standard_errors_agree_with_scipy(n: int) -> None:
    values = np.random.default_rng(n).uniform(0.4, 0.6, n)
    assert standard_error(values.tolist()) == pytest.approx(stats.sem(values), rel=1e-12)


def test_one_value_has_no_standard_error() -> None:
    with pytest.raises(ValueError, match="at least two"):
        standard_error([0.5])
