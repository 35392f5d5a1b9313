"""The page's sections on why the gain is what it is: how far to draft, where a step's time goes, what bounds it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgespec.page import charts
from edgespec.page.charts import Bar, Fall, Mark, Stack
from edgespec.page.drawing import TIMES
from edgespec.page.markup import (
    DOT,
    Arm,
    Html,
    Report,
    bullets,
    figure,
    folded,
    lead,
    listed,
    number,
    pair,
    part,
    section,
    table,
)

from ..plan import REFERENCE, TUNED
from ..report import arm_label
from .arms import best_of, best_of_kinds, speculative
from .curves import Point, Series, curves

LOST_TO = {
    "acceptance": "proposals that the target did not accept",
    "verification": "checking several tokens at once",
    "drafting": "the draft's own passes",
    "overhead": "time beside the passes",
    "unsplit": "the steps themselves, which could not be divided further",
    "prompt": "reading the prompt",
}


def drafting(report: Report) -> Html:
    """Speed-up over gamma, acceptance by position, and each arm's drafting in figures."""
    return section("drafting", "How far to draft", "", _gamma(report), _acceptance(report), _figures(report))


def _gamma(report: Report) -> Html:
    engines: dict[str, list[Arm]] = {}
    for arm in speculative(report):
        if arm["gamma"] is not None and arm["mode"] == "draft" and arm["name"] != TUNED:
            engines.setdefault(_line_of(report, arm), []).append(arm)
    series = []
    for hue, (label, arms) in enumerate(engines.items()):
        measured = [Point(arm["gamma"], arm["speedup"]["geomean"], pair(arm["speedup"]["ci95"])) for arm in arms]
        series.append(Series(label, measured, hue))
        foreseen = [Point(arm["gamma"], p) for arm in arms if (p := arm["predicted_speedup"]) is not None]
        series.append(Series(f"{label}, predicted", foreseen, hue, dashed=True))
    chart = figure(
        curves, series, name="gamma-chart", title="Speed-up by gamma", axis="gamma: tokens proposed a step", one="plain"
    )
    words = (
        "Proposing more tokens a step gains until checking and drafting them costs more than they bring. Predicted is "
        "what the acceptance seen here and the cost of single passes on this machine allow, with no other cost."
    )
    return part("Speed-up by gamma", words, chart)


def _line_of(report: Report, arm: Arm) -> str:
    several = len(report.get("draft_devices") or []) > 1
    return f"{arm['engine']}, draft on {arm['draft_device']}" if several else str(arm["engine"])


def _acceptance(report: Report) -> Html:
    known = [arm for arm in report["arms"] if any(value is not None for value in arm["alpha"])]
    deepest = max(
        known, key=lambda arm: (arm["mode"] == "draft" and arm["gamma"] is not None, len(arm["alpha"])), default=None
    )
    if deepest is None:
        return Html()
    chart = figure(
        charts.columns,
        deepest["alpha"],
        name="alpha-chart",
        title=f"Acceptance by position, {arm_label(deepest)}",
        axis="position in the proposal",
    )
    words = "Chance that a proposed token is accepted, given that those before it were."
    return part(f"Acceptance by position, {arm_label(deepest)}", words, chart)


def _figures(report: Report) -> Html:
    rows = [
        [
            arm_label(arm),
            number(arm["mean_proposed"]),
            number(arm["acceptance_rate"], ".0%"),
            number(arm["block_efficiency"]),
            number(arm["mbsu"], ".2f", TIMES),
            number(arm["predicted_speedup"], ".2f", TIMES),
            number(arm["speedup"]["geomean"], ".2f", TIMES),
            number(arm["weights_gb_per_second"], ".1f"),
        ]
        for arm in speculative(report)
    ]
    columns = ["arm", "proposed a step", "accepted", "tau", "MBSU", "predicted", "measured", "GB/s"]
    return folded("Each arm's drafting in figures", table(columns, rows, about="drafting"))


@dataclass(frozen=True)
class _StepTime:
    """Milliseconds of a step and its parts; None: not known. measured: by the engine, inside the run."""

    arm: Arm
    measured: bool
    whole: float
    target: float | None
    draft: float | None
    rest: float | None

    @property
    def source(self) -> str:
        if self.target is None:
            return "not divided"
        return "all measured" if self.measured else "parts estimated"

    @property
    def parts(self) -> list[tuple[str, float]]:
        if self.target is None:
            return [("unsplit", self.whole)]
        if self.draft is None or self.rest is None:
            return [("target", self.target), ("unsplit", max(0.0, self.whole - self.target))]
        return [("target", self.target), ("draft", self.draft), ("rest", max(0.0, self.rest))]


def steps(report: Report) -> Html:
    """Where a step's time goes, arm by arm."""
    found = list(_step_times(report))
    plain = next(arm for arm in report["arms"] if arm["name"] == REFERENCE)["tpot_ms"]["median"]
    key = [("target", "target's pass"), ("draft", "draft's passes"), ("rest", "the rest")]
    if any(kind == "unsplit" for step in found for kind, _ in step.parts):
        key.append(("unsplit", "not divided"))
    chart = figure(
        charts.stacked_bars,
        [Stack(arm_label(step.arm), step.parts, f"{step.whole:.1f} ms; {step.source}") for step in found],
        name="step-chart",
        title="Milliseconds a step",
        key=key,
        unit=" ms",
        mark=Mark(plain, f"a plain step, {plain:.1f} ms") if plain else None,
    )
    rows = [
        [
            arm_label(step.arm),
            step.source,
            number(step.whole, ".2f"),
            number(step.target, ".2f"),
            number(step.draft, ".2f"),
            number(step.rest, ".2f"),
            number(step.arm["block_efficiency"]),
            number(step.arm["tpot_ms"]["median"]),
        ]
        for step in found
    ]
    columns = ["arm", "source", "step, ms", "target", "draft", "rest", "tokens a step", "ms a token"]
    sources = {step.source for step in found}
    said = []
    if "all measured" in sources:
        said.append("All measured: the engine itself timed its passes during the run.")
    if "parts estimated" in sources:
        said.append(
            "Parts estimated: the engine does not tell, so its passes were timed alone, and the rest is "
            "what of the measured step is left."
        )
    if "not divided" in sources:
        said.append("Not divided: no single pass was timed that would do.")
    if any(step.rest is not None and step.rest < 0 for step in found):
        said.append("A rest below 0 means that the passes took longer alone than in the run; the bar is then too long.")
    words = "One step of each arm: what it takes, and of what. A step makes several tokens, a plain step makes one."
    return section(
        "steps",
        "Where a step's time goes",
        words,
        chart,
        lead(" ".join(said)) if found else Html(),
        folded("The figures", table(columns, rows, about="time of a step")),
    )


def _step_times(report: Report) -> Iterator[_StepTime]:
    for arm in speculative(report):
        time, bound = arm["step_time"], arm["bound"]
        if time:
            yield _StepTime(arm, True, sum(time.values()), time["verify_ms"], time["draft_ms"], time["other_ms"])
        elif bound and bound["iteration_ms"] is not None:
            yield _StepTime(
                arm,
                False,
                bound["iteration_ms"],
                bound["target_pass_ms"],
                bound["draft_passes_ms"],
                bound["overhead_ms"],
            )


def bounds(report: Report) -> Html:
    """What is lost on the way from the ideal to the clock, what a pass costs, and how near the memory's limit it is."""
    return section("bounds", "What bounds the gain", "", _ladder(report), _passes(report), _bandwidth(report))


def _ladder(report: Report) -> Html:
    best, bound = best_of(report), report["bound"]
    if best is None or bound is None or not bound["ladder"]:
        return Html()
    falls = []
    for rung in bound["ladder"]:
        share = rung.get("share")
        note = f"{rung['speedup']:.2f}{TIMES}"
        if share is not None:
            note += f" {DOT} {share:.0%}"
        falls.append(
            Fall(rung["label"], rung["speedup"], "loss" if rung["cause"] == bound["cause"] else "reference", note)
        )
    chart = figure(
        charts.falling_bars, falls, name="ladder-chart", title="From the ideal to the measured speed-up", one="plain"
    )
    words = (
        f"The speed-up of {arm_label(best)}, from the ideal down to what the clock says. Beside each rung: what is "
        "left, and the rung's share of the whole gap. Equal lengths are equal factors; the largest loss is marked."
    )
    return part(
        "From the ideal to the clock",
        words,
        chart,
        bullets(filter(None, [_shares(report), *bound["sentences"]])),
    )


def _shares(report: Report) -> str:
    """The ladder in one sentence, largest loss first."""
    ladder = report["bound"]["ladder"]
    known = [rung for rung in ladder if rung.get("share") is not None]
    losses = sorted((rung for rung in known if rung["share"] >= 0.005), key=lambda rung: -rung["share"])
    if not losses:
        return ""
    words = [
        f"{rung['share']:.0%} {'goes ' if not index else ''}to {LOST_TO[rung['cause']]}"
        for index, rung in enumerate(losses)
    ]
    ends = [f"{rung['speedup']:.2f}{TIMES}" for rung in (ladder[0], ladder[-1])]
    said = f"Of the gap between {ends[0]} and {ends[1]}, {listed(words)}"
    gains = [rung for rung in known if rung["share"] <= -0.005]
    if gains:
        said += "; won back: " + listed([f"{-rung['share']:.0%} at '{rung['label']}'" for rung in gains])
    return said + "."


def _passes(report: Report) -> Html:
    best = best_of(report)
    found = report["passes"].get("target", {})
    seconds = found.get("seconds", {})
    if not seconds or best is None:
        return Html()
    rows = [
        ["ms a pass", *(f"{value * 1e3:.2f}" for value in seconds.values())],
        ["v(n)", *(number(best["v"].get(n)) for n in seconds)],
    ]
    words = f"Timed alone on {found['device']}, behind {found['context']} other tokens, after every round."
    if best["mode"] == "draft" and best["c"] is not None:
        words += (
            f" c, a draft pass among those of a proposal over a target pass: {best['c']:.3f} (by parameters: "
            f"{number(best['c_params'], '.3f')})."
        )
    return part("A pass of the target over n tokens", words, table(["n", *seconds], rows, "narrow", "pass costs"))


def _bandwidth(report: Report) -> Html:
    limit, error = report["bandwidth"]["limit_gb_per_second"], report["bandwidth"]["error"]
    bars = []
    shown = [arm for arm in report["arms"] if arm["mode"] == "plain"] + best_of_kinds(report)
    for arm in shown:
        reached, share = arm["weights_gb_per_second"], arm["share_of_bandwidth_limit"]
        if reached is None:
            continue
        note = f"{reached:.1f} GB/s" + (f" {DOT} {share:.0%}" if share is not None else "")
        kind = "reference" if arm["mode"] == "plain" else "unsure"
        bars.append(Bar(arm_label(arm), reached, None, kind, note))
    chart = figure(
        charts.horizontal_bars,
        bars,
        name="bandwidth-chart",
        title="Target weights read per second",
        mark=Mark(limit, f"limit {limit:.1f} GB/s") if limit else None,
        unit="",
    )
    words = (
        "The target's weights, once a step, over the time of a step, for plain decoding and the best arm of each kind. "
    )
    if limit:
        words += (
            "The limit is what this device reads at best, timed on one large matrix. Plain decoding near it is bound "
            "by memory, which is where several tokens a pass cost little more than one; above it, the weights fit the "
            "processor's cache."
        )
    else:
        words += "The device's limit was not measured" + (f": {error}" if error else ".")
    return part("Memory bandwidth", words, chart)
