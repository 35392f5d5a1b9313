"""A model with a KV cache that can take tokens back, and the sequences that run on it: one interface, two ways.

| | paged.py | masked.py |
|---|---|---|
| runs on | CPU | CPU, GPU |
| the IR | attention reads a cache that we own, by blocks | stateful, with its masks as inputs |
| taking tokens back | the length is set back | their slots are hidden for good |
| a tree | in one pass; kept nodes are moved together | in any number of passes |

On CPU the paged way verifies faster (4 tokens behind 900: 13.7 against 19.8 ms, 46 M model, one AVX2 core), because the
stateful attention node computes every query on its own there.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from ..devices import require_device
from ..errors import EdgespecError, EngineFailed, last_line
from ..signals import keeping_signal_stack

Trees = Literal["none", "whole", "grown"]
"""What a sequence will be given: chains only; trees in one pass; trees that grow over several passes."""


class Interrupted(Exception):
    """A prompt was left between two chunks. What went through by then is in the cache and counts."""


class Model(Protocol):
    """One compiled model. way: paged or masked. vocab_size: columns of its logits."""

    way: str
    vocab_size: int

    def sequence(self) -> ModelSequence:
        """A new sequence with an empty cache. Threads may run different ones at once."""


class ModelSequence(ABC):
    """The tokens of one text in a cache, and the passes that extend it. Not for concurrent calls."""

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self.interrupted: Callable[[], bool] | None = None
        """Asked between the chunks of a long prompt; True ends the feed."""

    @property
    def tokens(self) -> Sequence[int]:
        """Ids of the live tokens: those in the cache that count. Read only."""
        return self._tokens

    @property
    @abstractmethod
    def slots(self) -> int:
        """Places of the cache in use, by tokens that count or not."""

    def feed(self, ids: Sequence[int] | np.ndarray, rows: int = 1) -> np.ndarray:
        """Append live tokens, a long prompt in chunks; logits f32 [rows, vocabulary] behind the last `rows` of them, a
        view that the next pass overwrites. rows: at most what the last chunk holds. Raises Interrupted."""
        start = 0
        while True:
            if start and self.interrupted is not None and self.interrupted():
                raise Interrupted
            chunk = ids[start : start + self.chunk()]
            start += len(chunk)
            last = start == len(ids)
            logits = self.read(chunk, rows if last else 1)
            if last:
                return logits

    def read(self, ids: Sequence[int] | np.ndarray, rows: int) -> np.ndarray:
        """Append live tokens in one pass; logits f32 [rows, vocabulary] behind the last `rows` of them."""
        logits = self.grow(ids, rows=rows)
        self.keep(range(len(ids)))
        return logits

    @abstractmethod
    def chunk(self) -> int:
        """Tokens of a prompt that the next pass may take."""

    @abstractmethod
    def grow(
        self, ids: Sequence[int] | np.ndarray, parents: Sequence[int] | None = None, rows: int | None = None
    ) -> np.ndarray:
        """One pass over `ids` as nodes of a tree behind the live tokens; logits f32 [rows, vocabulary] behind the last
        `rows` of them (all unless given), a view that the next pass overwrites.

        parents: by node, the index of its parent among all open nodes, those of earlier passes first; -1 for the last
        live token. A parent stands before its children. None: a chain, when no node is open.
        The nodes stay open, and more can be grown on them, until `keep`.
        """

    @abstractmethod
    def keep(self, path: Sequence[int]) -> None:
        """Of the open nodes those of `path`, from the root down, become live; the others are gone."""

    @abstractmethod
    def rollback(self, length: int) -> None:
        """Keep the first `length` live tokens; the others, and open nodes, are gone."""

    def reuse(self, ids: Sequence[int]) -> int:
        """Roll back to what `ids` has in common with the live tokens, leaving at least one of them to feed; how many
        are kept, fewer where computing them anew is cheaper."""
        common = self.common(ids)
        self.rollback(common)
        return common

    def common(self, ids: Sequence[int]) -> int:
        """Length of the longest common prefix of the live tokens and all but the last of `ids`."""
        pairs = zip(self._tokens, ids[:-1], strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    @abstractmethod
    def reset(self) -> None:
        """Empty the cache."""


@keeping_signal_stack()
def open_model(folder: Path, device: str, settings: Mapping[str, Any] | None = None, *, trees: Trees = "none") -> Model:
    """Compile `folder`/openvino_model.xml for `device`, the fastest way that can do `trees`.

    Raises EdgespecError for a model that cannot be driven, with the reason.
    """
    import openvino

    from .masked import MaskedModel
    from .paged import PagedModel, paged_refusal
    from .surgery import mask_windows

    name = f"'{folder}'"
    device = require_device(device)
    properties = {"PERFORMANCE_HINT": "LATENCY", **(settings or {})}
    try:
        config = json.loads((folder / "config.json").read_bytes())
        ir = openvino.Core().read_model(folder / "openvino_model.xml")
        windows = mask_windows(ir, config, name)
        if paged_refusal(device, windows.values(), trees) is None:
            try:
                return PagedModel(ir.clone(), windows.values(), device, properties, name, trees=trees == "whole")
            except (ImportError, RuntimeError, EdgespecError):
                pass  # paged attention does not fit this build, processor or model; what else is wrong shows below
        return MaskedModel(ir, windows, device, properties, name)
    except (OSError, ValueError, RuntimeError) as error:
        raise EdgespecError(f"{name} could not be loaded on {device}: {last_line(error)}") from error


def run(sequence: ModelSequence, request: Any, tokens: int) -> np.ndarray:
    """One pass over inputs that are set; the logits as the IR has them. A pass that fails empties the cache, of which
    nothing can be said then.

    Below OpenVINO's Python wrapper, which makes a dictionary of named copies around each answer.
    """
    try:
        outputs = _infer()(request, {}, share_outputs=True, decode_strings=False)
    except RuntimeError as error:
        sequence.reset()
        raise EngineFailed(f"a pass over {tokens} tokens failed: {last_line(error)}") from error
    logits: np.ndarray = next(iter(outputs.values()))
    return logits


@cache
def _infer() -> Callable[..., dict[Any, np.ndarray]]:
    """(request, inputs to set, ...) -> arrays by output port, views of the request's own tensors."""
    import openvino

    found: Callable[..., dict[Any, np.ndarray]]
    found = next(kind.infer for kind in openvino.InferRequest.__mro__[1:] if "infer" in vars(kind))
    return found
