"""report.html: the report for people, one file that opens offline, in light and dark, and prints.

gain.py       speed-up by arm, and where it gains
drafting.py   how far to draft, where a step's time goes, what bounds the gain
cost.py       latency, memory, energy
evidence.py   same answers, settings, machine, method
"""

from __future__ import annotations

from edgespec.page.document import render_document
from edgespec.page.drawing import TIMES
from edgespec.page.markup import ARROW, DASH, DOT, Html, bullets, contents, kind, listed, number, text

from ..plan import REFERENCE, UNTOUCHED
from ..report import arm_label, verdict_parts
from .arms import Arm, Report, best_of
from .cost import costs
from .drafting import bounds, drafting, steps
from .evidence import drafted_on, machine, method, sameness, settings
from .gain import gain, where

TWIN = "twin:"
"""How a model's source begins that is a twin (edgespec.twins)."""


def render_page(report: Report) -> str:
    """The whole page. Everything in it is either text from the report, escaped, or drawn from its numbers; what was not
    measured has no section."""
    sections = {
        "Speed-up": gain(report),
        "Where it gains": where(report),
        "How far to draft": drafting(report),
        "Step time": steps(report),
        "Bounds": bounds(report),
        "Latency, memory": costs(report),
        "Same answers": sameness(report),
        "Settings": settings(report),
        "Machine": machine(report),
        "Method": method(report),
    }
    body = [_twins(report), _head(report), _notes(report), contents(sections), *sections.values()]
    title = f"{report['pair']['name']} {DASH} edgespec bench"
    return render_document(title, [part for part in body if part], report, "report")


def _twins(report: Report) -> Html:
    """The banner over figures of a twin; "" where both models are what they say."""
    found = [
        f"the {role} is {model['source'].removeprefix(TWIN)}"
        for role in ("target", "draft")
        if (model := report["pair"].get(role)) and str(model["source"]).startswith(TWIN)
    ]
    if not found:
        return Html()
    return Html(
        '<div class="banner" role="note"><strong>Figures of a twin, not of a trained model.</strong> '
        f"Here {text(listed(found))}: random weights in the real model's shape, with an acceptance that was set, not "
        "learnt. Times, memory and the gain at that acceptance hold for the shape; what a trained pair accepts, says "
        "and gains is not known from them.</div>"
    )


def _head(report: Report) -> str:
    best = best_of(report)
    device = report["device"] + drafted_on(report)
    facts = [report["pair"]["name"], device, report["machine"].get("cpu"), str(report["run"]["started_at"])[:10]]
    tiles = "".join(
        f'<div class="tile {style}"><strong>{text(value)}</strong><span>{text(label)}</span></div>'
        for value, label, style in (_tiles(report, best) if best else [])
    )
    verdict, beside = verdict_parts(report)
    line = f" {DOT} ".join(text(fact) for fact in facts if fact)
    return (
        f'<header><p class="eyebrow">edgespec bench</p><h1>{_unbroken(verdict)}</h1>'
        + (f'<p class="against">{_unbroken(beside)}</p>' if beside else "")
        + f'<p class="facts">{line}</p>'
        + (f'<div class="tiles">{tiles}</div>' if tiles else "")
        + "</header>"
    )


def _tiles(report: Report, best: Arm) -> list[tuple[str, str, str]]:
    """(figure, what it is, CSS class): the best arm beside the plain decoding that the headline compares it with."""
    headline = report["headline"]
    arms = {arm["name"]: arm for arm in report["arms"]}
    base = arms.get(headline["over"], arms[REFERENCE])
    over = " over the untouched default" if base["name"] == UNTOUCHED else ""
    tiles = [
        (f"{headline['geomean']:.2f}{TIMES}", f"speed-up{over}, {arm_label(best)}", kind(headline["verdict"])),
        (_from_to(base, best, "tokens_per_second", ".1f"), "tokens a second", ""),
        (_from_to(base, best, "ttft_ms", ".0f"), "ms to the first token", ""),
    ]
    if best["identical"]:
        tiles.insert(
            2, (f"{best['identical']['matched']}/{best['identical']['total']}", "outputs identical to plain", "")
        )
    if base["peak_rss_bytes"] and best["peak_rss_bytes"]:
        held = [f"{arm['peak_rss_bytes'] / 1e9:.2f}" for arm in (base, best)]
        tiles.append((f" {ARROW} ".join(held), "GB of memory at the peak", ""))
    return tiles


def _from_to(base: Arm, best: Arm, key: str, form: str) -> str:
    return f"{number(base[key]['median'], form)} {ARROW} {number(best[key]['median'], form)}"


def _unbroken(sentence: str) -> str:
    return text(sentence).replace("95 %", '<span class="unbroken">95 %</span>')


def _notes(report: Report) -> str:
    if not report["notes"]:
        return ""
    return f"<aside><h2>To know beside these figures</h2>{bullets(report['notes'])}</aside>"
