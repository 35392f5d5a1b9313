"""Input tensors that are allocated once and resized in place: making them anew every pass costs more."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_LARGE = 1 << 18
"""Elements; a prompt's bias is larger, and not kept."""


class Input:
    """One input of an infer request, written in place before each pass."""

    def __init__(self, request: Any, port: Any, dtype: type, room: int = 64) -> None:
        """room: elements to allocate; more are allocated when a shape needs them, and given back when it does not."""
        self._request, self._port, self._dtype, self._least = request, port, dtype, room
        self._allocate(room, (1,) * len(port.partial_shape))

    def _allocate(self, room: int, shape: tuple[int, ...]) -> None:
        import openvino

        self._tensor = openvino.Tensor(np.dtype(self._dtype), [room])
        self._memory: np.ndarray = self._tensor.data  # stays valid: a smaller shape keeps the memory
        self._tensor.set_shape(shape)
        self._shape = shape
        self._request.set_tensor(self._port, self._tensor)

    def shaped(self, *shape: int) -> np.ndarray:
        """The tensor with `shape`, to be written; what it held is lost."""
        size = math.prod(shape)
        room = len(self._memory)
        if size > room or (room > _LARGE and room > 4 * size):
            self._allocate(max(self._least, size + min(size, _LARGE)), shape)
        elif shape != self._shape:
            self._tensor.set_shape(shape)
            self._shape = shape
        return self._memory[:size].reshape(shape)
