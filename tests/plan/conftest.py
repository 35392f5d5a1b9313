"""Twins for the whole suite: targets of known behaviour, made once, with every alpha of ALPHAS in one pair.

`twins(precision)` opens the pair whose target is int4 or fp16. The draft serves all alphas: where an answer begins
decides which holds (walks.py). Nothing is written into them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgespec.export import export_pair
from edgespec.pair import Pair
from edgespec.plan import Makers, Store, TwinSpec, Walks, llama_shape
from edgespec.quantize import quantize_pair

VOCAB = 16_000
TARGET = llama_shape(2, 128, vocab=VOCAB, tied=False)
DRAFT = llama_shape(1, 128, vocab=VOCAB, tied=True)
MAKERS = Makers(export=export_pair, quantize=quantize_pair)


@pytest.fixture(scope="session")
def twin_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("twins") / "store")


@pytest.fixture(scope="session")
def twins(twin_store: Store) -> Callable[[str], Pair]:
    def made(precision: str) -> Pair:
        target = TwinSpec("target", "2x128", TARGET, VOCAB, precision)
        draft = TwinSpec("draft", "1x128", DRAFT, VOCAB, "int8")
        return twin_store.pair(twin_store.get(target, MAKERS), twin_store.get(draft, MAKERS))

    return made


@pytest.fixture(scope="session")
def twin_walks() -> Walks:
    return Walks(VOCAB)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"
