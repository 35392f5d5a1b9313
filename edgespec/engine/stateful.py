"""The ordinary stateful IR, a pass at a time and with nothing of an engine: for logits to hold others against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..signals import keeping_signal_stack


class StatefulModel:
    """One compiled IR with its KV cache as state: feed it tokens, the cache grows; `reset` empties it."""

    @keeping_signal_stack()
    def __init__(self, xml: str, device: str, settings: Mapping[str, Any] | None = None) -> None:
        import openvino

        self._openvino = openvino
        compiled = openvino.Core().compile_model(xml, device, {"PERFORMANCE_HINT": "LATENCY", **(settings or {})})
        self._request = compiled.create_infer_request()
        self._inputs = {name for port in compiled.inputs for name in port.names}
        self.past = 0

    def reset(self) -> None:
        self._request.reset_state()
        self.past = 0

    def feed(self, ids: np.ndarray) -> np.ndarray:
        """Logits f32 [n, vocabulary] after each of `ids` (i64 [n]); a view that the next call overwrites."""
        n = len(ids)
        tensor = self._openvino.Tensor
        self._request.set_tensor("input_ids", tensor(np.ascontiguousarray(ids, dtype=np.int64)[None]))
        self._request.set_tensor("attention_mask", tensor(np.ones((1, self.past + n), dtype=np.int64)))
        if "position_ids" in self._inputs:
            positions = np.arange(self.past, self.past + n, dtype=np.int64)[None]
            self._request.set_tensor("position_ids", tensor(positions))
        if "beam_idx" in self._inputs:
            self._request.set_tensor("beam_idx", tensor(np.zeros(1, dtype=np.int32)))
        self._request.infer()
        self.past += n
        return np.asarray(self._request.get_tensor("logits").data[0])
