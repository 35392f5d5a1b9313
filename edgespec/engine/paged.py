"""A model whose KV cache is ours: OpenVINO's paged attention over blocks that this file allocates.

Rejected tokens are taken back by setting the length back; the next pass writes over them. A tree goes through in one
pass with a mask of its own (`qq_bias`); the kept nodes, which need not be neighbours, are then moved together.

The transformation is the one openvino_genai applies. A key cache in int8 shares its scales among the tokens of a block,
so single tokens cannot be moved in it; models opened for trees keep their cache in float16 unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import EdgespecError
from .model import ModelSequence, Trees, run
from .surgery import pick_rows
from .tensors import Input

CHUNK = 256
"""Tokens of a prompt that one pass takes, between which it can be left (ModelSequence.interrupted). Small chunks cost
nothing on the 99 M twin: 2,048 tokens took 1.39 s in chunks of 256, 1.33 in 512, 1.89 in 1,024 and 2.00 in one."""

_EXACT = 8
"""Tokens up to which a prompt's pass is as long as they are: those lengths occur anyway, when answers are verified."""

_CHANGE_S = 0.14e-3
_BYTES_S = 20e9
"""Seconds a layer that a pass of another length than the last costs, and weights read a second, on 2 cores of a server;
what counts is only how they compare (a 2-layer model: 0.20 ms a pass over one token, 0.47 behind one over two)."""
_FIRST_BLOCKS = 16
_FEW = 16
_WINDOW_INPUT = 10
"""Of a paged attention node: the sliding window, 0 for none."""


def paged_refusal(device: str, windows: Iterable[int | None], trees: Trees) -> str | None:
    """Why a model cannot be driven this way, None when it can. windows: of its attention layers, None for full ones."""
    if device != "CPU":
        return "on other devices the cache would have to live in the device's own memory"
    if trees == "grown":
        return "a tree must go through in one pass"
    if trees == "whole" and any(window is not None for window in windows):
        return "in layers with a sliding window a tree's mask is ignored"
    return None


class PagedModel:
    """One compiled IR. Threads may run different sequences of it at once."""

    way = "paged"

    def __init__(
        self,
        ir: Any,
        windows: Iterable[int | None],
        device: str,
        properties: Mapping[str, Any],
        name: str,
        *,
        trees: bool,
    ) -> None:
        """ir: an openvino.Model, changed in place. windows: of its masks, which the transformation must find too."""
        import openvino
        from openvino._offline_transformations import paged_attention_transformation

        paged_attention_transformation(ir, allow_qq_bias=trees)
        if _windows(ir) != set(windows):
            raise EdgespecError(
                f"{name} has attention windows that OpenVINO's paged attention does not see; use the genai engine"
            )
        pick_rows(ir, name, axis=0)
        if trees:
            chosen = any(key in properties for key in ("KV_CACHE_PRECISION", "KEY_CACHE_PRECISION"))
            properties = {
                **({"KEY_CACHE_QUANT_MODE": "BY_TOKEN"} if chosen else {"KV_CACHE_PRECISION": "f16"}),
                **properties,
            }
        self.singly = _singly(ir)
        self._compiled = openvino.Core().compile_model(ir, device, dict(properties))
        self.vocab_size = int(self._compiled.output("logits").partial_shape[2].get_length())
        self.inputs = {port.any_name: port for port in self._compiled.inputs}
        self.trees = trees

    def sequence(self) -> PagedSequence:
        """A new sequence with an empty cache."""
        return PagedSequence(self, self._compiled.create_infer_request())


def pass_length(tokens: int) -> int:
    """Tokens of a prompt's pass that holds `tokens`: them up to _EXACT, then the next of eight lengths an octave, so
    that at most an eighth of them is wasted and few lengths ever occur. The plugin keeps what it prepared for every
    length it has met, layer by layer, and a new one costs it milliseconds."""
    if tokens <= _EXACT:
        return tokens
    grain = 1 << (tokens - 1).bit_length() - 4
    return -(-tokens // grain) * grain


def _singly(ir: Any) -> int:
    """How many tokens one pass each feeds faster than a single pass over all, when passes over one stand before and
    after: a small model spends less on reading its weights again than on being prepared for another length twice."""
    ops = ir.get_ops()
    layers = sum(op.get_type_name() == "PagedAttentionExtension" for op in ops)
    weights = sum(op.get_byte_size() for op in ops if op.get_type_name() == "Constant")
    return min(4, 1 + int(2 * layers * _CHANGE_S / (max(1, weights) / _BYTES_S)))


def _windows(ir: Any) -> set[int | None]:
    """Of the attention nodes of a transformed model, None for a full one."""
    import openvino

    nodes = [node for node in ir.get_ordered_ops() if node.get_type_name() == "PagedAttentionExtension"]
    sizes = openvino.Model([node.input_value(_WINDOW_INPUT) for node in nodes], [], "windows")
    answers = openvino.Core().compile_model(sizes, "CPU")([])
    return {int(answers[index]) or None for index in range(len(nodes))}


class PagedSequence(ModelSequence):
    """See ModelSequence."""

    def __init__(self, model: PagedModel, request: Any) -> None:
        super().__init__()
        self._request = request
        self._ids = Input(request, model.inputs["input_ids"], np.int64)
        self._positions = Input(request, model.inputs["position_ids"], np.int64)
        self._rows = Input(request, model.inputs["logits_rows"], np.int64)
        self._past = self._fixed(model, "past_lens", 1)
        self._begins = self._fixed(model, "subsequence_begins", 2)
        self._context = self._fixed(model, "max_context_len")
        self._blocks = Input(request, model.inputs["block_indices"], np.int32)
        self._block_begins = self._fixed(model, "block_indices_begins", 2)
        self._tree = Input(request, model.inputs["qq_bias"], np.uint8) if model.trees else None
        self._tree_begins = Input(request, model.inputs["qq_bias_begins"], np.int32) if model.trees else None
        self._cache = _Cache(request, [port for name, port in model.inputs.items() if "_cache." in name])
        self._open: list[int] = []
        self._shape = 0, 0, 0, 0
        self._singly = model.singly

    def _fixed(self, model: PagedModel, name: str, *shape: int) -> np.ndarray:
        array = Input(self._request, model.inputs[name], np.int32).shaped(*shape)
        array[...] = 0
        return array

    @property
    def slots(self) -> int:
        return len(self._tokens) + len(self._open)

    def chunk(self) -> int:
        return CHUNK

    def feed(self, ids: Sequence[int] | np.ndarray, rows: int = 1) -> np.ndarray:
        if rows == 1 and 1 < len(ids) <= self._singly and self._shape[0] == 1:
            for place in range(len(ids) - 1):
                self.grow(ids[place : place + 1])
                self.keep((0,))
            ids = ids[-1:]
        return super().feed(ids, rows)

    def read(self, ids: Sequence[int] | np.ndarray, rows: int) -> np.ndarray:
        """See ModelSequence. The pass is filled up to one of few lengths with tokens that nothing attends to, and which
        the next pass writes over; until then they share the scales of their block, where the cache is in int8."""
        logits = self._run(ids, None, rows, pass_length(len(ids)))
        self.keep(range(len(ids)))
        return logits

    def grow(
        self, ids: Sequence[int] | np.ndarray, parents: Sequence[int] | None = None, rows: int | None = None
    ) -> np.ndarray:
        return self._run(ids, parents, len(ids) if rows is None else rows, len(ids))

    def _run(
        self, ids: Sequence[int] | np.ndarray, parents: Sequence[int] | None, rows: int, length: int
    ) -> np.ndarray:
        """`grow` by a pass over `length` tokens, of which those behind `ids` mean nothing."""
        if self._open:
            raise EdgespecError("nodes of a tree are open, and this model takes a tree in one pass; keep some first")
        n, past = len(ids), len(self._tokens)
        filled, places = self._ids.shaped(length), self._positions.shaped(length)
        filled[:n] = ids
        filled[n:] = ids[-1]
        places[n:] = past + n - 1  # no position beyond the model's last
        positions = places[:n]
        if parents is None:
            positions[:] = range(past, past + n) if n <= _FEW else np.arange(past, past + n)
            if self._tree is not None and self._tree_begins is not None:
                self._tree.shaped(0)
                self._tree_begins.shaped(0)
        else:
            self._branch(parents, past, positions)
        self._past[0] = past
        self._context[...] = past + length
        blocks = self._cache.make_room(past + length, past)
        shape = n, rows, length, blocks
        if shape != self._shape:
            self._reshape(*shape)
        logits = run(self, self._request, n)
        self._open = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
        return logits[:, 0]

    def _reshape(self, n: int, rows: int, length: int, blocks: int) -> None:
        """Inputs that depend on these alone, which from pass to pass are mostly the same."""
        self._begins[1] = length
        self._rows.shaped(rows)[:] = np.arange(n - rows, n)
        self._block_begins[1] = blocks
        self._blocks.shaped(blocks)[:] = np.arange(blocks)
        self._shape = n, rows, length, blocks

    def _branch(self, parents: Sequence[int], past: int, positions: np.ndarray) -> None:
        """Positions by depth; each node sees what its parent sees, and itself."""
        if self._tree is None or self._tree_begins is None:
            raise EdgespecError("this model was opened for chains only, and a tree was given")
        n = len(parents)
        sees = self._tree.shaped(n * n).reshape(n, n)
        sees[:] = 0
        for node, parent in enumerate(parents):
            if parent >= 0:
                sees[node] = sees[parent]
            sees[node, node] = 1
            positions[node] = positions[parent] + 1 if parent >= 0 else past
        self._tree_begins.shaped(2)[:] = 0, n * n

    def keep(self, path: Sequence[int]) -> None:
        past = len(self._tokens)
        moved = [place for place, node in enumerate(path) if place != node]
        if moved:
            self._cache.move([past + path[place] for place in moved], [past + place for place in moved])
        self._tokens += [self._open[node] for node in path]
        self._open = []

    def rollback(self, length: int) -> None:
        self._open = []
        del self._tokens[length:]

    def reset(self) -> None:
        self.rollback(0)


class _Cache:
    """The blocks of all layers, grown by doubling: block i of the text is block i of the cache."""

    def __init__(self, request: Any, ports: Sequence[Any]) -> None:
        self._request = request
        self._ports = {port: [int(size.get_length()) for size in list(port.partial_shape)[1:]] for port in ports}
        self._block = next(shape[1] for port, shape in self._ports.items() if port.any_name.startswith("value"))
        self._memory: dict[Any, np.ndarray] = {}  # by port: uint8 [blocks, heads, rows, bytes of a row]
        self._room = 0

    def make_room(self, tokens: int, used: int) -> int:
        """Blocks that `tokens` take, allocated. used: tokens whose content must survive."""
        blocks = -(-tokens // self._block)
        if blocks > self._room:
            self._enlarge(max(_FIRST_BLOCKS, 2 * self._room, blocks), -(-used // self._block))
        return blocks

    def _enlarge(self, room: int, used: int) -> None:
        import openvino

        for port, (heads, rows, width) in self._ports.items():
            element = port.get_element_type()
            memory = _aligned(room, heads, rows, width * element.bitwidth // 8)
            if used:
                memory[:used] = self._memory[port][:used]
            self._memory[port] = memory
            self._request.set_tensor(port, openvino.Tensor(memory, [room, heads, rows, width], element))
        self._room = room

    def move(self, sources: Sequence[int], places: Sequence[int]) -> None:
        """Copy the tokens at `sources` to `places`."""
        to_block, to_row = np.divmod(np.asarray(places), self._block)
        from_block, from_row = np.divmod(np.asarray(sources), self._block)
        for memory in self._memory.values():
            memory[to_block, :, to_row] = memory[from_block, :, from_row]


def _aligned(*shape: int) -> np.ndarray:
    """Zeros, uint8, from a multiple of 64 bytes on, as OpenVINO allocates."""
    size = int(np.prod(shape))
    memory = np.zeros(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].reshape(shape)
