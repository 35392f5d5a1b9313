"""The target's own logits, straight from its IR with nothing rounded beyond the weights: what every engine is judged
by. No sampler, no scheduler and no draft stands between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgespec.settings import EXACT
from edgespec.signals import keeping_signal_stack

BATCH = 64
"""Prefixes in one pass: enough to keep a CPU busy, few enough that their KV caches and logits stay small."""


class Target(Protocol):
    """What the checks ask of a model. vocab_size counts rows of logits, padding included: engines may draw those."""

    vocab_size: int

    def along(self, context: Sequence[int], answer: Sequence[int], *, one_by_one: bool = False) -> np.ndarray:
        """Logits f32 [len(answer), vocab_size]; row i is what answer[i] is to be chosen from. one_by_one: a pass a
        token, as plain decoding goes, instead of one over all."""

    def behind(self, context: Sequence[int], prefixes: Sequence[Sequence[int]]) -> Iterator[np.ndarray]:
        """For each prefix, all equally long, the logits f32 [vocab_size] behind context + prefix. A row is a view that
        does not outlive the next one."""

    def close(self) -> None: ...


class ModelTarget:
    """A `Target` over the stateful IR in `folder`, the draft's as well as the target's."""

    @keeping_signal_stack()
    def __init__(self, folder: Path, device: str = "CPU", settings: Mapping[str, Any] = EXACT) -> None:
        import openvino

        self._tensor = openvino.Tensor
        compiled = openvino.Core().compile_model(
            str(folder / "openvino_model.xml"), device, {"PERFORMANCE_HINT": "LATENCY", **settings}
        )
        self._inputs = {name for port in compiled.inputs for name in port.names}
        self._request = compiled.create_infer_request()
        self.vocab_size = int(compiled.output("logits").partial_shape[-1].get_length())
        self._past = 0

    def along(self, context: Sequence[int], answer: Sequence[int], *, one_by_one: bool = False) -> np.ndarray:
        if not answer:
            return np.zeros((0, self.vocab_size), np.float32)
        self._reset()
        ids = np.asarray([[*context, *answer[:-1]]], np.int64)
        if not one_by_one:
            return np.array(self._feed(ids)[0, len(context) - 1 :])
        ends = [0, *range(len(context), ids.shape[1] + 1)]
        return np.stack([self._feed(ids[:, a:b])[0, -1].copy() for a, b in pairwise(ends)])

    def behind(self, context: Sequence[int], prefixes: Sequence[Sequence[int]]) -> Iterator[np.ndarray]:
        for start in range(0, len(prefixes), BATCH):
            chunk = np.asarray(prefixes[start : start + BATCH], np.int64)  # [n, depth]
            self._reset()
            if not chunk.shape[1]:
                yield self._feed(np.asarray(context, np.int64)[None])[0, -1]
                continue
            self._feed(np.asarray(context, np.int64)[None])  # computed once: beam_idx hands its cache to every prefix
            yield from self._feed(chunk)[:, -1]

    def close(self) -> None:
        self.__dict__.pop("_request", None)

    def _reset(self) -> None:
        self._request.reset_state()
        self._past = 0

    def _feed(self, ids: np.ndarray) -> np.ndarray:
        """Logits f32 [batch, n, vocabulary] after `ids` i64 [batch, n]; every row continues the first row's cache."""
        batch, n = ids.shape
        inputs = {
            "input_ids": ids,
            "attention_mask": np.ones((batch, self._past + n), np.int64),
            "position_ids": np.tile(np.arange(self._past, self._past + n, dtype=np.int64), (batch, 1)),
            "beam_idx": np.zeros(batch, np.int32),
        }
        for name in inputs.keys() & self._inputs:
            self._request.set_tensor(name, self._tensor(np.ascontiguousarray(inputs[name])))
        self._request.infer()
        self._past += n
        return np.asarray(self._request.get_tensor("logits").data)
