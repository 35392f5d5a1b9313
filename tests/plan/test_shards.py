"""Streamed safetensors files are what the safetensors package reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from edgespec.plan.shards import open_tensor, write_shard


def test_the_package_reads_what_was_streamed(tmp_path: Path) -> None:
    matrix, vector = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32), np.arange(3.0)
    path = tmp_path / "weights.safetensors"
    blocks = [matrix[:4], matrix.T.copy().T[4:]]  # the second is not contiguous
    assert write_shard(path, [("matrix", (7, 5), blocks), ("vector", (3,), [vector])]) == 2 * (35 + 3)
    found = load_file(path)
    assert list(found) == ["matrix", "vector"]
    assert np.array_equal(found["matrix"], matrix.astype(np.float16))
    assert np.array_equal(found["vector"], vector)
    assert np.array_equal(open_tensor(path, "matrix"), found["matrix"])


def test_a_mapped_tensor_can_be_changed_in_place(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    write_shard(path, [("a", (2, 2), [np.zeros((2, 2))]), ("b", (2, 2), [np.ones((2, 2))])])
    rows = open_tensor(path, "b", writable=True)
    rows[1] = 5
    rows.flush()
    assert load_file(path)["b"].tolist() == [[1, 1], [5, 5]] and not load_file(path)["a"].any()


@pytest.mark.parametrize("rows", [1, 3])
def test_blocks_that_do_not_fill_their_shape_are_an_error(tmp_path: Path, rows: int) -> None:
    with pytest.raises(ValueError, match=r"bytes written for the shape \(2, 2\)"):
        write_shard(tmp_path / "weights.safetensors", [("a", (2, 2), [np.zeros((rows, 2))])])
