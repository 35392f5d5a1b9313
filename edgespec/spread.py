"""What a handful of values says: a percentile, and how surely the median is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RESAMPLES = 9999
_AT_ONCE = 4_000_000
"""Values resampled at once: a load test has a value for every answer."""
MEDIAN_FROM = 6
"""A median of fewer values gets no interval: their whole range would not hold it with 95 %."""


def percentile(values: Sequence[float], share: float) -> float:
    return float(np.quantile(np.asarray(values, dtype=float), share))


def interval_of_median(values: Sequence[float], seed: int = 0) -> tuple[float, float] | None:
    """95 % percentile-bootstrap interval of the median; None for fewer than MEDIAN_FROM values."""
    if len(values) < MEDIAN_FROM:
        return None
    data = np.asarray(values, dtype=float)
    draw = np.random.default_rng(seed)
    block = max(1, _AT_ONCE // len(data))
    sizes = [min(block, RESAMPLES - start) for start in range(0, RESAMPLES, block)]
    resampled = np.concatenate(
        [np.median(data[draw.integers(0, len(data), (size, len(data)))], axis=1) for size in sizes]
    )
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(low), float(high)
