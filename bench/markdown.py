"""report.md: the report where a page cannot be shown, in a pull request or a wiki. GitHub's dialect of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .promise import PROMISE_COLUMNS, PROMISE_TITLE, promise_cells
from .report import arm_label, verdict_parts

DASH, TIMES = "\u2013", "\u00d7"
Report = Mapping[str, Any]


def markdown(report: Report) -> str:
    """Verdict, arms, where the best one gains, what bounds it, conditions, notes and method. Everything that comes from
    outside (names, errors) is escaped."""
    best = next((arm for arm in report["arms"] if arm["name"] == report["headline"]["arm"]), None)
    parts = [
        f"# {literal(report['pair']['name'])} on {literal(report['device'])}",
        *(literal(part) for part in verdict_parts(report) if part),
        _section("Notes", bullets(report["notes"])),
        _section("Arms", _arms(report)),
        _section(PROMISE_TITLE, _promise(report)),
        *(_groups(best) if best else []),
        _section("What bounds the gain", _bound(report)),
        _section("Where a step's time goes", _step_time(report)),
        _section("Same answers", _sameness(report)),
        _section("Machine and conditions", bullets(_conditions(report))),
        _section("How it was measured", bullets(_method(report))),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def literal(value: object) -> str:
    """Text that renders as it is written, on one line, in a table too."""
    text = " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;")
    text = re.sub(r"([\\`*|~\[\]])", r"\\\1", text)
    return re.sub(r"(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])", r"\\_", text)


def grid(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already; the first column left-aligned, the others right. "" without rows."""
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    rule = "|".join([" --- ", *(" ---: " for _ in columns[1:])])
    return "\n".join([f"| {' | '.join(columns)} |", f"|{rule}|", *lines]) if lines else ""


def bullets(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {literal(sentence)}" for sentence in sentences)


def number(value: float | None, form: str = ".2f", unit: str = "") -> str:
    return DASH if value is None else f"{value:{form}}{unit}"


def ratio(value: float | None, interval: Sequence[float] | None, digits: int = 2) -> str:
    """1.62× [1.50, 1.74]"""
    if value is None:
        return DASH
    shown = f"{value:.{digits}f}{TIMES}"
    return shown + (f" [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]" if interval else "")


def _section(title: str, content: str) -> str:
    return f"## {title}\n\n{content}" if content else ""


def _arms(report: Report) -> str:
    columns = [
        "arm", "tokens/s", "speed-up [95 %]", "verdict", "over default", "tau", "accepted", "TTFT ms", "TPOT ms",
        "peak GB", "identical",
    ]  # fmt: skip
    return grid(columns, [_arm(arm) for arm in report["arms"]])


def _promise(report: Report) -> str:
    return grid(
        PROMISE_COLUMNS, [[literal(cell) for cell in row] for row in promise_cells(report.get("promise") or [])]
    )


def _arm(arm: Mapping[str, Any]) -> list[str]:
    speedup, same = arm["speedup"], arm["identical"]
    memory = arm.get("peak_rss_bytes") or arm.get("loaded_rss_bytes")
    failed = arm["errors"]["count"] and not arm["answers"]
    return [
        literal(arm_label(arm)),
        number(arm["tokens_per_second"]["median"], ".1f"),
        ratio(speedup["geomean"], speedup["ci95"]),
        "failed" if failed else speedup["verdict"],
        ratio(arm["speedup_over_default"]["geomean"], None),
        number(arm["block_efficiency"]),
        number(arm["acceptance_rate"], ".0%"),
        number(arm["ttft_ms"]["median"], ".0f"),
        number(arm["tpot_ms"]["median"]),
        number(memory and memory / 1e9),
        DASH if same is None else f"{same['matched']}/{same['total']}",
    ]


def _groups(best: Mapping[str, Any]) -> list[str]:
    """The best arm's speed-up in each kind of prompt, turn and length of context."""
    label = literal(arm_label(best))
    titles = {
        "by_category": ("By kind of prompt", "kind"),
        "by_turn": ("By turn of the conversation", "turn"),
        "by_context": ("By length of the context", "tokens in front"),
        "by_temperature": ("By temperature", "temperature"),
        "by_repetition": ("By how much the answers repeat themselves", "half of the prompts"),
    }
    parts = []
    for key, (title, column) in titles.items():
        rows = [
            [
                literal(f"repeats {name}" if key == "by_repetition" else name),
                ratio(found["geomean"], found["ci95"]),
                found["verdict"],
                number(found.get("acceptance_rate"), ".0%"),
                number(found.get("block_efficiency")),
            ]
            for name, found in (best.get(key) or {}).items()
            if found["geomean"] is not None
        ]
        table = grid([column, "speed-up [95 %]", "verdict", "accepted", "tau"], rows)
        parts.append(_section(f"{title}, {label}", table))
    return parts


def _bound(report: Report) -> str:
    bound = report.get("bound")
    if not bound:
        return ""
    rows = [
        [literal(rung["label"]), ratio(rung["speedup"], None), _cause(rung, bound["cause"])] for rung in bound["ladder"]
    ]
    table = grid(["from the ideal down", "speed-up", "lost to"], rows)
    return "\n\n".join(filter(None, [table, bullets(bound["sentences"])]))


def _cause(rung: Mapping[str, Any], largest: str) -> str:
    if not rung["cause"]:
        return ""
    return f"**{rung['cause']}**" if rung["cause"] == largest else str(rung["cause"])


def _step_time(report: Report) -> str:
    rows = [
        [literal(arm_label(arm)), *(number(time.get(key)) for key in ("draft_ms", "verify_ms", "other_ms"))]
        for arm in report["arms"]
        if (time := arm.get("step_time"))
    ]
    return grid(["arm", "drafting, ms", "verifying, ms", "other, ms"], rows)


def _sameness(report: Report) -> str:
    """Greedy answers against plain's, beside what was checked where nothing is rounded and where plain is batched."""
    checked = report.get("sameness") or {}
    exact, batched = checked.get("exact") or {}, checked.get("batched_control") or {}
    rows = [
        [
            literal(arm_label(arm)),
            _matched(arm["identical"]),
            _matched(exact.get(arm["name"])),
            _first(arm["identical"]),
        ]
        for arm in report["arms"]
        if arm["identical"] is not None or arm["name"] in exact
    ]
    if batched.get("total"):
        rows.append(["plain, all prompts in one batch (the control)", _matched(batched), DASH, DASH])
    return grid(["arm", "identical", "at exact precision", "first difference"], rows)


def _matched(same: Mapping[str, Any] | None) -> str:
    return f"{same['matched']}/{same['total']}" if same and same.get("total") else DASH


def _first(same: Mapping[str, Any] | None) -> str:
    places = (same or {}).get("first_divergence") or []
    return literal(f"{places[0]['prompt']} at token {places[0]['position']}") if places else DASH


def _conditions(report: Report) -> list[str]:
    machine, found, pair = report["machine"], report["conditions"], report["pair"]
    said = [
        f"{role}: {model['source']}, {model['parameters'] / 1e6:,.1f} M parameters, {model['precision']}"
        for role in ("target", "draft")
        if (model := pair.get(role))
    ]
    memory = machine.get("memory_bytes")
    facts = [
        machine.get("cpu"),
        f"{machine['logical_cores']} logical cores" if machine.get("logical_cores") else None,
        f"{memory / 2**30:.1f} GiB" if memory else None,
        machine.get("os"),
    ]
    said.append("machine: " + ", ".join(str(fact) for fact in facts if fact))
    said.append("versions: " + ", ".join(f"{name} {version}" for name, version in report["versions"].items()))
    if found.get("repeat_difference") is not None:
        said.append(f"plain against itself: {found['repeat_difference']:.1%} apart (median over prompts)")
    if found.get("drift") is not None:
        said.append(f"drift over the run: {found['drift'] - 1:+.1%} in plain's time")
    if found.get("other_load"):
        said.append(f"other programs: {found['other_load']['median']:.0%} of the processor (median)")
    if found.get("cpu_mhz"):
        said.append(f"processor clock: {found['cpu_mhz']['median']:.0f} MHz (median, as the system tells)")
    if found.get("temperature_c"):
        said.append(f"temperature: up to {found['temperature_c']['max']:.0f} °C")
    if found.get("on_battery") is not None:
        said.append("power: battery" if found["on_battery"] else "power: mains")
    limit = (report.get("bandwidth") or {}).get("limit_gb_per_second")
    if limit:
        said.append(f"memory read at best: {limit:.1f} GB/s")
    return said


def _method(report: Report) -> list[str]:
    run, prompts, settings = report["run"], report["prompts"], report["settings"]
    sampling = run.get("sampling") or {}
    how = ", ".join(f"{name} {value}" for name, value in sampling.items()) if sampling.get("temperature") else "greedy"
    said = [
        f"{prompts['count']} prompts (suite {prompts['suite']}, sha256 {prompts['sha256'][:16]}), "
        f"{run['repetitions']} repetitions, up to {run['max_new_tokens']} tokens each, {how}, seed {run['seed']}; "
        f"{run['rows']} rows from {run['started_at']} on.",
        f"Settings of every arm: {settings['chosen']} ({settings['reason']}).",
        "A prompt's ratio is plain's time a token over the arm's, same prompt and repetition, measured seconds apart in"
        " random order; the speed-up is their geometric mean, the interval 95 % over prompts.",
    ]
    if run.get("stopped_because"):
        said.append(f"It stopped there because: {run['stopped_because']}.")
    return said
