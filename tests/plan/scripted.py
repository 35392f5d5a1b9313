"""A document of a plan whose machine's times are written down: what pages and sentences are made from."""

from __future__ import annotations

from typing import Any

from edgespec.plan import answer, find_hardware, make_drafts, make_target
from edgespec.plan.planning import FIT_AT, HELD_BACK, Draft, Measured
from edgespec.plan.step_model import StepModel, Timed, compared, tau
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
        real = model(spec.name, 1.05)  # what runs take: a little more than what was timed
        points = [(0.7, 0), *FIT_AT, *HELD_BACK]
        runs = [Timed(a, g, 1 + round(100 * tau(a, g)), 100, 100 * real.seconds(g, a)) for a, g in points]
        own = model(spec.name)
        bytes_held = 2 * spec.layout.parameters
        drafts.append(
            Draft(spec, Weighed(0.4, bytes_held, {1: PASS_S[spec.name]}), own, compared(own, runs, FIT_AT), runs)
        )
    measured = Measured(
        TARGET, Weighed(9.0, 2_600_000_000, {1: 0.16, 4: 0.18}), "f32", {"default": 0.2, "f32": 0.16}, drafts
    )
    given = {"memory_bytes": 8_000_000_000, "hardware": find_hardware("8xgaudi2")} | more
    return answer(
        measured, device="CPU", draft_device=None, machine={"cpu": "a processor"}, at="2026-01-02T03:04", **given
    )
