"""The k largest of a vocabulary-sized row without sorting or partitioning all of it."""

from __future__ import annotations

import numpy as np

_ROWS = 256
"""Height of the blocks whose maxima are taken first. Measured at 151,936 f32: maxima 33 us, argpartition 460 us."""


def top_k(row: np.ndarray, k: int) -> np.ndarray:
    """i64 [min(k, len(row))]: ids of the largest values, best first, the lowest id first among equals.

    The row is read as 256 stacked rows: an element of the top k stands in a column whose maximum is at least the k-th
    largest column maximum, because the k columns above it hold k elements at least as large. Only those columns are
    looked at closely.
    """
    k = min(k, len(row))
    if k <= 0:
        return np.zeros(0, np.int64)
    columns = len(row) // _ROWS
    if 2 * k < columns:
        peaks = row[: _ROWS * columns].reshape(_ROWS, columns).max(axis=0)
        best = np.flatnonzero(peaks >= np.partition(peaks, columns - k)[columns - k])
        ids = (np.arange(_ROWS)[:, None] * columns + best).ravel()
        ids = np.concatenate([ids, np.arange(_ROWS * columns, len(row))])
        values = row[ids]
    else:
        ids, values = np.arange(len(row)), row
    if k < len(values):
        enough = values >= np.partition(values, len(values) - k)[len(values) - k]
        ids, values = ids[enough], values[enough]
    return ids[np.argsort(-values, kind="stable")[:k]].astype(np.int64)
