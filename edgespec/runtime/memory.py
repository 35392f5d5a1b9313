"""The memory guard: what loading will take, estimated before it, and what would fit where it does not.

An estimate, not a bound: weights as they lie on disk (a CPU keeps its own repacked copy of that size; the file itself
is mapped and can be dropped), both KV caches for a context, and the buffers of a pass over a prompt.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import EdgespecError, MemoryShortage
from ..pair import GGUF_FILE, ModelRecord, Pair
from ..resources import available_memory_bytes
from .modes import Way

PLANNED_CONTEXT = 4096
"""Tokens that caches are planned for, where the model's own context is not shorter."""
LONGEST_PASS = 4096
"""Tokens of a prompt that one pass takes (both engines)."""
BASE_BYTES = 150_000_000
"""The libraries themselves, once they have compiled something."""
RESERVE = 0.05
"""Share of the free memory that is left alone."""

_CACHE_BYTES = {"u8": 1.25, "i8": 1.25, "u4": 0.75, "f16": 2.0, "bf16": 2.0, "f32": 4.0}
"""By KV cache precision, bytes a value with its share of scales."""


@dataclass(frozen=True)
class Shape:
    """Of one model, from its config.json; what it does not tell is derived from what most models do."""

    layers: int
    kv_width: int
    hidden: int
    intermediate: int
    vocabulary: int
    context: int | None

    @classmethod
    def read(cls, folder: Path) -> Shape:
        """Raises EdgespecError when config.json cannot be read."""
        try:
            config: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
        except (OSError, ValueError) as error:
            raise EdgespecError(f"'{folder}' has no readable config.json: {error}; make the pair again") from error
        config = config.get("text_config") or config
        hidden = int(config.get("hidden_size") or 0)
        heads = int(config.get("num_attention_heads") or 1)
        width = int(config.get("head_dim") or hidden // heads)
        context = config.get("max_position_embeddings")
        return cls(
            layers=int(config.get("num_hidden_layers") or 0),
            kv_width=int(config.get("num_key_value_heads") or heads) * width,
            hidden=hidden,
            intermediate=int(config.get("intermediate_size") or 4 * hidden),
            vocabulary=int(config.get("vocab_size") or 0),
            context=int(context) if context else None,
        )

    def cache_bytes(self, tokens: int, precision: str) -> int:
        """Keys and values of `tokens` in all layers."""
        return round(2 * self.layers * self.kv_width * tokens * _CACHE_BYTES.get(precision, 2.0))

    def workspace_bytes(self, tokens: int) -> int:
        """Activations of one layer over `tokens`, in f32, and a few rows of logits."""
        return 4 * (min(tokens, LONGEST_PASS) * (6 * self.hidden + 3 * self.intermediate) + 16 * self.vocabulary)


@dataclass(frozen=True)
class Estimate:
    """Bytes that a way of running a pair takes; draft_bytes are the draft's weights. context: tokens planned for."""

    target_bytes: int
    draft_bytes: int
    cache_bytes: int
    workspace_bytes: int
    context: int

    @property
    def total_bytes(self) -> int:
        return self.target_bytes + self.draft_bytes + self.cache_bytes + self.workspace_bytes + BASE_BYTES

    def sentence(self) -> str:
        draft = f", draft {_gb(self.draft_bytes)}" if self.draft_bytes else ""
        return (
            f"about {_gb(self.total_bytes)} (target {_gb(self.target_bytes)}{draft}, KV caches "
            f"{_gb(self.cache_bytes)} for {self.context:,} tokens, workspace {_gb(self.workspace_bytes)}, libraries "
            f"{_gb(BASE_BYTES)})"
        )


def weights_file(record: ModelRecord) -> str:
    return GGUF_FILE if record.kind == "gguf" else "openvino_model.bin"


def shape_of(pair: Pair) -> Shape | None:
    """Of the target; None where no config.json tells: a GGUF file has none."""
    return None if pair.manifest.target.kind == "gguf" else Shape.read(pair.target)


def estimate(pair: Pair, way: Way, *, context: int | None = None, cache_precision: str = "u8") -> Estimate:
    """What running `pair` in `way` takes. context: tokens of prompt and answer to plan for. Of a GGUF target the
    weights alone are known beforehand."""
    manifest = pair.manifest
    target = shape_of(pair)
    shapes = [target] if target else []
    weights = [(pair.target / weights_file(manifest.target)).stat().st_size]
    if way.drafts and pair.draft and manifest.draft:
        shapes.append(Shape.read(pair.draft))
        weights.append((pair.draft / weights_file(manifest.draft)).stat().st_size)
    limit = target.context if target else None
    context = context or min(limit or PLANNED_CONTEXT, PLANNED_CONTEXT)
    return Estimate(
        target_bytes=weights[0],
        draft_bytes=sum(weights[1:]),
        cache_bytes=sum(shape.cache_bytes(context, cache_precision) for shape in shapes),
        workspace_bytes=max((shape.workspace_bytes(context) for shape in shapes), default=0),
        context=context,
    )


def require_room(
    pair: Pair, way: Way, *, context: int | None, cache_precision: str = "u8", free_bytes: int | None = None
) -> Estimate:
    """The estimate; raises MemoryShortage with the figures, and what would fit, when it exceeds what is free.

    free_bytes: None asks the operating system.
    """
    free = available_memory_bytes() if free_bytes is None else free_bytes
    room = free * (1 - RESERVE)
    needed = estimate(pair, way, context=context, cache_precision=cache_precision)
    if needed.total_bytes <= room:
        return needed
    raise MemoryShortage(
        f"'{pair.root.name}' in mode '{way.name}' needs {needed.sentence()} and {_gb(free)} are free; "
        f"{_what_would_fit(pair, way, needed, room, cache_precision)}"
    )


def _what_would_fit(pair: Pair, way: Way, needed: Estimate, room: float, cache_precision: str) -> str:
    def fits(context: int, in_way: Way) -> bool:
        return estimate(pair, in_way, context=context, cache_precision=cache_precision).total_bytes <= room

    offers = []
    shorter = next((size for size in (needed.context >> n for n in range(1, 6)) if size >= 128 and fits(size, way)), 0)
    if shorter:
        offers.append(f"context={shorter}")
    gguf = pair.manifest.target.kind == "gguf"
    if way.drafts and not gguf and fits(needed.context, Way("native", "adaptive-copy")):
        offers.append("mode 'native-adaptive-copy', which needs no draft")
    bits = 16 if "16" in pair.manifest.target.precision else 8 if "int8" in pair.manifest.target.precision else 4
    for name, fewer in () if gguf else (("int8", 8), ("int4", 4)):
        smaller = needed.total_bytes - needed.target_bytes * (1 - fewer / bits)
        if fewer < bits and smaller <= room:
            offers.append(f"the target in {name} (edgespec quantize), about {_gb(round(smaller))} in all")
            break
    if offers:
        return f"what would fit: {'; '.join(offers)}"
    return "close other programs, or take a smaller model"


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
