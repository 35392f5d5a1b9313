"""report.html: the report for people, one file that opens offline, in light and dark, and prints."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from . import charts
from .calibration import MIN_AGREEMENT
from .charts import TIMES
from .plan import REFERENCE
from .report import arm_label, verdict_parts
from .style import STYLE

DASH, ARROW, DOT = "\u2013", "\u2192", "\u00b7"
Report = Mapping[str, Any]


def render_page(report: Report) -> str:
    """The whole page. Everything in it is either text from the report, escaped, or drawn from its numbers."""
    headline = report["headline"]
    best = next((arm for arm in report["arms"] if arm["name"] == headline["arm"]), None)
    body = "\n".join(
        part
        for part in (
            _head(report, best),
            _notes(report),
            _speedup(report),
            _gamma(report),
            _where(report, best),
            _bound(report, best),
            _sameness(report),
            _settings(report),
            _machine(report),
            _method(report),
        )
        if part
    )
    data = json.dumps(report, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return _TEMPLATE.format(
        title=_esc(f"{report['pair']['name']} {DASH} edgespec bench"), style=STYLE, body=body, data=data
    )


_TEMPLATE = """<!doctype html>
<html lang="en" data-script-errors="0">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<script>
window.onerror = function () {{
  var page = document.documentElement;
  page.setAttribute("data-script-errors", String(1 + Number(page.getAttribute("data-script-errors"))));
}};
</script>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
<script type="application/json" id="report">{data}</script>
<script>
// printed, every folded part is open
window.addEventListener("beforeprint", function () {{
  document.querySelectorAll("details").forEach(function (part) {{ part.open = true; }});
}});
</script>
</body>
</html>
"""


def _esc(value: object) -> str:
    return escape(str(value))


def _unbroken(sentence: str) -> str:
    return _esc(sentence).replace("95 %", '<span class="unbroken">95 %</span>')


def _number(value: float | None, form: str = ".2f", unit: str = "") -> str:
    return DASH if value is None else f"{value:{form}}{unit}"


def _ratio(speedup: Mapping[str, Any]) -> str:
    if speedup["geomean"] is None:
        return DASH
    interval = f" [{speedup['ci95'][0]:.2f}, {speedup['ci95'][1]:.2f}]" if speedup["ci95"] else ""
    return f"{speedup['geomean']:.2f}{TIMES}{interval}"


def _interval(pair: Sequence[float] | None) -> tuple[float, float] | None:
    return (pair[0], pair[1]) if pair else None


def _kind(verdict: str | None) -> str:
    return {"faster": "faster", "slower": "slower", "reference": "reference"}.get(verdict or "", "unsure")


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], wide: bool = True) -> str:
    head = "".join(f"<th>{_esc(column)}</th>" for column in columns)
    lines = "".join("<tr>" + "".join(f"<td>{_esc(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    kind = "" if wide else ' class="narrow"'
    return f'<div class="scroll"><table{kind}><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'


def _section(title: str, lead: str, *content: str, name: str = "") -> str:
    mark = f' id="{name}"' if name else ""
    lead = f'<p class="lead">{_esc(lead)}</p>' if lead else ""
    return f"<section{mark}><h2>{_esc(title)}</h2>{lead}{''.join(content)}</section>"


def _chart(svg: str) -> str:
    return f'<div class="scroll chart">{svg}</div>' if svg else ""


def _head(report: Report, best: Mapping[str, Any] | None) -> str:
    plain = next(arm for arm in report["arms"] if arm["name"] == REFERENCE)
    device = report["device"] + (f", draft on {report['draft_device']}" if report["draft_device"] else "")
    facts = [report["pair"]["name"], device, report["machine"].get("cpu"), str(report["run"]["started_at"])[:10]]
    figures = []
    if best:
        headline = report["headline"]
        figures.append(
            (f"{headline['geomean']:.2f}{TIMES}", f"speed-up, {arm_label(best)}", _kind(headline["verdict"]))
        )
        rates = plain["tokens_per_second"]["median"], best["tokens_per_second"]["median"]
        figures.append((f"{_number(rates[0], '.1f')} {ARROW} {_number(rates[1], '.1f')}", "tokens a second", ""))
        if best["identical"]:
            same = f"{best['identical']['matched']}/{best['identical']['total']}"
            figures.append((same, "outputs identical to plain", ""))
        first = plain["ttft_ms"]["median"], best["ttft_ms"]["median"]
        figures.append((f"{_number(first[0], '.0f')} {ARROW} {_number(first[1], '.0f')} ms", "to the first token", ""))
    tiles = "".join(
        f'<div class="tile {kind}"><strong>{_esc(value)}</strong><span>{_esc(label)}</span></div>'
        for value, label, kind in figures
    )
    verdict, against_default = verdict_parts(report)
    beside = f'<p class="beside">{_unbroken(against_default)}</p>' if against_default else ""
    line = f" {DOT} ".join(_esc(fact) for fact in facts if fact)
    return (
        f'<header><p class="eyebrow">edgespec bench</p><h1>{_unbroken(verdict)}</h1>{beside}'
        f'<p class="facts">{line}</p><div class="tiles">{tiles}</div></header>'
    )


def _notes(report: Report) -> str:
    if not report["notes"]:
        return ""
    items = "".join(f"<li>{_esc(note)}</li>" for note in report["notes"])
    return f"<aside><h2>To know beside these figures</h2><ul>{items}</ul></aside>"


def _speedup(report: Report) -> str:
    bars = [
        charts.Bar(
            arm_label(arm),
            arm["speedup"]["geomean"],
            _interval(arm["speedup"]["ci95"]),
            _kind(arm["speedup"]["verdict"]),
            f"1.00{TIMES} reference" if arm["speedup"]["verdict"] == "reference" else "",
        )
        for arm in report["arms"]
        if arm["speedup"]["geomean"] is not None
    ]
    rows = [
        [
            arm_label(arm),
            _number(arm["tokens_per_second"]["median"], ".1f"),
            _ratio(arm["speedup"]),
            "failed" if arm["errors"]["count"] and not arm["answers"] else arm["speedup"]["verdict"],
            _number(arm["speedup_over_default"]["geomean"], ".2f", TIMES),
            _number(arm["ttft_ms"]["median"], ".0f"),
            _number(arm["tpot_ms"]["median"], ".2f"),
            _number(arm["tpot_ms"]["p95"], ".2f"),
            _number(arm["loaded_rss_bytes"] and arm["loaded_rss_bytes"] / 1e9, ".2f"),
        ]
        for arm in report["arms"]
    ]
    columns = [
        "arm",
        "tokens/s",
        "speed-up",
        "verdict",
        "over default",
        "TTFT ms",
        "TPOT ms",
        "TPOT p95",
        "loaded, about GB",
    ]
    lead = (
        "How many times as fast each arm answers as plain decoding with the same settings: bars are geometric means "
        "over prompts, whiskers 95 % intervals. An arm whose whisker crosses the line has not been shown to differ."
    )
    chart = charts.horizontal_bars(bars, name="speedup-chart", title="Speed-up over plain by arm", one="plain")
    return _section("Speed-up", lead, _chart(chart), _table(columns, rows))


def _gamma(report: Report) -> str:
    drafts = [
        arm
        for arm in report["arms"]
        if arm["mode"] == "draft" and arm["gamma"] is not None and arm["speedup"]["geomean"] is not None
    ]
    measured = [
        charts.Point(arm["gamma"], arm["speedup"]["geomean"], _interval(arm["speedup"]["ci95"])) for arm in drafts
    ]
    predicted = [charts.Point(arm["gamma"], p) for arm in drafts if (p := arm["predicted_speedup"]) is not None]
    svg = charts.gamma_curve(measured, predicted, name="gamma-chart", title="Speed-up by gamma")
    lead = (
        "Proposing more tokens a step gains until checking and drafting them costs more than they bring. Predicted is "
        "what the acceptance seen here and the cost of single passes on this machine allow, with no other cost."
    )
    return _section("How far to draft", lead, _chart(svg)) if svg else ""


def _where(report: Report, best: Mapping[str, Any] | None) -> str:
    if best is None:
        return ""
    by_category = [
        charts.Bar(name, item["geomean"], _interval(item["ci95"]), _kind(item["verdict"]))
        for name, item in best["by_category"].items()
        if item["geomean"] is not None
    ]
    left = charts.horizontal_bars(
        by_category, name="category-chart", title=f"Speed-up of {arm_label(best)} by kind of prompt", one="plain"
    )
    known = [arm for arm in report["arms"] if any(value is not None for value in arm["alpha"])]
    deepest = max(known, key=lambda arm: len(arm["alpha"]), default=None)
    right = ""
    if deepest:
        right = charts.columns(
            deepest["alpha"],
            name="alpha-chart",
            title="Acceptance by position",
            axis=f"position in the proposal ({arm_label(deepest)})",
        )
    content = f"<h3>By kind of prompt, {_esc(arm_label(best))}</h3>{_chart(left)}" if left else ""
    halves = [
        charts.Bar(label, half["geomean"], _interval(half["ci95"]), _kind(half["verdict"]))
        for label, half in (
            ("repeat least", best["by_repetition"].get("least")),
            ("repeat most", best["by_repetition"].get("most")),
        )
        if half and half["geomean"] is not None
    ]
    if len(halves) == 2:
        chart = charts.horizontal_bars(
            halves, name="repetition-chart", title=f"Speed-up of {arm_label(best)} by repetition", one="plain"
        )
        lead = "Half of the prompts each, by how much plain's own answer repeats itself: repetition is easy to guess."
        content += f'<h3>By how much the answers repeat themselves</h3><p class="lead">{lead}</p>{_chart(chart)}'
    if right:
        lead = "Chance that a proposed token is accepted, given that those before it were."
        content += f'<h3>Acceptance by position</h3><p class="lead">{lead}</p>{_chart(right)}'
    return _section("Where it gains", "", content) if content else ""


def _bound(report: Report, best: Mapping[str, Any] | None) -> str:
    bound = report["bound"]
    if bound is None or best is None:
        return ""
    bars = [
        charts.Bar(rung["label"], rung["speedup"], None, "loss" if rung["cause"] == bound["cause"] else "reference")
        for rung in bound["ladder"]
    ]
    drafting = [
        [
            arm_label(arm),
            _number(arm["block_efficiency"]),
            _number(arm["acceptance_rate"], ".0%"),
            _number(arm["mbsu"], ".2f", TIMES),
            _number(arm["predicted_speedup"], ".2f", TIMES),
            _number(arm["speedup"]["geomean"], ".2f", TIMES),
            _number(arm["bound"]["overhead_ms"], ".2f"),
        ]
        for arm in report["arms"]
        if arm["bound"]
    ]
    columns = ["arm", "tau", "accepted", "MBSU", "predicted", "measured", "overhead, ms a step"]
    words = "".join(f"<li>{_esc(sentence)}</li>" for sentence in bound["sentences"])
    seconds = report["passes"].get("target", {}).get("seconds", {})
    costs = ""
    if seconds:
        rows = [["ms a pass", *(f"{value * 1e3:.2f}" for value in seconds.values())]]
        rows.append(["v(n)", *(_number(best["v"].get(n)) for n in seconds)])
        costs = "<h3>A pass of the target over n tokens</h3>" + _table(["n", *seconds], rows, wide=False)
        if best["mode"] == "draft" and best["c"] is not None:
            costs += f'<p class="lead">c, a draft pass over a target pass: {best["c"]:.3f} (by parameters: '
            costs += f"{_number(best['c_params'], '.3f')}).</p>"
    chart = charts.horizontal_bars(
        bars, name="ladder-chart", title="From the ideal to the measured speed-up", gutter=290
    )
    lead = f"The speed-up of {arm_label(best)}, from the ideal down to what the clock says; the largest loss is marked."
    return _section("What bounds the gain", lead, _chart(chart), f"<ul>{words}</ul>", _table(columns, drafting), costs)


def _sameness(report: Report) -> str:
    rows = []
    for arm in report["arms"]:
        same = arm["identical"]
        if same is None:
            continue
        places = [f"{item['prompt']} at {item['position']} of {item['of']}" for item in same["first_divergence"]]
        shown = ", ".join(places[:3]) + (f" and {len(places) - 3} more" if len(places) > 3 else "")
        label = "plain again (the control)" if arm["name"] == REFERENCE else arm_label(arm)
        rows.append([label, f"{same['matched']} of {same['total']}", shown or DASH])
    if not rows:
        return ""
    lead = (
        "Greedy answers compared with plain's, token for token. Speculation is to pick the tokens that plain decoding "
        "would. Rounding, when several tokens are computed at once, can turn a near tie; plain against itself shows "
        "whether the machine repeats itself at all, which says nothing of that rounding."
    )
    return _section("Same answers", lead, _table(["arm", "identical", "first difference"], rows), name="sameness")


def _settings(report: Report) -> str:
    found = report["settings"]
    if not found["candidates"]:
        return ""
    rows = [
        [
            item["name"],
            " ".join(f"{key}={value}" for key, value in item["settings"].items()) or "nothing set",
            _number(item["ms_per_token"], ".2f"),
            "" if item["agreement"] is None else f"{item['agreement']:.1%} of {item['compared_tokens']}",
            "chosen"
            if item["name"] == found["chosen"]
            else "failed"
            if item["error"]
            else ""
            if item["kept"]
            else "excluded",
        ]
        for item in found["candidates"]
    ]
    lead = (
        f"Plain decoding was given its best settings first: {found['chosen']} ({found['reason']}). Eligible is what "
        f"agrees with the reference in at least {MIN_AGREEMENT:.0%} of greedy tokens. Every speed-up above is "
        "against the chosen ones."
    )
    columns = ["settings", "OpenVINO properties", "ms a token", "agreement", ""]
    return _section("Plugin settings", lead, _table(columns, rows), name="settings")


def _machine(report: Report) -> str:
    machine, found, pair = report["machine"], report["conditions"], report["pair"]
    facts: list[tuple[str, str]] = []
    for role in ("target", "draft"):
        if model := pair.get(role):
            size = f", {model['weights_bytes'] / 1e6:,.0f} MB" if model.get("weights_bytes") else ""
            facts.append(
                (role, f"{model['source']}, {model['parameters'] / 1e6:,.1f} M parameters, {model['precision']}{size}")
            )
    facts.append(("pair", f"{pair['name']}, sha256 {pair['sha256'][:16]}…"))
    for key, value in machine.items():
        if value is None:
            continue
        if key.endswith("_bytes"):
            key, value = key.removesuffix("_bytes"), f"{value / 2**30:.1f} GiB"
        elif isinstance(value, (list, tuple)):
            value = " ".join(map(str, value))
        facts.append((key.replace("_", " "), "yes" if value is True else "no" if value is False else str(value)))
    facts.append(("versions", ", ".join(f"{name} {version}" for name, version in report["versions"].items())))
    if found["repeat_difference"] is not None:
        facts.append(("plain against itself", f"{found['repeat_difference']:.1%} apart (median over prompts)"))
    if found["drift"] is not None:
        facts.append(("drift over the run", f"{found['drift'] - 1:+.1%} in plain's time"))
    if found["other_load"]:
        facts.append(("other programs", f"{found['other_load']['median']:.0%} of the processor (median)"))
    if found["cpu_mhz"]:
        facts.append(("processor clock", f"{found['cpu_mhz']['median']:.0f} MHz (median, as the system tells)"))
    energy = [arm for arm in report["arms"] if arm["energy_j_per_token"] is not None]
    if energy:
        facts.append(("energy", ", ".join(f"{arm['name']} {arm['energy_j_per_token']:.2f} J/token" for arm in energy)))
    items = "".join(f"<dt>{_esc(name)}</dt><dd>{_esc(value)}</dd>" for name, value in facts)
    return _section("Models, machine, versions", "", f"<dl>{items}</dl>")


def _method(report: Report) -> str:
    run, prompts = report["run"], report["prompts"]
    words = [
        f"{prompts['count']} prompts (suite {prompts['suite']}, sha256 {prompts['sha256'][:16]}…), "
        f"{run['repetitions']} repetitions, up to {run['max_new_tokens']} tokens each, greedy, seed {run['seed']}; "
        f"{run['rows']} rows.",
        "For each prompt all arms answer one after another in a random order, so heat or other work slows them alike. "
        "Engines are loaded once and warmed up; loading and tokenization are not timed; prompts are not cached.",
        "A prompt's ratio is plain's time a token over the arm's, same prompt and repetition, the median over "
        "repetitions; the speed-up is the geometric mean over prompts.",
        "Intervals: percentile bootstrap over prompts, 9,999 resamples, expanded for their number; below twelve "
        "prompts, Student's interval of the mean log ratio. The headline is the best of "
        f"{report['headline']['arms_compared']} arms, so it says faster only when the interval at a level "
        "corrected for that many (Bonferroni) excludes 1 as well; as the best of several, its figure is a little on "
        "the high side.",
        "Memory is the process's growth when an arm's engine was loaded, on top of the bare process.",
    ]
    terms = [
        ("tau", "tokens emitted per target pass, at most gamma + 1"),
        ("accepted", "proposed tokens that the target kept, over all steps"),
        ("MBSU", "memory-bound speed-up, tau / (c by parameters * gamma + 1): the papers' figure"),
        ("predicted", "tau / (v(gamma + 1) + c * gamma), from passes timed alone on this machine"),
        ("TTFT, TPOT", "time to the first token; time per token after it"),
    ]
    glossary = "".join(f"<dt>{_esc(term)}</dt><dd>{_esc(meaning)}</dd>" for term, meaning in terms)
    items = "".join(f"<li>{_esc(word)}</li>" for word in words)
    return _section(
        "How it was measured", "", f"<ul>{items}</ul><details><summary>Terms</summary><dl>{glossary}</dl></details>"
    )
