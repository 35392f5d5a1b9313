"""A pair of IRs to a smaller pair: weights compressed through NNCF, one recipe for the target and one for the draft.

formats.py, recipe.py         the formats, their options, what each device wants, and what is refused
plan.py, footprint.py         what is asked for, and what it takes: a recipe, memory and disk for each model
upstream.py                   optimum-intel's tuned int4 settings
texts.py, calibration.py      windows of text, for measuring and for the methods that look at activations
compress.py, lean.py          one IR compressed, in little memory; scratch.py: what it leaves lying about goes
assemble.py                   the pair
cost.py, reading.py           what it cost: agreement, KL, perplexity
acceptance.py                 acceptance with target and draft before and after, greedy and sampled
sweep_pair.py, sweep.py       formats tried against one another; the winner is kept
heats.py, timing.py           models timed in turn, in a memory that holds only some of them
front.py                      the Pareto front, and a drawing of it
"""

from __future__ import annotations

from edgespec.telemetry import stop_upstream_reports

from .assemble import SizeRow, quantize, quantize_pair
from .cost import COMBINATIONS, measure_cost, require_held_out, rows_of
from .formats import FORMATS, PRESETS
from .plan import Request, check_request, foresee
from .recipe import Options
from .sweep import MIN_AGREEMENT
from .sweep_pair import sweep_pair
from .texts import Ask, read_texts

__all__ = [
    "COMBINATIONS",
    "FORMATS",
    "MIN_AGREEMENT",
    "PRESETS",
    "Ask",
    "Options",
    "Request",
    "SizeRow",
    "check_request",
    "foresee",
    "measure_cost",
    "quantize",
    "quantize_pair",
    "read_texts",
    "require_held_out",
    "rows_of",
    "sweep_pair",
]

stop_upstream_reports()
