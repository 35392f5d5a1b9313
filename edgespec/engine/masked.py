"""A model whose KV cache forgets by hiding: the ordinary stateful IR, with its attention masks as inputs (surgery.py).

Rejected tokens stay in the cache. Their slots are hidden for good from every later token, and positions go on from
the last token that counts, so taking tokens back moves no memory. When hidden slots have cost as much attention as
moving the cache together would, that is done once (`COMPACTION_RATIO`).

key: slot, a place in the cache; live, a slot whose token counts; open, a slot of the tree that is being grown, whose
nodes have not been kept or dropped yet; position, the number of live tokens (and ancestors in the tree) before a token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import EdgespecError
from .model import ModelSequence, run
from .surgery import HIDDEN, bias_name, cache_axis, open_masks
from .tensors import Input

FIRST_CHUNK = 8192
LATER_CHUNK = 1024
"""Tokens of a prompt that one pass takes, into an empty cache and behind cached tokens. On CPU the first is computed by
a blocked attention kernel and the others token by token (900 tokens of the 46 M model: 1.7 s in one chunk, 2.3 s in
two), so the first is as long as its bias, 268 MB, allows."""

COMPACTION_RATIO = 16
"""What moving one live slot costs, in visits of one query to one hidden slot. Measured on a 46 M and a 3 M model,
caches of 256 to 1,024 slots in int8 and f32, passes of 1 and 4 tokens: 8 to 29. By this rule (rent until the rent is
the price) a text pays at most twice what the best moments to compact would have cost."""

_SHORT = 64


class MaskedModel:
    """One compiled IR. Threads may run different sequences of it at once."""

    way = "masked"

    def __init__(
        self, ir: Any, windows: Mapping[Any, int | None], device: str, properties: Mapping[str, Any], name: str
    ) -> None:
        """ir: an openvino.Model, changed in place. windows: by mask, from surgery.mask_windows."""
        import openvino

        self.windows = open_masks(ir, windows, name)
        self.cache_axes = {state.get_info().variable_id: cache_axis(state) for state in ir.get_variables()}
        self._compiled = openvino.Core().compile_model(ir, device, dict(properties))
        self.vocab_size = int(self._compiled.output("logits").partial_shape[2].get_length())
        self.inputs = {port.any_name: port for port in self._compiled.inputs}

    def sequence(self) -> MaskedSequence:
        """A new sequence with an empty cache."""
        return MaskedSequence(self, self._compiled.create_infer_request())


class MaskedSequence(ModelSequence):
    """See ModelSequence."""

    def __init__(self, model: MaskedModel, request: Any) -> None:
        super().__init__()
        self._request = request
        self._ids = Input(request, model.inputs["input_ids"], np.int64)
        self._positions = Input(request, model.inputs["position_ids"], np.int64)
        self._rows = Input(request, model.inputs["logits_rows"], np.int64)
        self._biases = [
            (window, Input(request, model.inputs[bias_name(window)], np.float32, 8192)) for window in model.windows
        ]
        if "beam_idx" in model.inputs:
            self._beam = Input(request, model.inputs["beam_idx"], np.int32)
            self._beam.shaped(1)[:] = 0
        self._axes = model.cache_axes
        self._slots = np.zeros(0, np.int64)  # by live token
        self._hidden = np.zeros(0, np.float32)  # by slot: 0 or HIDDEN, what later tokens add to their attention
        self._at = np.zeros(0, np.int64)  # by slot: position
        self._chain = _chain(_SHORT)
        self.compactions = 0
        self._forget()

    def _forget(self) -> None:
        self._tokens = []
        self._used = 0
        self._open_tokens: list[int] = []
        self._open = self._chain[:0, :0]  # by open node: the open nodes it sees, 0 or HIDDEN
        self._debt = 0

    @property
    def slots(self) -> int:
        return self._used

    @property
    def dead(self) -> int:
        """Slots hidden for good."""
        return self._used - len(self._tokens) - len(self._open_tokens)

    def chunk(self) -> int:
        return LATER_CHUNK if self._used else FIRST_CHUNK

    def grow(
        self, ids: Sequence[int] | np.ndarray, parents: Sequence[int] | None = None, rows: int | None = None
    ) -> np.ndarray:
        n, old = len(ids), len(self._open_tokens)
        if self._debt > COMPACTION_RATIO * len(self._tokens) and not old:
            self.compact()
        length, used = len(self._tokens), self._used
        total = used + n
        self._make_room(total)
        if parents is None:
            if old:
                raise EdgespecError("a chain was given while nodes of a tree are open; keep some of them first")
            sees = self._open = self._chain[:n, :n] if n <= _SHORT else _chain(n)
            self._at[used:total] = np.arange(length, length + n)
        else:
            self._open = self._branch(parents, old)
            sees = self._open[old:]
        self._hidden[used:total] = 0
        self._ids.shaped(1, n)[0] = ids
        self._positions.shaped(1, n)[0] = positions = self._at[used:total]
        for window, tensor in self._biases:
            bias = tensor.shaped(1, 1, n, total)[0, 0]
            bias[:, : used - old] = self._hidden[: used - old]
            bias[:, used - old :] = sees
            if window is not None:
                bias[self._at[:total] <= positions[:, None] - window] = HIDDEN
        rows = n if rows is None else rows
        self._rows.shaped(rows)[:] = np.arange(n - rows, n)
        self._debt += n * (used - length - old)
        logits: np.ndarray = run(self, self._request, n)[0]
        self._used = total
        self._open_tokens += ids.tolist() if isinstance(ids, np.ndarray) else ids
        return logits

    def _branch(self, parents: Sequence[int], old: int) -> np.ndarray:
        """What each open node sees of the open ones, those of this pass added: its parent's view and itself."""
        count = old + len(parents)
        sees = np.full((count, count), HIDDEN, np.float32)
        sees[:old, :old] = self._open[:old, :old]
        first, length = self._used - old, len(self._tokens)
        for node, parent in enumerate(parents, start=old):
            if parent >= 0:
                sees[node] = sees[parent]
            sees[node, node] = 0
            self._at[first + node] = self._at[first + parent] + 1 if parent >= 0 else length
        return sees

    def keep(self, path: Sequence[int]) -> None:
        count, length, used = len(self._open_tokens), len(self._tokens), self._used
        first = used - count
        if len(path) == count:
            self._slots[length : length + count] = np.arange(first, used)
            self._tokens += self._open_tokens
        else:
            self._hidden[first:used] = HIDDEN
            for place, node in enumerate(path):
                self._slots[length + place] = first + node
                self._hidden[first + node] = 0
                self._tokens.append(self._open_tokens[node])
        self._open_tokens = []

    def rollback(self, length: int) -> None:
        self.keep(())
        if length == 0:
            self.reset()
        elif length < len(self._tokens):
            self._hidden[self._slots[length : len(self._tokens)]] = HIDDEN
            del self._tokens[length:]

    def reuse(self, ids: Sequence[int]) -> int:
        common = self.common(ids)
        if 2 * common < len(ids):  # behind cached tokens a prompt is slower to compute, see FIRST_CHUNK
            common = 0
        self.rollback(common)
        return common

    def reset(self) -> None:
        self._request.reset_state()
        self._forget()

    def compact(self) -> None:
        """Move the live slots together; hidden ones leave the cache, and open nodes are gone."""
        self.keep(())
        if not self.dead:
            return
        import openvino

        live = self._slots[: len(self._tokens)]
        for state in self._request.query_state():
            cache = state.state.data
            state.state = openvino.Tensor(cache.take(live, self._axes[state.name]))
        self._used = len(live)
        self._at[: self._used] = self._slots[: self._used] = np.arange(self._used)
        self._hidden[: self._used] = 0
        self._debt = 0
        self.compactions += 1

    def _make_room(self, slots: int) -> None:
        if slots > len(self._hidden):
            more = slots + 1024 - len(self._hidden)
            self._hidden = np.concatenate([self._hidden, np.zeros(more, np.float32)])
            self._at = np.concatenate([self._at, np.zeros(more, np.int64)])
            self._slots = np.concatenate([self._slots, np.zeros(more, np.int64)])


def _chain(n: int) -> np.ndarray:
    """What each of n tokens in a row sees of them: f32 [n, n], 0 or HIDDEN."""
    return np.triu(np.full((n, n), HIDDEN, np.float32), 1)
