"""edgespec.bench: how much faster a pair answers with speculation than without on this machine, and how sure that is.

rows = prompts x arms x repetitions, interleaved, one JSONL line each     rows.py, schedule.py, run.py
report = pure functions over rows                                         statistics.py, bound.py, report.py, page.py
"""

from __future__ import annotations

from .engines import Backend
from .plan import parse_gammas, parse_modes
from .prompts import load_suite
from .report import arm_label, verdict_sentence
from .run import run_bench
from .table import print_arms

__all__ = [
    "Backend",
    "arm_label",
    "load_suite",
    "parse_gammas",
    "parse_modes",
    "print_arms",
    "run_bench",
    "verdict_sentence",
]
