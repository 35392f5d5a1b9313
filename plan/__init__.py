"""Planning a draft before there is one: twins of real shapes with an acceptance that is set.

shapes.py knows published shapes, cycle.py says who follows whom, layout.py names the tensors, rotation.py serves models
whose head is their embedding, shards.py and tokenizer.py write files, separation.py checks, twin.py makes a pair of
them, prompts.py and acceptance.py measure them.
"""

from __future__ import annotations

from .acceptance import MeasuredAlpha, measure_alpha
from .prompts import apart_prompts
from .shapes import SHAPES, find_shape, llama_shape
from .twin import make_twins

__all__ = ["SHAPES", "MeasuredAlpha", "apart_prompts", "find_shape", "llama_shape", "make_twins", "measure_alpha"]
