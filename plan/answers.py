"""The answers: one JSON document of everything found, and the sentences that come first. Pure functions over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from .acceptance_file import Profile
from .facts import (
    ALIGN_TOKENS,
    FASTDRAFT,
    RATE_GAMMA,
    RECIPE,
    Hardware,
    published_like,
    training,
)
from .layout import Layout
from .planning import FIT_AT, Draft, Measured
from .session import LENGTHS
from .step_model import GAMMAS, StepModel, alpha_of_rate, beyond_passes, residuals, tau
from .trees import RHOS, best_tree, rho_needed

SCHEMA = "edgespec.plan/1"
MAP_ALPHAS = tuple(round(0.05 * index, 2) for index in range(1, 20))
WITHIN = 0.10
"""Held-back points predicted within this are counted, and a model describes the steps it was fitted to within it."""
CONTEXT = 4096
"""Tokens that both caches are planned for in the memory of a pair."""
BASE_BYTES = 150_000_000
"""Libraries that have compiled something."""
Document = dict[str, Any]


def answer(
    measured: Measured,
    *,
    device: str,
    draft_device: str | None,
    machine: Mapping[str, Any],
    at: str,
    memory_bytes: int | None = None,
    hardware: Hardware | None = None,
    profiles: Sequence[Profile] = (),
    cache: Mapping[str, Any] | None = None,
) -> Document:
    """The document. drafts: fastest first, at the acceptance published for such a size."""
    drafts = [_draft_entry(draft, measured, hardware, profiles) for draft in measured.drafts]
    drafts.sort(key=lambda entry: -entry["published"]["gain"]["mean"])
    fitting = [entry for entry in drafts if memory_bytes is not None and entry["pair_memory_bytes"] <= memory_bytes]
    validation = [{"draft": entry["shape"], **point} for entry in drafts for point in entry.pop("validation")]
    held = [point for point in validation if point["held_back"]]
    target = measured.target
    return {
        "schema": SCHEMA,
        "twins": True,
        "note": "Figures of twins: random weights in the named shapes, with an acceptance that was set. Times and "
        "memory hold for the shape; what a trained draft is accepted is not known from them.",
        "target": {
            "shape": target.name,
            "parameters": target.layout.parameters,
            "precision": target.precision,
            "vocabulary": target.vocab,
            "load_s": measured.weighed.load_s,
            "rss_bytes": measured.weighed.rss_bytes,
            "plain_ms": 1e3 * measured.weighed.passes[1],
        },
        "device": device,
        "draft_device": draft_device or device,
        "settings": measured.settings,
        "settings_ms": {name: 1e3 * seconds for name, seconds in measured.trials.items()},
        "machine": dict(machine),
        "at": at,
        "drafts": drafts,
        "validation": validation,
        "held_back": {
            "points": len(held),
            "within_10_percent": sum(abs(point["error"]) <= WITHIN for point in held),
            "largest_error": max((abs(point["error"]) for point in held), default=None),
        },
        "best": drafts[0]["shape"] if drafts else None,
        "memory": None
        if memory_bytes is None
        else {"bytes": memory_bytes, "best": fitting[0]["shape"] if fitting else None, "fitting": len(fitting)},
        "acceptance": [asdict(profile) for profile in profiles],
        "training": {
            "recipe": [asdict(stage) for stage in RECIPE],
            "source": FASTDRAFT,
            "align_tokens": ALIGN_TOKENS,
            "hardware": asdict(hardware) if hardware else None,
            "utilisation": hardware.utilisation if hardware else None,
        },
        "cache": dict(cache) if cache else None,
    }


def _draft_entry(draft: Draft, measured: Measured, hardware: Hardware | None, profiles: Sequence[Profile]) -> Document:
    spec, model, layout = draft.spec, draft.model, draft.spec.layout
    published = published_like(measured.target.name, layout.parameters)
    alphas = published.alphas()
    mean = alpha_of_rate((published.text_rate + published.code_rate) / 2, RATE_GAMMA)
    breakeven = model.breakeven()
    memory = BASE_BYTES + sum(
        weighed.rss_bytes + cache_bytes(twin.layout)
        for twin, weighed in ((measured.target, measured.weighed), (spec, draft.weighed))
    )
    return {
        "shape": spec.name,
        "layers": layout.layers,
        "hidden": layout.hidden,
        "parameters": layout.parameters,
        "precision": spec.precision,
        "c": model.c,
        "c_params": layout.parameters / measured.target.layout.parameters,
        "v": {str(n): model.v(n) for n in LENGTHS},
        "wide": model.wide,
        "target_ms": 1e3 * model.target[1],
        "draft_ms": 1e3 * model.c * model.target[1],
        "overhead_ms": {"plain": 1e3 * model.plain_overhead, "speculative": 1e3 * model.overhead},
        "fit": _fit(draft),
        "pace_ms": {"plain": _range_ms(draft.pace.plain_s), "several": _range_ms(draft.pace.several_s)},
        "moved": draft.pace.moved,
        "load_s": draft.weighed.load_s,
        "rss_bytes": draft.weighed.rss_bytes,
        "pair_memory_bytes": memory,
        "breakeven_acceptance": breakeven,
        "breakeven_rate": None if breakeven is None else (tau(breakeven, RATE_GAMMA) - 1) / RATE_GAMMA,
        "breakeven_by_gamma": {str(gamma): model.breakeven(gamma) for gamma in GAMMAS},
        "best_gamma": model.best_gamma(mean),
        "best_gamma_by_alpha": {f"{alpha:.2f}": model.best_gamma(alpha) for alpha in MAP_ALPHAS},
        "surface": {str(gamma): [round(model.speedup(alpha, gamma), 4) for alpha in MAP_ALPHAS] for gamma in GAMMAS},
        "published": {
            "draft": published.name,
            "source": FASTDRAFT,
            "rate": {"text": published.text_rate, "code": published.code_rate},
            "alpha": {**alphas, "mean": mean},
            "gain": {name: model.best(alpha) for name, alpha in {**alphas, "mean": mean}.items()},
            "gamma": {name: model.best_gamma(alpha) for name, alpha in {**alphas, "mean": mean}.items()},
            "mbsu": {
                name: mbsu(alpha, RATE_GAMMA, layout.parameters / measured.target.layout.parameters)
                for name, alpha in alphas.items()
            },
        },
        "trees": _trees(model),
        "measured_acceptance": [
            {
                "name": profile.name,
                "alpha": profile.alpha,
                "gamma": model.best_gamma(profile.alphas),
                "gain": model.best(profile.alphas),
            }
            for profile in profiles
        ],
        "training": _training(layout, measured.target.layout, hardware),
        "validation": [
            {
                "alpha": point.alpha,
                "gamma": point.gamma,
                "predicted_speedup": point.predicted_speedup,
                "measured_speedup": point.measured_speedup,
                "error": point.error,
                "held_back": point.held_back,
                "answers": point.answers,
            }
            for point in draft.points
        ],
    }


def _range_ms(pace_s: Sequence[float]) -> list[float]:
    return [1e3 * min(pace_s), 1e3 * max(pace_s)]


def _fit(draft: Draft) -> Document:
    """How the model of step times stands to the steps it was fitted to. beyond_passes_ms: what they took beyond their
    passes, of which the overhead is what is above 0."""
    plain, speculative = beyond_passes(draft.answers, FIT_AT)
    steps = [
        {
            "alpha": found.alpha,
            "gamma": found.gamma,
            "modelled_ms": 1e3 * found.modelled_s,
            "measured_ms": 1e3 * found.measured_s,
            "error": found.error,
        }
        for found in residuals(draft.model, draft.answers, FIT_AT)
    ]
    return {
        "beyond_passes_ms": {"plain": 1e3 * plain, "speculative": 1e3 * speculative},
        "steps": steps,
        "largest_error": max((abs(step["error"]) for step in steps), default=None),
        "describes": all(abs(step["error"]) <= WITHIN for step in steps),
    }


def mbsu(alpha: float, gamma: int, c_params: float) -> float:
    """The papers' memory-bound speed-up."""
    return tau(alpha, gamma) / (c_params * gamma + 1)


def cache_bytes(layout: Layout) -> int:
    """A KV cache of CONTEXT tokens in 16 bits; 8 bits take half."""
    return 4 * layout.layers * layout.kv_heads * layout.head_dim * CONTEXT


def matmul_parameters(layout: Layout) -> int:
    """Weights that a token is multiplied with: without the embedding, whose row is looked up, but with the head."""
    return layout.parameters - (0 if layout.tied else layout.vocab * layout.hidden)


def _trees(model: StepModel) -> Document:
    alphas = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    cells = {}
    for rho in RHOS:
        row = []
        for alpha in alphas:
            tree = best_tree(model, alpha, rho)
            row.append(
                {
                    "nodes": tree.nodes,
                    "depth": tree.depth,
                    "speedup": tree.speedup,
                    "over_chain": tree.speedup / model.best(alpha),
                }
            )
        cells[f"{rho:.1f}"] = row
    return {"alphas": list(alphas), "by_rho": cells, "rho_needed": {f"{a:.1f}": rho_needed(model, a) for a in alphas}}


def _training(layout: Layout, target: Layout, hardware: Hardware | None) -> Document:
    found = training(matmul_parameters(layout), matmul_parameters(target), hardware or Hardware("", 1.0))
    entry = asdict(found)
    if hardware is None:
        entry["hours"] = entry["align_hours"] = None
    return entry


def sentences(document: Mapping[str, Any]) -> list[str]:
    """The answers in words, most wanted first. Every figure in them is of twins, and the first sentence says so."""
    drafts, target = document["drafts"], document["target"]
    if not drafts:
        return []
    best = drafts[0]
    published = best["published"]
    said = [
        f"Measured with twins (random weights in these shapes, acceptance set), not with trained models: "
        f"{target['shape']} "
        f"in {target['precision']} takes {target['plain_ms']:.3g} ms a token on {document['device']} here."
    ]
    said += doubts(document)
    gain = published["gain"]
    alpha = published["alpha"]
    said.append(
        f"The shape that would gain most is {_named(best)}: {_times(gain['text'])} on text at gamma "
        f"{_gamma(published['gamma']['text'])} and {_times(gain['code'])} on code at gamma "
        f"{_gamma(published['gamma']['code'])}, if it is accepted as {published['draft']} is by its paper "
        f"(alpha {alpha['text']:.2f} and {alpha['code']:.2f})."
    )
    parts = [
        f"{entry['shape']} never pays"
        if entry["breakeven_acceptance"] is None
        else f"{entry['shape']} from alpha {entry['breakeven_acceptance']:.2f}"
        for entry in drafts
    ]
    said.append(f"Break-even: {', '.join(parts)}.")
    steps = gamma_steps(best["best_gamma_by_alpha"])
    said.append(f"Best gamma of {best['shape']}: {', '.join(steps)}.")
    if (memory := document["memory"]) is not None:
        chosen = memory["best"]
        entry = next((one for one in drafts if one["shape"] == chosen), None)
        least = min(one["pair_memory_bytes"] for one in drafts)
        said.append(
            f"Within {memory['bytes'] / 1e9:.3g} GB the best is {chosen}: the pair takes "
            f"{entry['pair_memory_bytes'] / 1e9:.1f} GB with caches for {CONTEXT:,} tokens."
            if entry
            else f"Nothing fits in {memory['bytes'] / 1e9:.3g} GB: the smallest pair takes {least / 1e9:.1f} GB with "
            f"caches for {CONTEXT:,} tokens."
        )
    for found in best["measured_acceptance"]:
        said.append(
            f"At the acceptance measured for '{found['name']}' (alpha {found['alpha']:.2f}) {best['shape']} would gain "
            f"{_times(found['gain'])} at gamma {_gamma(found['gamma'])}."
        )
    cost = best["training"]
    hours = ""
    if cost["hours"] is not None:
        hours = f", {_hours(cost['hours'])} on {document['training']['hardware']['name']}"
    said.append(
        f"Training {best['shape']} by FastDraft's recipe takes {cost['tokens'] / 1e9:g} G tokens and "
        f"{cost['flops']:.2g} "
        f"FLOPs{hours}; each {ALIGN_TOKENS / 1e6:g} M tokens of the target's own answers {cost['align_flops']:.2g} "
        "more."
    )
    needed = best["trees"]["rho_needed"]["0.7"]
    said.append(
        f"Trees beat chains at alpha 0.7 once the draft's second guess is right in {needed:.0%} of its mistakes (twins "
        "cannot tell whether it is)."
        if needed is not None
        else "No tree beats the best chain at alpha 0.7, however good second guesses are."
    )
    held = document["held_back"]
    if held["points"]:
        said.append(
            f"The model of step times was held against {held['points']} points whose steps it was not fitted to: "
            f"{held['within_10_percent']} within 10 %, the largest error {held['largest_error']:.0%}."
        )
    return said


def doubts(document: Mapping[str, Any]) -> list[str]:
    """A sentence for each draft that was measured on a machine whose pace moved, and one for each whose model of step
    times does not describe the steps that it was fitted to."""
    said = [
        f"While {entry['shape']} was measured the machine's pace moved: plain steps took between "
        f"{_between(entry, 'plain')}, passes over several tokens between {_between(entry, 'several')} (medians of "
        "neighbouring answers). Something else ran, or the clock or the power changed. The gains are those of the "
        "middle; plan in the state that you will run in."
        for entry in document["drafts"]
        if entry["moved"]
    ]
    for entry in document["drafts"]:
        if (fit := entry["fit"])["describes"]:
            continue
        worst = max(fit["steps"], key=lambda step: abs(step["error"]))
        beyond = fit["beyond_passes_ms"]["speculative" if worst["gamma"] else "plain"]
        why = (
            "its passes, timed alone between them, took longer than the whole step did"
            if beyond < 0 < worst["error"]
            else "an overhead that is the same at every gamma does not explain it"
        )
        said.append(
            f"The model of step times does not describe the steps with {entry['shape']}: "
            f"{'a plain step' if not worst['gamma'] else 'a step at gamma ' + str(worst['gamma'])} took "
            f"{worst['measured_ms']:.3g} ms and the model, which was fitted to it, has {worst['modelled_ms']:.3g} "
            f"({worst['error']:+.0%}); {why}. Take its predictions as rough, and measure again (--fresh) when nothing "
            "else runs."
        )
    return said


def _between(entry: Mapping[str, Any], kind: str) -> str:
    low, high = entry["pace_ms"][kind]
    return f"{low:.3g} and {high:.3g} ms"


def gamma_steps(by_alpha: Mapping[str, int]) -> list[str]:
    """Such as `2 from alpha 0.45`, where the best gamma changes; plain decoding below the first."""
    said: list[str] = []
    last = None
    for alpha, gamma in by_alpha.items():
        if gamma != last:
            said.append(f"{_gamma(gamma)} from alpha {alpha}" if said else f"{_gamma(gamma)} below")
            last = gamma
    if len(said) == 1:
        return [said[0].replace(" below", " at every alpha")]
    first = said[1].rpartition(" ")[2]
    said[0] = said[0].replace("below", f"below alpha {first}")
    return said


def _named(entry: Mapping[str, Any]) -> str:
    return f"{entry['shape']} ({entry['parameters'] / 1e6:.3g} M, c {entry['c']:.3f})"


def _times(gain: float) -> str:
    return f"{gain:.2f}x"


def _gamma(gamma: int) -> str:
    return str(gamma) if gamma else "0 (plain decoding)"


def _hours(hours: float) -> str:
    return (
        f"{hours * 60:.0f} minutes" if hours < 1 else f"{hours:.1f} hours" if hours < 100 else f"{hours / 24:.0f} days"
    )
