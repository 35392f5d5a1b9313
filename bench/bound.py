"""What bounds the gain: the measured speed-up taken apart into the losses that lead to it, from the ideal downwards.

gamma + 1                            every proposal accepted, all else free
tau                                  what the target accepted
tau / v(gamma+1)                     checking gamma+1 tokens costs more than one
tau / (v(gamma+1) + c*gamma)         drafting costs time: the predicted speed-up
decode                               measured after the first token: fixed cost of an iteration
measured                             measured on the wall clock: reading the prompt gains nothing
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from .statistics import cost_at, predicted_speedup


@dataclass(frozen=True)
class Rung:
    """One rung of the ladder down. `cause` names the loss between the rung above and this one ("" for the first);
    share: that loss over the whole way down, both as logarithms; negative where a rung lies above the one before."""

    label: str
    cause: str
    speedup: float
    share: float | None = None


@dataclass(frozen=True)
class Bound:
    """cause: the largest loss ("" when nothing is lost or known). Times in milliseconds, None when not measured;
    overhead_ms: what an iteration takes beyond its draft and target passes."""

    gamma: float | None
    ladder: list[Rung]
    cause: str
    iteration_ms: float | None
    target_pass_ms: float | None
    draft_passes_ms: float | None
    overhead_ms: float | None
    sentences: list[str]


def explain(
    *,
    gamma: float | None,
    tau: float | None,
    costs: Mapping[int, float],
    c: float | None,
    single_s: float | None,
    iteration_s: float | None,
    decode: float | None,
    measured: float | None,
    with_draft: bool,
) -> Bound:
    """gamma: tokens proposed a step (its mean for a drafter that chooses). costs: v(n). c: 0 for a drafter without a
    model. single_s: a target pass over one token. iteration_s: measured time of a step. decode, measured: speed-ups."""
    v = None if gamma is None else cost_at(costs, gamma + 1)
    predicted = predicted_speedup(tau, gamma, costs, c)
    rungs = [
        ("every proposal accepted", "", None if gamma is None else gamma + 1),
        ("as many as the target accepted", "acceptance", tau),
        ("with the cost of checking them", "verification", tau / v if tau and v else None),
        ("with the cost of drafting: predicted", "drafting", predicted if with_draft else None),
        ("measured, after the first token", "overhead" if predicted is not None else "unsplit", decode),
        ("measured, whole answer", "prompt", measured),
    ]
    ladder = [Rung(label, cause, float(value)) for label, cause, value in rungs if value]
    whole = math.log(ladder[0].speedup / ladder[-1].speedup) if len(ladder) > 1 else 0.0
    if whole > 0:
        shares = [None, *(math.log(above.speedup / below.speedup) / whole for above, below in pairwise(ladder))]
        ladder = [replace(rung, share=share) for rung, share in zip(ladder, shares, strict=True)]
    losses = {below.cause: math.log(above.speedup / below.speedup) for above, below in pairwise(ladder)}
    cause = max(losses, key=lambda name: losses[name], default="")
    if cause and losses[cause] <= 0:
        cause = ""
    target_s = None if v is None or single_s is None else v * single_s
    draft_s = None if c is None or gamma is None or single_s is None else c * gamma * single_s
    overhead_s = None
    if iteration_s is not None and target_s is not None and draft_s is not None:
        overhead_s = iteration_s - target_s - draft_s
    bound = Bound(gamma, ladder, cause, _ms(iteration_s), _ms(target_s), _ms(draft_s), _ms(overhead_s), [])
    bound.sentences.extend(_sentences(bound, tau, v, c, predicted, decode, measured))
    return bound


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3


def _sentences(
    bound: Bound,
    tau: float | None,
    v: float | None,
    c: float | None,
    predicted: float | None,
    decode: float | None,
    measured: float | None,
) -> list[str]:
    said = []
    if tau is not None and bound.gamma is not None:
        said.append(
            f"On average a step proposes {bound.gamma:.3g} tokens and emits {tau:.2f} of at most {bound.gamma + 1:.3g}."
        )
    elif tau is not None:
        said.append(f"A step emits {tau:.2f} tokens on average.")
    if v is not None and bound.gamma is not None:
        said.append(f"Checking {bound.gamma + 1:.3g} tokens at once takes {v:.2f} times a pass over one.")
    if c:
        said.append(f"A draft pass costs {c:.3f} of a target pass.")
    if predicted is not None:
        said.append(f"By these figures this machine allows {predicted:.2f}x.")
    if decode is not None and measured is not None:
        said.append(f"Measured: {decode:.2f}x after the first token, {measured:.2f}x over the whole answer.")
    if bound.overhead_ms is not None and bound.iteration_ms and bound.overhead_ms > 0.02 * bound.iteration_ms:
        said.append(
            f"Of the {bound.iteration_ms:.1f} ms a step lasts, {bound.overhead_ms:.1f} ms are neither target nor "
            "draft: the fixed cost of an iteration, and the draft's own reading of the prompt."
        )
    if bound.cause:
        said.append(_ADVICE[bound.cause])
    return said


_ADVICE = {
    "acceptance": "The largest loss is acceptance: a draft that agrees with the target more often helps most (see: "
    "edgespec train).",
    "verification": "The largest loss is verification: other plugin settings or another weight format of the target, "
    "under which several tokens cost little more than one, help most.",
    "drafting": "The largest loss is drafting: a smaller or further compressed draft, or another device for it, "
    "helps most.",
    "overhead": "The largest loss is the time beside the passes that were measured alone: it weighs less the larger "
    "the target is.",
    "unsplit": "The largest loss is in the steps themselves; how it divides into checking, drafting and fixed cost "
    "could not be measured for this arm.",
    "prompt": "The largest loss is the prompt: reading it takes the same time with and without speculation, so "
    "longer answers gain more.",
}
