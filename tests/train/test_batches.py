from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgespec.errors import EdgespecError
from edgespec.train.batches import Batch, Position, ShuffledRows, read_ahead

ROWS = {"input_ids": torch.arange(11)[:, None], "double": 2 * torch.arange(11)}


@given(batch=st.integers(1, 11), begin=st.integers(0, 12), seed=st.integers(0, 5))
def test_rows_go_on_from_any_position(batch: int, begin: int, seed: int) -> None:
    rows = ShuffledRows(ROWS, batch, seed)
    whole = list(itertools.islice(rows.read(), begin + 4))
    rest = itertools.islice(rows.read(whole[begin - 1][1] if begin else None), 4)
    for (one, at), (other, there) in zip(rest, whole[begin:], strict=True):
        assert at == there and all(torch.equal(one[name], other[name]) for name in ROWS)
        assert torch.equal(one["double"], 2 * one["input_ids"][:, 0])


def test_a_pass_sees_each_row_once_and_the_next_another_order() -> None:
    stream = ShuffledRows(ROWS, 11, 0).read()
    passes = [next(stream)[0]["input_ids"].flatten().tolist() for _ in range(3)]
    assert all(sorted(order) == list(range(11)) for order in passes)
    assert len({tuple(order) for order in passes}) == 3


def test_reading_ahead_changes_nothing_and_ends_with_its_reader() -> None:
    rows = ShuffledRows(ROWS, 2, 0)
    stream = read_ahead(rows, 3)
    for (one, at), (other, there) in zip(itertools.islice(stream, 9), rows.read(3), strict=False):
        assert at == there and torch.equal(one["input_ids"], other["input_ids"])
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "edgespec-read-ahead"]


def test_an_error_while_reading_ahead_is_raised_in_its_place() -> None:
    class Breaks:
        def read(self, position: Position = None) -> Iterator[tuple[Batch, Position]]:
            yield {"input_ids": torch.zeros(1, 4)}, 1
            raise EdgespecError("the source is gone")

    stream = read_ahead(Breaks(), None)
    assert next(stream)[1] == 1
    with pytest.raises(EdgespecError, match="the source is gone"):
        next(stream)
