"""What one forward pass costs: seconds over n tokens after a context, measured on the ordinary stateful IR.

From these follow v(n) = t(n) / t(1) of the target and c = draft t(1) / target t(1), the two machine terms of the
predicted speed-up tau / (v(gamma+1) + c*gamma).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from ..devices import require_device
from ..errors import EdgespecError
from ..pair import Pair, Role

LENGTHS = (1, 2, 3, 4, 6, 8)


class StatefulModel:
    """One compiled IR with its KV cache as state: feed it tokens, the cache grows; `reset` empties it."""

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


def measure_passes(
    pair: Pair,
    role: Role,
    device: str,
    settings: Mapping[str, Any] | None = None,
    *,
    lengths: Sequence[int] = LENGTHS,
    context: int = 256,
    repetitions: int = 15,
    seed: int = 0,
) -> dict[int, float]:
    """Median seconds of a pass over n tokens, for each n of `lengths`, behind `context` cached tokens.

    Lengths are interleaved inside each repetition, so a slow moment of the machine falls on all of them.
    """
    model = StatefulModel(str(_model_xml(pair, role)), require_device(device), settings)
    record = pair.manifest.target if role == "target" else pair.manifest.draft
    assert record is not None
    draw = np.random.default_rng(seed)
    times: dict[int, list[float]] = {n: [] for n in lengths}
    for repetition in range(repetitions + 1):  # the first is a warm-up
        for n in draw.permutation(list(lengths)).tolist():
            model.reset()
            model.feed(draw.integers(0, record.vocab_size, context))
            for _ in range(3):
                ids = draw.integers(0, record.vocab_size, n)
                started = time.perf_counter()
                model.feed(ids)
                if repetition:
                    times[n].append(time.perf_counter() - started)
    return {n: median(values) for n, values in times.items()}


def _model_xml(pair: Pair, role: Role) -> Any:
    folder = pair.target if role == "target" else pair.draft
    if folder is None:
        raise EdgespecError(f"the pair '{pair.root}' has no draft to measure")
    return folder / "openvino_model.xml"
