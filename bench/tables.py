"""A report and its rows as CSV, for a spreadsheet or a data frame: one line an arm, one line a row.

Lines end in a line feed alone, to be written untranslated (open(..., newline="")). A text that a spreadsheet would run
as a formula gets an apostrophe in front (CWE-1236); numbers are written as they are. Unknown is empty.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, get_origin

from .rows import Key, Line, Row
from .statistics import tpot_s

Cell = str | int | float | bool | None


def arms_csv(report: Mapping[str, Any]) -> str:
    """One line an arm. What the run was stands on every line, so files of several runs can be put below one another."""
    run = {
        "pair": report["pair"]["name"],
        "device": report["device"],
        "cpu": report["machine"].get("cpu"),
        "started_at": report["run"]["started_at"],
        "suite": report["prompts"]["suite"],
        "max_new_tokens": report["run"]["max_new_tokens"],
        "repetitions": report["run"]["repetitions"],
    }
    records = [run | _arm(arm) for arm in report["arms"]]
    return _csv(list(records[0]), records)


def rows_csv(lines: Sequence[Line]) -> str:
    """One line a row that counts (of rows with one key the last), warm-up and trial included, in the order they were
    measured. Token ids are left out; what each target pass emitted, proposed and accepted is counted."""
    last: dict[Key, int] = {line.key: place for place, line in enumerate(lines) if isinstance(line, Row)}
    rows = [line for place, line in enumerate(lines) if isinstance(line, Row) and last[line.key] == place]
    return _csv(
        [*_SINGLE, *_DERIVED],
        [
            {name: getattr(row, name) for name in _SINGLE} | {name: figure(row) for name, figure in _DERIVED.items()}
            for row in rows
        ],
    )


def _arm(arm: Mapping[str, Any]) -> dict[str, Cell]:
    same = arm.get("identical") or {}
    time = arm.get("step_time") or {}
    return {
        "arm": arm["name"],
        "engine": arm["engine"],
        "mode": arm["mode"],
        "gamma": arm["gamma"],
        "threshold": arm.get("threshold"),
        "draft_device": arm.get("draft_device"),
        "settings": arm["settings"]["name"],
        "answers": arm["answers"],
        "errors": arm["errors"]["count"],
        **_with_interval("tokens_per_second", arm["tokens_per_second"], "median"),
        "ttft_ms_median": arm["ttft_ms"]["median"],
        "ttft_ms_p95": arm["ttft_ms"]["p95"],
        "tpot_ms_median": arm["tpot_ms"]["median"],
        "tpot_ms_p95": arm["tpot_ms"]["p95"],
        **_with_interval("speedup", arm["speedup"], "geomean"),
        "verdict": arm["speedup"]["verdict"],
        "prompts": arm["speedup"]["prompts"],
        **_with_interval("speedup_over_default", arm["speedup_over_default"], "geomean"),
        "acceptance_rate": arm["acceptance_rate"],
        "block_efficiency": arm["block_efficiency"],
        "mean_proposed": arm["mean_proposed"],
        "mbsu": arm["mbsu"],
        "c": arm["c"],
        "c_params": arm["c_params"],
        "predicted_speedup": arm["predicted_speedup"],
        "largest_loss": (arm.get("bound") or {}).get("cause"),
        "identical_answers": same.get("matched"),
        "compared_answers": same.get("total"),
        "peak_rss_bytes": arm.get("peak_rss_bytes"),
        "loaded_rss_bytes": arm.get("loaded_rss_bytes"),
        "draft_ms_per_step": time.get("draft_ms"),
        "verify_ms_per_step": time.get("verify_ms"),
        "other_ms_per_step": time.get("other_ms"),
        "energy_j_per_token": arm.get("energy_j_per_token"),
        "weights_gb_per_second": arm.get("weights_gb_per_second"),
        "share_of_bandwidth_limit": arm.get("share_of_bandwidth_limit"),
        "first_error": arm["errors"]["first"],
    }


def _with_interval(name: str, found: Mapping[str, Any], centre: str) -> dict[str, Cell]:
    low, high = found["ci95"] or (None, None)
    return {f"{name}_{centre}": found[centre], f"{name}_ci95_low": low, f"{name}_ci95_high": high}


def _sum(counts: Iterable[int | None]) -> int | None:
    """Over the passes after the prefill; None where the back end tells none of them."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


_SINGLE = [name for name, field in Row.model_fields.items() if get_origin(field.annotation) is not list]
_DERIVED: dict[str, Callable[[Row], Cell]] = {
    "tokens_per_second": lambda row: row.tokens / row.wall_s if row.tokens and row.wall_s else None,
    "tpot_s": tpot_s,
    "target_passes": lambda row: len(row.emitted) or None,
    "proposed_tokens": lambda row: _sum(row.proposed[1:]),
    "accepted_tokens": lambda row: _sum(row.accepted[1:]),
}


def _csv(columns: Sequence[str], records: Iterable[Mapping[str, Cell]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in record.items()} for record in records)
    return text.getvalue()


def _cell(value: Cell) -> Cell:
    """Text on one line, and none that starts a formula."""
    if not isinstance(value, str):
        return value
    value = " ".join(value.splitlines())
    return "'" + value if value.startswith(("=", "+", "-", "@", "\t")) else value
