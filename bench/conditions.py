"""How steady the machine was while it was measured, and what a reader of the report must know."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from .plan import CONTROL, REFERENCE, UNTOUCHED
from .rows import Row, Session
from .statistics import percentile, seconds_per_token

DRIFT_WORTH_SAYING = 1.05
LOAD_WORTH_SAYING = 0.10
FEW_PROMPTS = 8
REPETITION_WORTH_SAYING = 0.25


def conditions(rows: Sequence[Row], sessions: Sequence[Session]) -> dict[str, Any]:
    """repeat_difference: median relative difference of plain with itself, same prompt, between repetitions.
    disturbed: rows measured again because of what else ran, those that stayed disturbed, and the commonest reason.
    drift: plain's time in the last repetition / in the first (above 1: the machine became slower).
    other_load: share of the processor that other programs took. What was not measured is None."""
    times: dict[str, dict[int, float]] = {}
    for row in rows:
        if row.arm == REFERENCE and (seconds := seconds_per_token(row)):
            times.setdefault(row.case, {})[row.repetition] = seconds
    pairs = [(runs[min(runs)], runs[max(runs)]) for runs in times.values() if len(runs) > 1]
    logs = [math.log(last / first) for first, last in pairs]
    loads = [row.other_load for row in rows if row.other_load is not None]
    clocks = [row.cpu_mhz for row in rows if row.cpu_mhz is not None]
    heat = [row.temperature_c for row in rows if row.temperature_c is not None]
    battery = [session.on_battery for session in sessions if session.on_battery is not None]
    return {
        "repeat_difference": math.exp(median(map(abs, logs))) - 1 if logs else None,
        "drift": math.exp(sum(logs) / len(logs)) if logs else None,
        "other_load": {"median": median(loads), "p95": percentile(loads, 0.95)} if loads else None,
        "cpu_mhz": {"median": median(clocks), "min": min(clocks), "max": max(clocks)} if clocks else None,
        "temperature_c": {"median": median(heat), "max": max(heat)} if heat else None,
        "disturbed": _disturbed(rows),
        "on_battery": any(battery) if battery else None,
    }


def _disturbed(rows: Sequence[Row]) -> dict[str, Any]:
    reasons = [row.disturbed for row in rows if row.disturbed]
    kinds = Counter("other programs" if reason.startswith("other") else "the processor's clock" for reason in reasons)
    return {
        "blocks_repeated": len({(row.case, row.repetition) for row in rows if row.attempt}),
        "rows_still_disturbed": len(reasons),
        "mostly_by": kinds.most_common(1)[0][0] if kinds else None,
    }


def notes(report: Mapping[str, Any]) -> list[str]:
    """Sentences about what weakens the figures or explains a gap in them; none when there is nothing to say."""
    said = []
    if str(report["pair"]["target"].get("source") or "").startswith("twin:"):
        said.append("The pair is a twin: random weights of a real shape, whose acceptance was set.")
    run = report["run"]
    if not report["complete"]:
        why = f" ({run['stopped_because']})" if run["stopped_because"] else ""
        said.append(f"The run is not complete: {run['rows']} of {run['rows_planned']} rows were measured{why}.")
    if report["dropped_prompts"]:
        said.append(
            f"{len(report['dropped_prompts'])} prompts were dropped, because they stand in the draft's training data: "
            f"{', '.join(report['dropped_prompts'][:5])}{' and more' if len(report['dropped_prompts']) > 5 else ''}."
        )
    arms = {arm["name"]: arm for arm in report["arms"]}
    for arm in arms.values():
        if arm["errors"]["count"]:
            answers = arm["errors"]["count"] + arm["answers"]
            said.append(f"{arm['name']} failed {arm['errors']['count']} of {answers} times: {arm['errors']['first']}")
    for candidate in report["settings"]["candidates"]:
        if candidate["error"]:
            said.append(f"The settings '{candidate['name']}' could not be tried: {candidate['error']}")
        elif not candidate["kept"] and candidate["agreement"] is not None:
            said.append(
                f"The settings '{candidate['name']}' were not eligible: {candidate['agreement']:.1%} of their greedy "
                "tokens agree with the reference."
            )
    for role, passes in report["passes"].items():
        if passes["error"]:
            said.append(f"Single passes of the {role} could not be measured: {passes['error']}")
    sameness = report["sameness"]
    if sameness and sameness["error"]:
        said.append(f"The control in a batch could not be run: {sameness['error']}")
    for name, same in (sameness["exact"] if sameness else {}).items():
        if same["matched"] < same["total"]:
            said.append(
                f"Even without rounding {name} gave plain's answer in only {same['matched']} of {same['total']} cases: "
                "look into it with edgespec verify."
            )
    if CONTROL in arms:
        said.append(_said_of_control(arms[CONTROL]["speedup"]))
    if UNTOUCHED in arms and arms[UNTOUCHED]["speedup"]["verdict"] == "faster":
        said.append("The untouched default was faster here than the settings the trial chose; see its row.")
    if report["prompts"]["count"] < FEW_PROMPTS:
        said.append(f"Only {report['prompts']['count']} prompts: the intervals are wide, and other prompts may differ.")
    said += _said_of_repetition(report, arms)
    return said + _said_of_conditions(report["conditions"], report["run"]["sessions"])


def _said_of_control(found: Mapping[str, Any]) -> str:
    if not found["ci95"]:
        return "The control, plain against itself, gives no interval."
    low, high = found["ci95"]
    fine = "as it should be" if low <= 1 <= high else "although they are the same: it sees differences where none are"
    ratio = f"{found['geomean']:.3f}x [{low:.3f}, {high:.3f}]"
    return f"The control, plain against itself in another process: {ratio}, {fine}."


def _said_of_repetition(report: Mapping[str, Any], arms: Mapping[str, Any]) -> list[str]:
    share, best = report["repetition"]["median"], report["headline"]["arm"]
    if share is None or share < REPETITION_WORTH_SAYING or best is None:
        return []
    sentence = (
        f"The target's answers repeat themselves: in the median {share:.0%} of their runs of "
        f"{report['repetition']['run']} tokens stood earlier in the same answer, which makes them easy to guess."
    )
    least = arms[best]["by_repetition"].get("least")
    if least and least["ci95"]:
        low, high = least["ci95"]
        sentence += (
            f" On the half that repeats itself least, {best} is {least['geomean']:.2f}x "
            f"(95 % interval {low:.2f} to {high:.2f}; {least['verdict']})."
        )
    return [sentence]


def _said_of_conditions(found: Mapping[str, Any], sessions: int) -> list[str]:
    said = []
    drift = found["drift"]
    if drift is not None and not 1 / DRIFT_WORTH_SAYING < drift < DRIFT_WORTH_SAYING:
        way, why = ("slower", "heat, a power limit or other work") if drift > 1 else ("faster", "other work ended")
        said.append(
            f"The machine became {way} during the run ({why}): plain ended at {drift:.2f}x its first time. "
            "Ratios compare answers seconds apart, so the speed-up is little touched."
        )
    if found["other_load"] and found["other_load"]["median"] > LOAD_WORTH_SAYING:
        said.append(
            f"Other programs took {found['other_load']['median']:.0%} of the processor (median): the times are longer "
            "than on an idle machine."
        )
    disturbed = found["disturbed"]
    if disturbed["rows_still_disturbed"]:
        said.append(
            f"{disturbed['rows_still_disturbed']} rows stayed disturbed (mostly by {disturbed['mostly_by']}) after "
            f"{disturbed['blocks_repeated']} blocks were measured again; they are marked in rows.jsonl and counted in."
        )
    if found["on_battery"]:
        said.append("The machine ran on battery, which slows most laptops.")
    if sessions > 1:
        said.append(f"The run was interrupted and went on: {sessions} sessions.")
    return said
