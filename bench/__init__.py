"""edgespec.bench: how much faster a pair answers with speculation than without on this machine, and how sure that is.

rows = prompts x arms x repetitions, interleaved, one JSONL line each     rows.py, schedule.py, measurement.py, run.py
report = pure functions over rows                                         statistics.py, bound.py, report.py, page/
verify = answers against plain's, samples against the exact distribution  verify/
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engines import Backend
    from .plan import parse_contexts, parse_gammas, parse_modes, parse_thresholds
    from .prompts import choices, load_suite
    from .prompts.downloads import DOWNLOADS, fetch
    from .report import arm_label, verdict_sentence
    from .run import run_bench
    from .table import kinds_listed, print_arms
    from .tuning import workshop
    from .verify import Draws, print_verification, run_verify, verification_sentence

__all__ = [
    "DOWNLOADS",
    "Backend",
    "Draws",
    "arm_label",
    "choices",
    "fetch",
    "kinds_listed",
    "load_suite",
    "parse_contexts",
    "parse_gammas",
    "parse_modes",
    "parse_thresholds",
    "print_arms",
    "print_verification",
    "run_bench",
    "run_verify",
    "verdict_sentence",
    "verification_sentence",
    "workshop",
]

_HOMES = {
    "Backend": "engines",
    "DOWNLOADS": "prompts.downloads",
    "Draws": "verify",
    "arm_label": "report",
    "choices": "prompts",
    "fetch": "prompts.downloads",
    "kinds_listed": "table",
    "load_suite": "prompts",
    "parse_contexts": "plan",
    "parse_gammas": "plan",
    "parse_modes": "plan",
    "parse_thresholds": "plan",
    "print_arms": "table",
    "print_verification": "verify",
    "run_bench": "run",
    "run_verify": "verify",
    "verdict_sentence": "report",
    "verification_sentence": "verify",
    "workshop": "tuning",
}


def __getattr__(name: str) -> Any:
    """Imported when asked for: the process of an engine (worker.py) starts sooner without what a report needs."""
    if name not in _HOMES:
        raise AttributeError(f"module 'edgespec.bench' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
