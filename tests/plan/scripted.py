"""A document of a plan whose machine's times are written down: what pages and sentences are made from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgespec.plan import answer, find_hardware, make_drafts, make_target
from edgespec.plan.pace import pace_of
from edgespec.plan.planning import FIT_AT, HELD_BACK, Draft, Measured
from edgespec.plan.step_model import Answer, StepModel, Timed, compared, fitted, tau
from edgespec.plan.weigh import Weighed

TARGET = make_target("phi-3-mini", "int4", "cpu")
SHAPES = ("2x512", "6x512", "12x1024")
T = {1: 0.16, 2: 0.165, 3: 0.17, 4: 0.18, 6: 0.21, 8: 0.24, 12: 0.33, 16: 0.42}
PASS_S = {"2x512": 0.004, "6x512": 0.008, "12x1024": 0.03}


def model(shape: str, scale: float = 1.0) -> StepModel:
    one = PASS_S[shape] * scale
    return StepModel(T, {g: one * (g + 0.3) for g in (1, 2, 3, 5, 7, 11, 15)}, 1.2, 0.002, 0.0005)


def document(**more: Any) -> dict[str, Any]:
    """more: as for `answer`."""
    drafts = []
    for spec in make_drafts(SHAPES, TARGET, "int8"):
        real = model(spec.name, 1.05)  # what answers take: a little more than what was timed
        own = replace(model(spec.name), overhead=0.0, plain_overhead=0.0)
        answers = [
            Answer(
                Timed(a, g, round(100 * tau(a, g)), 100, real.seconds(g, a)),
                Timed(a, 0, 100, 100, real.seconds(0)),
                own,
            )
            for a, g in (*FIT_AT, *HELD_BACK)
        ]
        weighed = Weighed(0.4, 2 * spec.layout.parameters, {1: PASS_S[spec.name]})
        found = fitted(answers, FIT_AT)
        points = compared(found, answers, FIT_AT)
        drafts.append(Draft(spec, weighed, found, points, answers, pace_of(answers)))
    measured = Measured(
        TARGET, Weighed(9.0, 2_600_000_000, {1: 0.16, 4: 0.18}), "f32", {"default": 0.2, "f32": 0.16}, drafts
    )
    given = {"memory_bytes": 8_000_000_000, "hardware": find_hardware("8xgaudi2")} | more
    return answer(
        measured, device="CPU", draft_device=None, machine={"cpu": "a processor"}, at="2026-01-02T03:04", **given
    )
