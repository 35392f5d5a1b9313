"""What one forward pass costs: seconds over n tokens after a context, measured on the ordinary stateful IR.

From these follow v(n) = t(n) / t(1) of the target and c = draft t(1) / target t(1), the two machine terms of the
predicted speed-up tau / (v(gamma+1) + c*gamma).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, TypeVar

import numpy as np

from ..devices import require_device
from ..errors import EdgespecError
from ..pair import Pair, Role

Name = TypeVar("Name")
LENGTHS = (1, 2, 3, 4, 6, 8)
PASSES = 3
FEWEST = 5


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
    *,
    device: str,
    draft_device: str | None = None,
    settings: Mapping[str, Any] | None = None,
    lengths: Sequence[int] = LENGTHS,
    draft_lengths: Sequence[int] = (),
    context: int = 256,
    repetitions: int = 20,
    budget_s: float = 90.0,
    seed: int = 0,
) -> dict[Role, dict[int, float]]:
    """Median seconds of a pass over n tokens behind `context` cached ones: the target's for each n of `lengths`, the
    draft's for each of `draft_lengths`.

    Models and lengths are interleaved inside each repetition, so a slow moment of the machine falls on all of them.
    Past `budget_s` no repetition is begun, once there are FEWEST.
    """
    wanted: dict[Role, tuple[str, Sequence[int]]] = {"target": (device, lengths)}
    if draft_lengths:
        wanted["draft"] = (draft_device or device, draft_lengths)
    opened = {
        role: (StatefulModel(str(_model_xml(pair, role)), require_device(where), settings), asked)
        for role, (where, asked) in wanted.items()
    }
    vocabulary = pair.manifest.target.vocab_size
    if pair.manifest.draft is not None:  # padded differently, perhaps
        vocabulary = min(vocabulary, pair.manifest.draft.vocab_size)
    return measure_models(
        opened, vocabulary=vocabulary, context=context, repetitions=repetitions, budget_s=budget_s, seed=seed
    )


def measure_models(
    opened: Mapping[Name, tuple[StatefulModel, Sequence[int]]],
    *,
    vocabulary: int,
    context: int = 256,
    repetitions: int = 20,
    budget_s: float = 90.0,
    seed: int = 0,
) -> dict[Name, dict[int, float]]:
    """The same for models that are open, each with the lengths to time: median seconds of a pass by name and length."""
    draw = np.random.default_rng(seed)
    times: dict[tuple[Name, int], list[float]] = {(name, n): [] for name, (_, asked) in opened.items() for n in asked}
    cells = list(times)
    begun = time.perf_counter()
    for repetition in range(repetitions + 1):  # the first is a warm-up
        if repetition > FEWEST and time.perf_counter() - begun > budget_s:
            break
        for model, _ in opened.values():
            model.reset()
            model.feed(draw.integers(0, vocabulary, context))
        for index in draw.permutation(len(cells)).tolist():
            name, n = cells[index]
            for _ in range(PASSES):
                ids = draw.integers(0, vocabulary, n)
                started = time.perf_counter()
                opened[name][0].feed(ids)
                if repetition:
                    times[name, n].append(time.perf_counter() - started)
    return {name: {n: median(times[name, n]) for n in sorted(set(asked))} for name, (_, asked) in opened.items()}


def _model_xml(pair: Pair, role: Role) -> Any:
    folder = pair.target if role == "target" else pair.draft
    if folder is None:
        raise EdgespecError(f"the pair '{pair.root}' has no draft to measure")
    return folder / "openvino_model.xml"
