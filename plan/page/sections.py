"""The sections of plan.html, each from the document alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgespec.page.charts import Bar, Mark, horizontal_bars
from edgespec.page.curves import Point, Series, curves
from edgespec.page.drawing import TIMES
from edgespec.page.markup import DASH, Html, figure, folded, number, part, section, table

from ..answers import CONTEXT, MAP_ALPHAS, doubts, gamma_steps
from ..step_model import GAMMAS
from .charts import Place, surface

Document = Mapping[str, Any]


def ranking(document: Document) -> Html:
    """Shapes by gain, and where each breaks even."""
    drafts = document["drafts"]
    bars = [
        Bar(
            f"{draft['shape']} twin, {kind}",
            draft["published"]["gain"][kind],
            kind="faster" if draft["published"]["gain"][kind] > 1.005 else "unsure",
        )
        for draft in drafts
        for kind in ("text", "code")
    ]
    rows = [
        (
            f"{draft['shape']} (twin)",
            f"{draft['parameters'] / 1e6:,.1f}",
            number(draft["c"], ".3f"),
            number(draft["c_params"], ".3f"),
            "never" if draft["breakeven_acceptance"] is None else number(draft["breakeven_acceptance"]),
            "never" if draft["breakeven_rate"] is None else f"{draft['breakeven_rate']:.1%}",
            draft["best_gamma"],
            f"{draft['published']['gain']['text']:.2f}{TIMES}",
            f"{draft['published']['gain']['code']:.2f}{TIMES}",
            f"{draft['pair_memory_bytes'] / 1e9:.1f}",
        )
        for draft in drafts
    ]
    source = drafts[0]["published"] if drafts else None
    words = (
        f"At the acceptance {source['draft']} is published with ({source['source']}: {source['rate']['text']:.0%} on "
        f"text, {source['rate']['code']:.0%} on code, as accepted / drafted; the same for every shape here, though a "
        "larger draft is accepted a little more), at each shape's best gamma."
        if source
        else ""
    )
    columns = (
        "shape", "M parameters", "c", "c, params", "break-even", "rate, gamma 3", "best gamma",
        "gain, text", "gain, code", "pair, GB",
    )  # fmt: skip
    return section(
        "ranking",
        "Which shape",
        words,
        figure(horizontal_bars, bars, name="gain", title="Gain by shape, twins", mark=Mark(1.0, "plain decoding")),
        table(columns, rows, about="shapes of drafts, ranked"),
    )


def maps(document: Document) -> Html:
    """The surface of each shape, and all shapes' best against one another."""
    drafts = document["drafts"]
    lines = [
        Series(
            f"{draft['shape']} (twin)",
            [
                Point(alpha, max(1.0, *(draft["surface"][str(g)][i] for g in GAMMAS)))
                for i, alpha in enumerate(MAP_ALPHAS)
            ],
            hue,
        )
        for hue, draft in enumerate(drafts)
    ]
    together = figure(
        curves, lines, name="best", title="Gain at the best gamma by alpha, twins", axis="alpha", one="plain decoding",
        tick=_fifths,
    )  # fmt: skip
    inside = [part("All shapes", "Each at its best gamma, plain decoding where none pays.", together)]
    for number_of, draft in enumerate(drafts):
        places = [Place(found["alpha"], found["name"]) for found in draft["measured_acceptance"]]
        if not places:
            alphas = draft["published"]["alpha"]
            places = [Place(alphas[kind], f"FastDraft, {kind}") for kind in ("text", "code")]
        drawn = figure(
            surface,
            MAP_ALPHAS,
            [(str(gamma), draft["surface"][str(gamma)]) for gamma in reversed(GAMMAS)],
            name=f"map-{number_of}",
            title=f"Speed-up of the twin {draft['shape']} by alpha and gamma",
            axis="alpha",
            side="gamma",
            line_at=[draft["breakeven_by_gamma"][str(gamma)] for gamma in reversed(GAMMAS)],
            places=places,
        )
        steps = ", ".join(gamma_steps(draft["best_gamma_by_alpha"]))
        inside.append(part(f"{draft['shape']} (twin)", f"Best gamma: {steps}.", drawn))
    return section(
        "maps",
        "Speed-up by acceptance and gamma",
        "Alpha is the chance that a proposal is accepted given that those before it were; gamma how many are "
        "proposed. The dashed line is break-even, the framed cell the best gamma of its alpha. "
        + (
            "Upright lines: acceptance measured with real drafts."
            if document["acceptance"]
            else "Upright lines: what FastDraft's published rates come to, were alpha the same at every position."
        ),
        *inside,
    )


def trees(document: Document) -> Html:
    """How often a second guess must be right for a tree to pay."""
    inside = []
    for number_of, draft in enumerate(document["drafts"]):
        found = draft["trees"]

        def note(row: int, column: int, found: Mapping[str, Any] = found) -> str:
            cell = found["by_rho"][list(reversed(found["by_rho"]))[row]][column]
            return f"{cell['nodes']} nodes, {cell['depth']} deep, {cell['speedup']:.2f}{TIMES} over plain"

        drawn = figure(
            surface,
            found["alphas"],
            [(rho, [cell["over_chain"] for cell in found["by_rho"][rho]]) for rho in reversed(found["by_rho"])],
            name=f"trees-{number_of}",
            title=f"Best tree over best chain, twin {draft['shape']}",
            axis="alpha",
            side="rho",
            notes=note,
        )
        needed = found["rho_needed"]["0.7"]
        words = (
            f"At alpha 0.7 a tree pays from rho {needed:.2f}." if needed is not None else "At alpha 0.7 no tree pays."
        )
        inside.append(part(f"{draft['shape']} (twin)", words, drawn))
    return section(
        "trees",
        "Chains and trees",
        "The fastest tree over the fastest chain (or plain decoding). Rho is the chance that a draft's next best "
        "token is right where those before it were not; twins cannot tell it, their second guesses are random. Times "
        "are of passes over as many tokens as a tree has nodes; a tree's draft passes go a level at a time.",
        *inside,
    )


def validation(document: Document) -> Html:
    """The step-time model beside real runs."""
    held = document["held_back"]
    rows = [
        (
            f"{point['draft']} (twin)",
            f"{point['alpha']:g}",
            point["gamma"],
            f"{point['predicted_speedup']:.2f}{TIMES}",
            f"{point['measured_speedup']:.2f}{TIMES}",
            f"{point['error']:+.1%}",
            point["answers"],
            "held back" if point["held_back"] else "fitted to",
        )
        for point in document["validation"]
    ]
    words = (
        f"{held['within_10_percent']} of {held['points']} held-back points are within 10 %. " if held["points"] else ""
    )
    words = " ".join([*doubts(document), words])
    return section(
        "validation",
        "Predicted and measured",
        words
        + "Real answers of twins, native engine, greedy, by turns with the draft and without; they are those whose tau "
        "is the expected one, so acceptance does not scatter the speed-up. The model is made of passes that were timed "
        "between the turns, of plain steps, and of speculative steps at the points that say so; those at held-back "
        "points had no part in it.",
        table(
            ("draft", "alpha", "gamma", "predicted", "measured", "error", "answers", ""),
            rows,
            about="predicted and measured",
        ),
    )


def costs(document: Document) -> Html:
    """What passes take, and memory."""
    target = document["target"]
    drafts = document["drafts"]
    lengths = list(drafts[0]["v"]) if drafts else []
    verify = [
        (
            f"{target['shape']} with {draft['shape']} (twins)",
            f"{draft['target_ms']:.3g} ms",
            *(number(draft["v"][n]) for n in lengths),
        )
        for draft in drafts
    ]
    models = [
        (f"{target['shape']} (twin, target)", target["parameters"], target["plain_ms"], None, target),
        *(
            (
                f"{draft['shape']} (twin)",
                draft["parameters"],
                draft["draft_ms"],
                draft["overhead_ms"]["speculative"],
                draft,
            )
            for draft in drafts
        ),
    ]
    rows = [
        (
            name,
            f"{parameters / 1e6:,.1f}",
            f"{ms:.3g}",
            number(beyond, ".2g"),
            f"{model['load_s']:.1f}",
            f"{model['rss_bytes'] / 1e9:.2f}",
        )
        for name, parameters, ms, beyond, model in models
    ]
    settings = [(name, f"{ms:.3g}") for name, ms in document["settings_ms"].items()]
    return section(
        "costs",
        "Time and memory",
        f"A pass over one token behind 64, in milliseconds; what a step takes beyond its passes; resident memory of a "
        f"process that loads the model alone. The pair's memory above adds 16-bit caches for {CONTEXT:,} tokens.",
        table(
            ("model", "M parameters", "pass, ms", "step beyond, ms", "loading, s", "memory, GB"), rows, about="models"
        ),
        part("v(n): a target pass over n tokens, over 1", "", table(("", "t(1)", *lengths), verify, about="v(n)")),
        folded("Settings that were tried", table(("settings", "plain pass, ms"), settings, "narrow", "settings")),
    )


def price(document: Document) -> Html:
    """What training would take."""
    found = document["training"]
    hardware = found["hardware"]
    rows = [
        (
            draft["shape"],
            f"{draft['training']['tokens'] / 1e9:g} G",
            f"{draft['training']['flops']:.2g}",
            DASH if draft["training"]["hours"] is None else f"{draft['training']['hours']:,.1f}",
            f"{draft['training']['align_flops']:.2g}",
            DASH if draft["training"]["align_hours"] is None else f"{draft['training']['align_hours']:,.2f}",
        )
        for draft in document["drafts"]
    ]
    stages = ", ".join(f"{stage['tokens'] / 1e9:g} G tokens {stage['name']}" for stage in found["recipe"])
    where = (
        f"Hours on {hardware['name']} at {hardware['tflops']:,.0f} TFLOP/s sustained"
        + (f" ({found['utilisation']:.0%} of its peak, an assumption)" if found["utilisation"] else "")
        + "."
        if hardware
        else "Name hardware with --hardware for hours."
    )
    return section(
        "training",
        "What training would take",
        f"FastDraft's recipe: {stages}; then the target's own answers, of which no count is published: the price of "
        f"{found['align_tokens'] / 1e6:g} M tokens of them is given. 6 FLOPs a weight and token to train, 2 to read. "
        f"{where}",
        table(("shape", "tokens", "FLOPs", "hours", "answers, FLOPs", "answers, hours"), rows, about="training"),
    )


def _fifths(alpha: float) -> str:
    """A tick at every fifth."""
    return f"{alpha:.1f}" if round(alpha * 100) % 20 == 0 else ""
