"""report.html of a load test: one file that opens offline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgespec.page.charts import Bar, horizontal_bars
from edgespec.page.document import render_document
from edgespec.page.markup import DOT, Html, bullets, figure, number, section, table, terms, text

from .table import COLUMNS, row

Report = Mapping[str, Any]


def render_page(report: Report) -> str:
    """Everything in it is text from the report, escaped, or drawn from its numbers."""
    arms = report["arms"]
    target, run, machine = report["target"], report["run"], report["machine"]
    facts = f" {DOT} ".join([target["model"], target["url"], str(run["started_at"])[:10]])
    head = (
        f'<header><p class="eyebrow">edgespec loadtest</p><h1>{text(verdict(report))}</h1>'
        f'<p class="facts">{text(facts)}</p></header>'
    )
    notes = f"<aside><h2>To know beside these figures</h2>{bullets(report['notes'])}</aside>" if report["notes"] else ""
    whiskers = "Bars end at the median, whiskers at the 95th percentile."
    levels = table(COLUMNS, map(row, arms), about="levels")
    together = _bars(arms, "throughput_tokens_per_second", None)
    sections = [
        section(
            "levels", "By load", "Times: median / 95th percentile. Waits count from when a request was due.", levels
        ),
        section("throughput", "Tokens a second, all clients together", "", together),
        section("first", "Milliseconds to the first token", whiskers, _bars(arms, "ttft_ms", "p95")),
        section("each", "Milliseconds a token after the first", whiskers, _bars(arms, "tpot_ms", "p95")),
        section("fair", "Answers by client", "", _fair(arms)),
        section("method", "Machine and method", "", _method(report, machine, run)),
    ]
    return render_document(f"{target['model']}, load", [head, notes, *sections], report, "report")


def verdict(report: Report) -> str:
    """The whole test in a sentence."""
    best = next((arm for arm in report["arms"] if arm["name"] == report["best_arm"]), None)
    if best is None:
        return "No request was answered"
    errors = sum(arm["errors"]["count"] for arm in report["arms"])
    requests = sum(arm["requests"] for arm in report["arms"])
    return (
        f"{best['throughput_tokens_per_second']:.0f} tokens a second at most, at {best['name']}, the first token after "
        f"{number(best['ttft_ms']['median'], '.0f')} ms (95 % within {number(best['ttft_ms']['p95'], '.0f')} ms); "
        f"{errors} of {requests} requests were not answered"
    )


def _bars(arms: list[dict[str, Any]], key: str, whisker: str | None) -> Html:
    bars = []
    for arm in arms:
        found = arm[key]
        value = found["median"] if whisker else found
        if value is None:
            continue
        interval = (value, found[whisker]) if whisker else None
        bars.append(Bar(arm["name"], value, interval, "faster" if whisker is None else "reference"))
    name = key.removesuffix("_ms").replace("_", "-")
    return figure(horizontal_bars, bars, name=name, title=name, form=".1f", unit="") if bars else Html()


def _fair(arms: list[dict[str, Any]]) -> Html:
    rows = [
        [arm["name"], str(found["least"]), str(found["most"])]
        for arm in arms
        if (found := arm["answers_per_client"]) and arm["load"]["amount"] > 1
    ]
    return table(("load", "fewest", "most"), rows, about="answers by client")


def _method(report: Report, machine: Report, run: Report) -> Html:
    prompts = report["prompts"]
    facts: list[tuple[str, object]] = [
        ("client's machine", ", ".join(str(machine[key]) for key in ("cpu", "os") if machine.get(key))),
        ("versions", ", ".join(f"{name} {version}" for name, version in report["versions"].items())),
        ("prompts", f"{prompts['count']} of suite {prompts['suite']}, sha256 {prompts['sha256'][:16]}"),
        ("each level", f"{run['seconds']:g} s, answers of at most {run['max_new_tokens']} tokens"),
        ("temperature", f"{run['sampling']['temperature']:g}"),
        ("seed", run["seed"]),
    ]
    return terms(facts)
