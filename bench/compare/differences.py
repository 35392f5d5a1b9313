"""What stands between two runs before their figures are held against each other.

bars     they cannot be compared: other prompts, so nothing pairs
explains they differ in something that may be the cause of any difference found
weakens  one of them, or both, is weak evidence, however alike they are
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..plan import CONTROL, REFERENCE
from ..prompts.downloads import DOWNLOADS
from ..prompts.packaged import PACKAGED
from .readback import Run

Grade = Literal["bars", "explains", "weakens"]

LOAD_APART = 0.10
"""Share of the processor that other programs must take, or by which they must differ, to be named."""
CLOCK_APART = 0.10
DRIFT_WORTH_SAYING = 1.05
MACHINE = {
    "cpu": "processor",
    "cpu_capabilities": "instruction sets",
    "cpu_default_precision": "the processor's default precision",
    "physical_cores": "physical cores",
    "logical_cores": "logical cores",
    "memory_bytes": "memory",
    "os": "operating system",
    "python": "Python",
}
OTHER_MACHINE = ("cpu", "physical_cores", "logical_cores", "memory_bytes")
"""What tells another machine; the rest may change on one and the same."""


@dataclass(frozen=True)
class Difference:
    """subject: a word or two; text: a clause that names what each run has."""

    grade: Grade
    subject: str
    text: str


def differences(a: Run, b: Run) -> list[Difference]:
    """What differs or weakens, what bars a comparison first."""
    order: list[Grade] = ["bars", "explains", "weakens"]
    return sorted([*_bars(a, b), *_explains(a, b), *_weakens(a, b)], key=lambda item: order.index(item.grade))


def same_machine(a: Run, b: Run) -> bool:
    """Whether nothing that is known tells the machines apart: two of one kind look the same."""
    ours, theirs = _machine(a), _machine(b)
    return all(_fact(key, ours.get(key)) == _fact(key, theirs.get(key)) for key in OTHER_MACHINE)


def same_run(a: Run, b: Run) -> bool:
    return same_machine(a, b) and all(
        left == right
        for left, right in (
            (a.report["run"]["started_at"], b.report["run"]["started_at"]),
            (a.report["pair"].get("sha256"), b.report["pair"].get("sha256")),
        )
    )


def _bars(a: Run, b: Run) -> Iterator[Difference]:
    for run in (a, b):
        if not run.report["run"]["rows"]:
            yield Difference("bars", "nothing measured", f"{run.letter} has no answer")
    ours, theirs = a.report["prompts"], b.report["prompts"]
    if ours["sha256"] != theirs["sha256"] and not _only_dropped(a, b):
        yield Difference("bars", "prompts", f"{_prompts(ours)} in {a.letter}, {_prompts(theirs)} in {b.letter}")
    elif a.rows and b.rows and not {row.case for row in a.rows} & {row.case for row in b.rows}:
        yield Difference("bars", "prompts", "none was answered in both runs")


def _prompts(found: Mapping[str, Any]) -> str:
    return f"{found['count']} of {found['suite']} (sha256 {str(found['sha256'])[:8]})"


def _only_dropped(a: Run, b: Run) -> bool:
    """Whether the runs asked the same suite, each without the prompts its draft was trained on. An id means the same
    text then, because suites that come with edgespec or are pinned by hash change with its version alone; the ids are
    not known without rows."""
    if a.prompt_ids is None or b.prompt_ids is None or set(a.prompt_ids) == set(b.prompt_ids):
        return False
    whole = [set(run.prompt_ids or ()) | set(run.report.get("dropped_prompts") or ()) for run in (a, b)]
    versions = [run.report["versions"].get("edgespec") for run in (a, b)]
    suites = [run.report["prompts"]["suite"] for run in (a, b)]
    fixed = suites[0] == suites[1] and suites[0] in (*PACKAGED, *DOWNLOADS)
    return fixed and whole[0] == whole[1] and versions[0] == versions[1] is not None


def _explains(a: Run, b: Run) -> Iterator[Difference]:
    for subject, ours, theirs in _facts(a, b):
        if ours != theirs:
            yield Difference("explains", subject, f"{_shown(ours)} in {a.letter}, {_shown(theirs)} in {b.letter}")
    if a.report["prompts"]["sha256"] != b.report["prompts"]["sha256"] and _only_dropped(a, b):
        yield Difference("explains", "prompts", "each run dropped those its draft was trained on; the shared ones pair")
    before, after = (_median(run, "other_load") for run in (a, b))
    if before is not None and after is not None and abs(before - after) > LOAD_APART:
        text = f"{before:.0%} of the processor in {a.letter}, {after:.0%} in {b.letter}"
        yield Difference("explains", "other programs", text)
    before, after = (_median(run, "cpu_mhz") for run in (a, b))
    if before and after and not 1 - CLOCK_APART < after / before < 1 / (1 - CLOCK_APART):
        text = f"{before:.0f} MHz in {a.letter}, {after:.0f} MHz in {b.letter}"
        yield Difference("explains", "processor clock", text)


def _median(run: Run, key: str) -> float | None:
    """Of a condition over the run's rows."""
    found = ((run.report.get("conditions") or {}).get(key) or {}).get("median")
    return None if found is None else float(found)


def _facts(a: Run, b: Run) -> Iterator[tuple[str, Any, Any]]:
    """(subject, in a, in b) of all that a difference could come from."""
    x, y = a.report, b.report
    models = [[_model(report["pair"].get(role)) for role in ("target", "draft")] for report in (x, y)]
    yield "target", models[0][0], models[1][0]
    yield "draft", models[0][1], models[1][1]
    if models[0] == models[1]:
        yield "pair", f"files {str(x['pair'].get('sha256'))[:8]}", f"files {str(y['pair'].get('sha256'))[:8]}"
    yield "device", x["device"], y["device"]
    yield "draft device", _draft_devices(x), _draft_devices(y)
    ours, theirs = _machine(a), _machine(b)
    for key, words in MACHINE.items():
        yield words, _fact(key, ours.get(key)), _fact(key, theirs.get(key))
    for name in sorted({*x.get("versions", {}), *y.get("versions", {})}):
        yield f"version of {name}", x.get("versions", {}).get(name), y.get("versions", {}).get(name)
    yield "settings", _settings(a), _settings(b)
    run, other = x["run"], y["run"]
    yield "sampling", run.get("sampling") or {"temperature": 0.0}, other.get("sampling") or {"temperature": 0.0}
    if (run.get("sampling") or {}).get("temperature"):
        yield "seed of sampling", run.get("seed"), other.get("seed")
    yield "length of answers", f"{run['max_new_tokens']} tokens", f"{other['max_new_tokens']} tokens"
    yield "lengths of context", run.get("contexts") or [], other.get("contexts") or []
    yield "power", _power(x), _power(y)


def _model(model: Mapping[str, Any] | None) -> str | None:
    if model is None:
        return None
    size = f", {model['parameters'] / 1e6:,.1f} M" if model.get("parameters") else ""
    revision = f" at {str(model['revision'])[:8]}" if model.get("revision") else ""
    return f"{model.get('source')}{revision}{size}, {model.get('precision')}"


def _draft_devices(report: Mapping[str, Any]) -> list[str]:
    found = report.get("draft_devices") or [report.get("draft_device")]
    return [name or report["device"] for name in found]


def _machine(run: Run) -> Mapping[str, Any]:
    return run.report.get("machine") or {}


def _fact(key: str, value: Any) -> Any:
    return f"{value / 2**30:.1f} GiB" if key.endswith("_bytes") and value else value


def _settings(run: Run) -> str | None:
    """Of plain, which every other arm shares."""
    arm = run.arm(REFERENCE)
    if arm is None:
        return None
    properties = " ".join(f"{key}={value}" for key, value in sorted(arm["settings"]["properties"].items()))
    return properties or "OpenVINO's default"


def _power(report: Mapping[str, Any]) -> str | None:
    return {True: "battery", False: "mains", None: None}[(report.get("conditions") or {}).get("on_battery")]


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value)) or "none"
    return "unknown" if value is None else str(value)


def _weakens(a: Run, b: Run) -> Iterator[Difference]:
    if same_run(a, b):
        yield Difference("weakens", "one run", f"{a.letter} and {b.letter} are the same run: there is nothing to find")
    for run in (a, b):
        for subject, text in _weaknesses(run):
            yield Difference("weakens", subject, f"{text} in {run.letter}")
    if _power(a.report) == _power(b.report) == "battery":
        yield Difference("weakens", "power", "both runs were on battery, which slows most laptops and not evenly")


def _weaknesses(run: Run) -> Iterator[tuple[str, str]]:
    report, found = run.report, run.report.get("conditions") or {}
    if run.rows is None:
        yield "no rows", f"{run.why_no_rows}, so there are medians and no intervals"
    if not report.get("complete", True):
        yield "unfinished", f"{report['run']['rows']} of {report['run'].get('rows_planned')} rows were measured"
    disturbed = (found.get("disturbed") or {}).get("rows_still_disturbed")
    if disturbed:
        yield "disturbed", f"{disturbed} of {report['run']['rows']} rows were measured while something else ran"
    load = _median(run, "other_load")
    if load is not None and load > LOAD_APART:
        yield "other programs", f"they took {load:.0%} of the processor (median)"
    if report["run"].get("sessions", 1) > 1:
        yield "interrupted", f"the run was interrupted and went on, {report['run']['sessions']} sessions"
    drift = found.get("drift")
    if drift is not None and not 1 / DRIFT_WORTH_SAYING < drift < DRIFT_WORTH_SAYING:
        yield "drift", f"plain ended at {drift:.2f}x its first time"
    control = run.arm(CONTROL)
    if control and control["speedup"]["ci95"] and not _holds_one(control["speedup"]["ci95"]):
        yield "control", f"plain against itself came out at {control['speedup']['geomean']:.3f}x"
    for arm in report["arms"]:
        if arm["errors"]["count"]:
            tried = arm["errors"]["count"] + arm["answers"]
            yield "failures", f"{arm['name']} failed {arm['errors']['count']} of {tried} times"


def _holds_one(interval: list[float]) -> bool:
    return interval[0] <= 1 <= interval[1]
