"""report.json of a load test: a pure function over its rows. Its keys are the bench's where they mean the same; a level
of load stands where the bench has an arm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any

from edgespec.spread import interval_of_median, percentile

from .rows import Header, LevelRecord, Line, Row, Span

SCHEMA = "edgespec.loadtest/1"


def build_report(lines: Sequence[Line]) -> dict[str, Any]:
    """Unknown is None."""
    header = lines[0]
    assert isinstance(header, Header)
    rows = [line for line in lines if isinstance(line, Row) and line.phase == "measure"]
    spans = {line.level: line for line in lines if isinstance(line, Span)}
    arms = [
        _level(level, [row for row in rows if row.level == level.name], spans.get(level.name), header.seed)
        for level in header.levels
    ]
    done = [arm for arm in arms if arm["throughput_tokens_per_second"] is not None]
    best = max(done, key=lambda arm: float(arm["throughput_tokens_per_second"]), default=None)
    return {
        "schema": SCHEMA,
        "complete": len(spans) == len(header.levels),
        "target": {"url": header.url, "model": header.model, "route": header.route},
        "versions": header.versions,
        "machine": header.machine,
        "prompts": {"suite": header.suite, "count": header.prompts, "sha256": header.prompts_sha256},
        "run": {
            "started_at": header.started_at,
            "seconds": header.seconds,
            "max_new_tokens": header.max_tokens,
            "sampling": {"temperature": header.temperature},
            "timeout_s": header.timeout_s,
            "seed": header.seed,
            "rows": len(rows),
        },
        "arms": arms,
        "best_arm": best["name"] if best else None,
        "notes": _notes(arms),
    }


def _level(level: LevelRecord, rows: Sequence[Row], span: Span | None, seed: int) -> dict[str, Any]:
    """tokens_per_second is what one client sees of one answer, throughput_tokens_per_second what all get together:
    tokens of answers over the time from the level's start to its last answer."""
    answered = [row for row in rows if row.error is None]
    errors = [row for row in rows if row.error is not None]
    tokens = sum(row.tokens or 0 for row in answered)
    accepted = [row.accepted for row in answered if row.accepted is not None]
    rates = [row.tokens / row.wall_s for row in answered if row.tokens and row.wall_s > 0]
    seconds = span.ended_s - span.started_s if span else None
    per_client = Counter(row.client for row in answered) if level.kind == "closed" else Counter()
    interval = interval_of_median(rates, seed)
    return {
        "name": level.name,
        "load": {"kind": level.kind, "amount": level.amount},
        "seconds": seconds,
        "requests": len(rows),
        "answers": len(answered),
        "errors": {
            "count": len(errors),
            "rate": len(errors) / len(rows) if rows else None,
            "by_status": dict(Counter(str(row.status) if row.status else "no reply" for row in errors)),
            "first": errors[0].error if errors else None,
        },
        "requests_per_second": len(answered) / seconds if seconds else None,
        "throughput_tokens_per_second": tokens / seconds if seconds and answered else None,
        "tokens_per_second": {
            "median": median(rates) if rates else None,
            "ci95": list(interval) if interval else None,
        },
        "ttft_ms": _milliseconds([row.ttft_s for row in answered]),
        "tpot_ms": _milliseconds([row.tpot_s for row in answered]),
        "wall_ms": _milliseconds([row.wall_s for row in answered]),
        "tokens": tokens,
        "accepted_share": sum(accepted) / tokens if accepted and tokens else None,
        "answers_per_client": _extent([per_client.get(number, 0) for number in range(int(level.amount))])
        if level.kind == "closed"
        else None,
        "late_ms": _milliseconds([row.sent_s - row.due_s for row in rows]) if level.kind == "open" else None,
    }


def _milliseconds(seconds: Sequence[float | None]) -> dict[str, float | None]:
    known = [value * 1e3 for value in seconds if value is not None]
    if not known:
        return {"median": None, "p95": None, "p99": None, "max": None}
    return {"median": median(known), "p95": percentile(known, 0.95), "p99": percentile(known, 0.99), "max": max(known)}


def _extent(counts: Sequence[int]) -> dict[str, int] | None:
    return {"least": min(counts), "most": max(counts)} if counts else None


def _notes(arms: Sequence[dict[str, Any]]) -> list[str]:
    notes = []
    for arm in arms:
        late = arm["late_ms"]
        if late and late["p95"] is not None and late["p95"] > 50:
            notes.append(
                f"{arm['name']}: this client sent its requests up to {late['p95']:.0f} ms late (95th "
                f"percentile); it is itself "
                "the limit, so run it on another machine"
            )
        refused = arm["errors"]["by_status"].get("429", 0)
        if refused:
            notes.append(
                f"{arm['name']}: {refused} of {arm['requests']} requests were refused with 429, the line was full"
            )
        other = arm["errors"]["count"] - refused
        if other:
            notes.append(
                f"{arm['name']}: {other} of {arm['requests']} requests failed, the first with: {arm['errors']['first']}"
            )
    return notes
