"""A pair of IRs to a smaller pair: weights compressed through NNCF, one recipe for the target and one for the draft.

formats.py, recipe.py   the formats, their options, what each device wants, and what is refused
plan.py                 what is asked for, and what it takes: a recipe, memory and disk for each model
upstream.py             optimum-intel's tuned int4 settings
calibration.py          text for the methods that look at activations
compress.py, lean.py    one IR compressed, in little memory
assemble.py             the pair
cost.py, acceptance.py  what it cost: agreement, KL, perplexity; acceptance with target and draft before and after
sweep.py, front.py      formats tried against one another, and the Pareto front as a page
"""

from __future__ import annotations

from edgespec.telemetry import stop_upstream_reports

from .assemble import SizeRow, quantize, quantize_pair
from .calibration import Ask, read_texts
from .cost import measure_cost, rows_of
from .formats import FORMATS, PRESETS
from .plan import Request, check_request, foresee
from .recipe import Options
from .sweep import MIN_AGREEMENT
from .sweep_pair import sweep_pair

__all__ = [
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
    "rows_of",
    "sweep_pair",
]

stop_upstream_reports()
