"""A draft's shape: how deep, how wide, from a budget of parameters or a shape that was asked for.

At the same number of parameters depth costs latency and width is nearly free (FastDraft, arXiv:2411.11055: speed-up
over depth is an inverted U), because layers are computed one after another and a wide matrix product fills the machine.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM

from edgespec.errors import EdgespecError

WIDTH_PER_LAYER = 160
"""A draft is made deeper only while it stays at least this wide a layer: 2x320, 4x640, 6x960."""
DEEPEST = 8
_HEAD = 64
_STEP = 64
_FFN = 2.75

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "gemma2", "gemma3_text")

Head = Literal["tied", "untied", "target"]


@dataclass(frozen=True)
class Shape:
    layers: int
    hidden: int

    @classmethod
    def parse(cls, text: str) -> Shape:
        """`LAYERSxHIDDEN`, as in 4x640."""
        layers, _, hidden = text.lower().partition("x")
        if not (layers.isdigit() and hidden.isdigit() and int(layers) and int(hidden)):
            raise EdgespecError(f"the shape is '{text}'; give layers and hidden size as in 4x640")
        return cls(int(layers), int(hidden))

    def __str__(self) -> str:
        return f"{self.layers}x{self.hidden}"


def text_config(config: Any) -> Any:
    """The configuration of the language model in `config`. Raises EdgespecError for a family that init cannot do."""
    found = getattr(config, "text_config", None) or config
    if found.model_type not in FAMILIES:
        raise EdgespecError(
            f"the target is a '{found.model_type}' and drafts can be made for {', '.join(FAMILIES)}; make a checkpoint "
            "of that architecture yourself and train it with: edgespec train pretrain"
        )
    return found


def head_size(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def group_size(config: Any) -> int:
    """Query heads of a key-value head."""
    return int(config.num_attention_heads // config.num_key_value_heads)


def draft_config(target: Any, shape: Shape, layers: list[int], head: Head, like_target: bool) -> Any:
    """The target's configuration at another size: its positions, norms, activation, ids and vocabulary stay.

    layers: the target's layers that those of the draft stand for, which decides their kind (sliding window or full).
    like_target: heads have the target's size and grouping, as copied weights need; else 64 and their own key-values.
    Raises EdgespecError when the width cannot be cut into heads.
    """
    config = copy.deepcopy(target)
    size, group = head_size(target), group_size(target)
    if shape.hidden == target.hidden_size and like_target:
        heads, pairs, ffn = target.num_attention_heads, target.num_key_value_heads, target.intermediate_size
    else:
        if not (like_target or _is_bound_to_its_head_size(target)):
            size, group = (_HEAD if size >= _HEAD else size), 1
        pairs = max(1, round(shape.hidden / (size * group)))
        heads = pairs * group
        ffn = _rounded(shape.hidden * (target.intermediate_size / target.hidden_size if like_target else _FFN))
        if heads * size != shape.hidden and not _has_own_head_size(target):
            raise EdgespecError(
                f"a hidden size of {shape.hidden} is no multiple of {size * group}, the heads of a {target.model_type} "
                f"like the target; give {_near(shape.hidden, size * group)}"
            )
    config.hidden_size = shape.hidden
    config.num_hidden_layers = shape.layers
    config.num_attention_heads, config.num_key_value_heads, config.intermediate_size = heads, pairs, ffn
    if getattr(config, "head_dim", None):
        config.head_dim = size
    if getattr(config, "query_pre_attn_scalar", None) and not like_target:
        config.query_pre_attn_scalar = size
    if getattr(config, "layer_types", None):
        config.layer_types = [target.layer_types[layer] for layer in layers]
    if getattr(config, "max_window_layers", None) is not None:
        config.max_window_layers = min(config.max_window_layers, shape.layers)
    if head != "target":
        config.tie_word_embeddings = head == "tied"
    config.dtype = None
    return config


def parameters(config: Any) -> int:
    """Exactly, counted on a model that takes no memory; a tied head once."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    tied = config.tie_word_embeddings  # without memory nothing is shared yet
    return sum(
        weight.numel() for name, weight in model.named_parameters() if not (tied and name.startswith("lm_head."))
    )


def choose_shape(target: Any, budget: int, head: Head, like_target: bool, hidden: int | None = None) -> Shape:
    """The shape that comes nearest to `budget` parameters while it stays shallow and wide. hidden: when it is given.

    Raises EdgespecError when even the smallest is above the budget, or the budget is the target's own size.
    """
    step = head_size(target) * group_size(target) if not _has_own_head_size(target) and like_target else _STEP
    if _is_bound_to_its_head_size(target) and not _has_own_head_size(target):
        step = head_size(target) * group_size(target)
    most = target.hidden_size
    widths = [hidden] if hidden else list(range(min(step, most), most + 1, step))
    fits = []
    for layers in range(1, min(DEEPEST, target.num_hidden_layers) + 1):
        chosen = spread(layers, target.num_hidden_layers)
        sizes = _sizes(target, layers, chosen, widths, head, like_target)
        width = min(sizes, key=lambda width: abs(sizes[width] - budget))
        fits.append((Shape(layers, width), sizes[width]))
    smallest = min(size for _, size in fits)
    near = [(shape, size) for shape, size in fits if abs(size - budget) <= 0.1 * budget]
    if not near:
        what = f"its vocabulary of {target.vocab_size} tokens alone takes much of it" if budget < smallest else ""
        raise EdgespecError(
            f"no draft of about {budget / 1e6:.1f} M parameters fits this target"
            + (f": {what}" if what else "")
            + f"; possible near it: {', '.join(f'{shape} ({size / 1e6:.1f} M)' for shape, size in fits[:6])}"
        )
    wide = [item for item in near if item[0].hidden >= WIDTH_PER_LAYER * item[0].layers]
    if wide and hidden is None:
        return max(wide, key=lambda item: item[0].layers)[0]
    return min(near, key=lambda item: abs(item[1] - budget))[0]


def _sizes(
    target: Any, layers: int, chosen: list[int], widths: list[int], head: Head, like_target: bool
) -> dict[int, int]:
    found = {}
    for width in widths:
        try:
            found[width] = parameters(draft_config(target, Shape(layers, width), chosen, head, like_target))
        except EdgespecError:
            continue
    if not found:
        raise EdgespecError(
            f"no width among {', '.join(map(str, widths[:8]))} can be cut into the heads of this target; give --shape"
        )
    return found


def spread(count: int, total: int) -> list[int]:
    """`count` layers of `total`, evenly, the first and the last among them."""
    if count == 1:
        return [0]
    return [round(index * (total - 1) / (count - 1)) for index in range(count)]


def _has_own_head_size(config: Any) -> bool:
    """Whether its heads need not add up to the hidden size."""
    return bool(getattr(config, "head_dim", None))


def _is_bound_to_its_head_size(config: Any) -> bool:
    """Whether its positions are stated for each dimension of a head (longrope)."""
    rope = getattr(config, "rope_parameters", None) or {}
    return any(isinstance(value, list) for value in rope.values())


def _rounded(size: float) -> int:
    return max(_STEP, round(size / _STEP) * _STEP)


def _near(size: int, step: int) -> str:
    below = size // step * step
    return f"{below} or {below + step}" if below else str(step)
