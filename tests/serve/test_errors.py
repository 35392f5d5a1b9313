"""What the runtime refuses, as HTTP says it."""

from __future__ import annotations

import pytest

from edgespec.errors import EdgespecError, EngineFailed, MemoryShortage
from edgespec.serve import errors


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (EdgespecError("top_p must be above 0"), 400, "refused"),
        (EngineFailed("GPU is gone"), 500, "engine_failed"),
        (MemoryShortage("needs 9 GB"), 503, "memory_shortage"),
    ],
)
def test_only_a_faulty_request_is_the_clients_fault(error: EdgespecError, status: int, code: str) -> None:
    told = errors.of(error)
    assert (told.status, told.code, told.message) == (status, code, str(error))
