"""The arms of a report that its page speaks of."""

from __future__ import annotations

from edgespec.page.markup import Arm, Report


def best_of(report: Report) -> Arm | None:
    """The arm that the headline is about."""
    return next((arm for arm in report["arms"] if arm["name"] == report["headline"]["arm"]), None)


def speculative(report: Report) -> list[Arm]:
    """The arms that propose tokens and gave answers."""
    return [arm for arm in report["arms"] if arm["mode"] != "plain" and arm["speedup"]["geomean"] is not None]


def best_of_kinds(report: Report) -> list[Arm]:
    """The fastest arm of each engine, mode and draft device, fastest first."""
    ranked = sorted(speculative(report), key=lambda arm: -arm["speedup"]["geomean"])
    kinds: dict[tuple[object, ...], Arm] = {}
    for arm in ranked:
        kinds.setdefault((arm["engine"], arm["mode"], arm.get("draft_device")), arm)
    return list(kinds.values())
