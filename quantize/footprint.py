"""What models hold of memory when they are compiled and run, foreseen from their sizes: before any of them is made.

Only anonymous memory counts: what OpenVINO maps from a file, the system drops when it needs room (resources.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from edgespec.ir import IR_FILES
from edgespec.pair import ModelRecord, Role
from edgespec.tuning.quality import WORKING_BYTES

from .cost import NEW_TOKENS
from .formats import FORMATS, Format
from .recipe import Recipe
from .texts import WINDOW_TOKENS

PROCESS_BYTES = 300_000_000 + WORKING_BYTES
"""Python, OpenVINO and this program, once, with what comparing logits takes beside them."""
MODEL_BYTES = 100_000_000
"""Of each model beside its weights and its logits: the graph, activations, a cache of some hundred tokens."""
_PER_BYTE = 1.05
"""Anonymous bytes for a byte of weights: the CPU plugin packs them anew, in the width they have (measured, LOG.md: bf16
run in exact f32 1.02 with all that is beside them, int8 1.18 and int4 1.33, of 0.99, 0.50 and 0.32 GB)."""
_LOGITS = WINDOW_TOKENS + NEW_TOKENS
"""Rows of logits of one text."""


def weight_bytes(record: ModelRecord, chosen: Format) -> int:
    """Of openvino_model.bin once it is in the format, with a bit a weight for scales and for layers in the backup."""
    if chosen.mode is None:
        return record.files[IR_FILES[1]].bytes
    return min(record.files[IR_FILES[1]].bytes, record.parameters * (chosen.bits + 1) // 8)


def open_bytes(record: ModelRecord, chosen: Format) -> int:
    """Anonymous memory of one compiled model in the format."""
    return MODEL_BYTES + _LOGITS * record.vocab_size * 4 + round(_PER_BYTE * weight_bytes(record, chosen))


def measuring_bytes(records: Mapping[Role, ModelRecord], recipes: Mapping[Role, Recipe]) -> int:
    """Of measuring what a recipe cost: models one after another, at the end the compressed pair and its draft again."""
    alone = [open_bytes(record, FORMATS["none"]) for record in records.values()]
    pair = sum(open_bytes(record, recipes[role].format) for role, record in records.items())
    again = open_bytes(records["draft"], recipes["draft"].format) if "draft" in records else 0
    return PROCESS_BYTES + max(*alone, pair + again)
