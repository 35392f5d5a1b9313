"""A stream of batches that can be taken up again anywhere: what the training loop reads.

A position is a small JSON value. `read(position)` is a pure function of it, so a run that is killed goes on from the
position in its checkpoint with exactly the batches it would have seen.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

Batch = Mapping[str, torch.Tensor]
"""Tensors that agree in their first dimension, rows. Always there: `input_ids` i64 [rows, length]. Optional:
`loss_mask` bool [rows, length], true where a token is to be learnt; the rest is the loss function's."""

Position = Any
"""A JSON value; None is the beginning."""


class Batches(Protocol):
    def read(self, position: Position = None) -> Iterator[tuple[Batch, Position]]:
        """Endless (batch, position behind it) pairs, from `position` on."""
        ...


@dataclass(frozen=True)
class ShuffledRows:
    """Rows held in memory, each seen once a pass, in an order of its own for every pass.

    rows: tensors that agree in their first dimension; batch: rows of a batch, at most as many as there are.
    The last rows of a pass that do not fill a batch are left out of it.
    """

    rows: Batch
    batch: int
    seed: int

    def read(self, position: Position = None) -> Iterator[tuple[Batch, Position]]:
        count = len(next(iter(self.rows.values())))
        in_a_pass = count // self.batch
        number = position or 0
        while True:
            epoch, index = divmod(number, in_a_pass)
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            order = torch.randperm(count, generator=generator)
            for start in range(index * self.batch, in_a_pass * self.batch, self.batch):
                number += 1
                chosen = order[start : start + self.batch]
                yield {name: tensor[chosen] for name, tensor in self.rows.items()}, number


def read_ahead(batches: Batches, position: Position, depth: int = 2) -> Generator[tuple[Batch, Position], None, None]:
    """`batches.read(position)`, prepared up to `depth` batches early on a thread; its errors are raised here.

    Close the iterator (or let it be collected) and the thread ends.
    """
    made: queue.Queue[tuple[Batch, Position] | BaseException | None] = queue.Queue(maxsize=depth)
    closed = threading.Event()

    def put(item: tuple[Batch, Position] | BaseException | None) -> bool:
        while not closed.is_set():
            try:
                made.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in batches.read(position):
                if not put(item):
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name="edgespec-read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            item = made.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        closed.set()
        thread.join()
