"""Live servers: one over the bundled pair as a user has it, one over a tiny pair that chats."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from scripted_server import Live, live

from edgespec.serve import InTurn, Limits, Served


@pytest.fixture(autouse=True)
def patient() -> Iterator[None]:
    """httpx waits five seconds where a call does not say, which a crowded machine takes: here a limit bounds a hang."""
    default = inspect.signature(httpx.post).parameters["timeout"].default  # the one object behind all its functions
    before = default.as_dict()
    vars(default).update(dict.fromkeys(before, 120.0))
    yield
    vars(default).update(before)


@pytest.fixture(scope="module")
def bundled_server(bundled_fp16_pair: Path) -> Iterator[Live]:
    """The bundled pair, which has no chat template, with its chats as one growing text (--raw)."""
    backend = InTurn(bundled_fp16_pair, device="CPU")
    try:
        with live(backend, Served("bundled", raw_chat=True), limits=Limits(grace_s=1)) as server:
            yield server
    finally:
        backend.close()


@pytest.fixture(scope="module")
def chat_backend(chat_pair: Path) -> Iterator[InTurn]:
    backend = InTurn(chat_pair, device="CPU")
    yield backend
    backend.close()


@pytest.fixture
def chat_server(chat_backend: InTurn) -> Iterator[Live]:
    with live(chat_backend) as server:
        yield server
