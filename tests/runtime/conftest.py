"""A pipeline over the tiny pair, and one that chats: compiled once a session."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from gating import Gate

from edgespec import SpecPipeline
from edgespec.runtime.answering import Answering
from edgespec.settings import EXACT


@pytest.fixture(scope="session")
def pipeline(tiny_pair: Path) -> Iterator[SpecPipeline]:
    """Exact settings, so that every mode gives the same greedy answer."""
    with SpecPipeline(tiny_pair, device="CPU", settings=EXACT) as opened:
        yield opened


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    held, take, steps = Gate(), Answering._take, dict[int, int]()

    def take_and_hold(self: Answering, tokens: Sequence[int], flags: Sequence[bool]) -> None:
        take(self, tokens, flags)
        steps[id(self)] = steps.get(id(self), 0) + 1
        if steps[id(self)] == held.step and not held.opened.is_set():
            held.hold(self)

    monkeypatch.setattr(Answering, "_take", take_and_hold)
    yield held
    held.opened.set()
