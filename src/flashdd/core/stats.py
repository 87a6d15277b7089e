"""What a few values say of their mean: its standard error, and the t-quantile of its interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

# 97.5 % quantiles of Student's t for 1..30 degrees of freedom (Abramowitz and Stegun, table 26.10).
_T_975 = (
    *(12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157, 2.228139),
    *(2.200985, 2.178813, 2.160369, 2.144787, 2.13145, 2.119905, 2.109816, 2.100922, 2.093024, 2.085963),
    *(2.079614, 2.073873, 2.068658, 2.063899, 2.059539, 2.055529, 2.051831, 2.048407, 2.04523, 2.042272),
)


def t_quantile(degrees: int) -> float:
    """97.5 % quantile of Student's t with `degrees` >= 1 of freedom, to 1e-5.

    Above 30 degrees: the expansion in 1/degrees of Abramowitz and Stegun, 26.7.5, three terms.
    """
    if degrees < 1:
        raise ValueError(f"{degrees} degrees of freedom: a t-interval needs at least 1, that is two values.")
    if degrees <= len(_T_975):
        return _T_975[degrees - 1]
    z = statistics.NormalDist().inv_cdf(0.975)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / float(degrees) ** power for power, term in enumerate(terms, start=1))


def standard_error(values: Sequence[float]) -> float:
    """Of the mean of `values`, at least two (ddof 1). Raises ValueError for fewer."""
    return statistics.stdev(values) / math.sqrt(len(values))
