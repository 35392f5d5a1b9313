"""The page's sections for who doubts: same answers, plugin settings, what was measured where, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgespec.page.markup import DASH, Html, Report, bullets, folded, lead, listed, number, part, section, table, terms

from ..bandwidth import COLUMNS, ROWS
from ..calibration import MIN_AGREEMENT
from ..disturbance import MAX_OTHER_LOAD, MIN_CLOCK, RETRIES, RETRY_SHARE
from ..plan import REFERENCE
from ..prompts.contamination import THRESHOLD
from ..report import arm_label

PLACES = 1
"""First differences that are named in a cell."""


def sameness(report: Report) -> Html:
    """Every arm's greedy answers against plain's, and, where they were checked, at exact precision too."""
    checked = report["sameness"] or {}
    exact: Mapping[str, Any] = checked.get("exact") or {}
    batched, gaps = checked.get("batched_control"), list(checked.get("gaps") or [])
    rows = []
    for arm in report["arms"]:
        same = arm["identical"]
        if same is None and arm["name"] not in exact:
            continue
        label = "plain, between repetitions" if arm["name"] == REFERENCE else arm_label(arm)
        row = [label, _count(same)]
        if exact:
            row.append(_count(exact.get(arm["name"])))
        if gaps:
            found = [
                abs(gap["logit_gap"]) for gap in gaps if gap["arm"] == arm["name"] and gap["logit_gap"] is not None
            ]
            row.append(f"{max(found):.3g}" if found else DASH)
        rows.append([*row, _places(same)])
    if batched and batched["total"]:
        blank = [DASH] * (bool(exact) + bool(gaps))
        rows.append(["plain, all prompts in one batch (the control)", _count(batched), *blank, DASH])
    columns = ["arm", "identical", *(["at exact precision"] if exact else []), *(["widest logit gap"] if gaps else [])]
    words = (
        "Greedy answers compared with plain's, token for token. Speculation is to pick the tokens that plain decoding "
        "would. Rounding, when several tokens are computed at once, can turn a near tie; plain against itself shows "
        "whether the machine repeats itself at all, which says nothing of that rounding."
    )
    if exact:
        words += (
            " At exact precision, on fewer and shorter answers, rounding is out of the way: what differs there differs "
            "for another reason."
        )
    if batched and batched["total"]:
        words += (
            " The batched control is plain decoding of all prompts at once: nothing is speculated, only rounded "
            "otherwise."
        )
    if gaps:
        words += " A logit gap is how far apart the two tokens were for the target where an answer first left plain's."
    listed = table(
        ["arm", "prompt", "token", "logit gap"],
        [
            [gap["arm"], gap.get("case") or gap.get("prompt"), gap["position"], number(gap["logit_gap"], ".4f")]
            for gap in gaps
        ],
        "narrow",
        "logit gaps",
    )
    return section(
        "sameness",
        "Same answers",
        words,
        table([*columns, "first difference"], rows, "worded", "identical answers"),
        lead(f"The checks beside the timed rows failed: {checked['error']}" if checked.get("error") else ""),
        folded(f"Every difference that was looked at ({len(gaps)})", listed),
    )


def _count(found: Mapping[str, Any] | None) -> str:
    return f"{found['matched']} of {found['total']}" if found else DASH


def _places(same: Mapping[str, Any] | None) -> str:
    places = [
        f"{item['prompt']} at {item['position']} of {item['of']}" for item in (same or {}).get("first_divergence", [])
    ]
    more = f" and {len(places) - PLACES} more" if len(places) > PLACES else ""
    return ", ".join(places[:PLACES]) + more if places else DASH


def settings(report: Report) -> Html:
    """The trial in which plain decoding got its settings; "" where they were given."""
    found = report["settings"]
    rows = []
    for item in found["candidates"]:
        state = "chosen" if item["name"] == found["chosen"] else "failed" if item["error"] else ""
        properties = " ".join(f"{key}={value}" for key, value in item["settings"].items())
        agreement = "" if item["agreement"] is None else f"{item['agreement']:.1%} of {item['compared_tokens']}"
        state = state or ("" if item["kept"] else "excluded")
        rows.append([item["name"], properties or "nothing set", number(item["ms_per_token"]), agreement, state])
    words = (
        f"Plain decoding was given its best settings first: {found['chosen']} ({found['reason']}). Eligible is what "
        f"agrees with the reference in at least {MIN_AGREEMENT:.0%} of greedy tokens. Every speed-up above is "
        "against the chosen ones."
    )
    columns = ["settings", "OpenVINO properties", "ms a token", "agreement", ""]
    return section("settings", "Plugin settings", words, table(columns, rows, "worded-2", "plugin settings"))


def machine(report: Report) -> Html:
    """What was measured, and on what."""
    found, pair = report["machine"], report["pair"]
    facts: list[tuple[str, object]] = []
    for role in ("target", "draft"):
        if model := pair.get(role):
            size = f", {model['weights_bytes'] / 1e6:,.0f} MB" if model.get("weights_bytes") else ""
            revision = f" ({model['revision']})" if model.get("revision") else ""
            parameters = f"{model['parameters'] / 1e6:,.1f} M parameters"
            facts.append((role, f"{model['source']}{revision}, {parameters}, {model['precision']}{size}"))
    facts.append(("pair", f"{pair['name']}, sha256 {pair['sha256'][:16]}…"))
    facts.append(("device", report["device"] + drafted_on(report)))
    for key, value in found.items():
        if value is None:
            continue
        if key.endswith("_bytes"):
            key, value = key.removesuffix("_bytes"), f"{value / 2**30:.1f} GiB"
        elif isinstance(value, (list, tuple)):
            value = " ".join(map(str, value))
        facts.append((key.replace("_", " "), "yes" if value is True else "no" if value is False else value))
    facts.append(("versions", ", ".join(f"{name} {version}" for name, version in report["versions"].items())))
    return section("machine", "Models, machine, versions", "", terms(facts))


def drafted_on(report: Report) -> str:
    """Such as `, draft on CPU and GPU`; "" where nothing was asked for."""
    devices = report.get("draft_devices") or ([report["draft_device"]] if report["draft_device"] else [])
    return f", draft on {' and '.join(devices)}" if devices else ""


def method(report: Report) -> Html:
    """How the figures came about, what happened meanwhile, and what the words mean."""
    return section(
        "method",
        "How it was measured",
        "",
        bullets(_asked(report)),
        part("While it was measured", "", terms(_meanwhile(report))),
        folded("How the statistics are made", bullets(_statistics(report))),
        folded("Terms", terms(TERMS.items())),
    )


def _asked(report: Report) -> list[str]:
    run, prompts = report["run"], report["prompts"]
    said = [
        f"{prompts['count']} prompts (suite {prompts['suite']}, sha256 {prompts['sha256'][:16]}…), up to "
        f"{run['max_new_tokens']} tokens each, {_sampled(run['sampling'])}, seed {run['seed']}."
    ]
    if dropped := report["dropped_prompts"]:
        said.append(
            f"{len(dropped)} prompts of the suite were dropped before, because {THRESHOLD:.0%} or more of their text "
            "stands in the draft's training data."
        )
    if run["contexts"]:
        lengths = listed([f"{length:,}" for length in run["contexts"]])
        said.append(
            f"Each prompt is asked behind other text of the suite, at {lengths} tokens in all: {run['cases']} cases. "
            "The prompt stays the unit that intervals are made of."
        )
    elif run["cases"] > prompts["count"]:
        said.append(
            f"Conversations are asked turn by turn: {run['cases']} cases. The prompt stays the unit that intervals are "
            "made of."
        )
    said += [
        "Every engine runs in a process of its own, loaded once and warmed up; arms that differ in gamma or threshold "
        "alone share one. The clock runs inside that process: loading and tokenization are not timed, and prompts are "
        "not cached.",
        "For each case all arms answer one after another in a random order, so heat or other work slows them alike.",
        "A round is every arm on every case. Rounds go on until every interval is within "
        f"±{run['precision']:.1%} of its speed-up, until more would hardly narrow them, or until the limit of rounds "
        f"or time: decided by how wide the intervals are, never by where they lie. {_rounds(run)}",
        f"A row counts as disturbed when other programs take more than {MAX_OTHER_LOAD:.0%} of the processor or its "
        f"clock falls below {MIN_CLOCK:.0%} of the run's usual, never by its own time. All arms of its case are then "
        f"measured again, up to {RETRIES} times, and at most {RETRY_SHARE:.0%} of the planned blocks; what stays "
        "disturbed is marked in rows.jsonl and counts.",
    ]
    size = ROWS * COLUMNS * 4 / 2**20
    if report["passes"] or report["bandwidth"]["limit_gb_per_second"]:
        said.append(
            "Passes of target and draft are timed alone after the run, in turns, behind as many tokens as the run's "
            f"answers had in the median; the memory's limit is the best pass over a matrix of {size:.0f} MiB."
        )
    return said


def _rounds(run: Mapping[str, Any]) -> str:
    count = f"{run['repetitions']} round{'' if run['repetitions'] == 1 else 's'}, {run['rows']} rows"
    why = run["stopped_because"]
    return f"Here: {count}; {why}." if why else f"Here: {count} so far; the run has not ended."


def _sampled(sampling: Mapping[str, Any]) -> str:
    if not sampling.get("temperature"):
        return "greedy"
    words = [f"temperature {sampling['temperature']:g}"]
    if sampling.get("top_k"):
        words.append(f"top-k {sampling['top_k']}")
    if sampling.get("top_p", 1.0) != 1.0:
        words.append(f"top-p {sampling['top_p']:g}")
    return f"sampled ({', '.join(words)}; all arms share the seed of a case and round)"


def _meanwhile(report: Report) -> list[tuple[str, str]]:
    found, run = report["conditions"], report["run"]
    time = _minute(run["started_at"]) + (f" to {_minute(run['finished_at'])}" if run["finished_at"] else "")
    if run["sessions"] > 1:
        time += f", in {run['sessions']} sessions: interrupted, then went on"
    facts = [("time", time)]
    if found["repeat_difference"] is not None:
        facts.append(("plain against itself", f"{found['repeat_difference']:.1%} apart (median over cases)"))
    if found["drift"] is not None:
        facts.append(("drift over the run", f"{found['drift'] - 1:+.1%} in plain's time"))
    if load := found["other_load"]:
        share = f"{load['median']:.0%} of the processor in the median, {load['p95']:.0%} at the 95th percentile"
        facts.append(("other programs", share))
    disturbed = found["disturbed"]
    by = f", mostly by {disturbed['mostly_by']}" if disturbed["mostly_by"] else ""
    stayed = f"{disturbed['rows_still_disturbed']} of {run['rows']} rows stayed disturbed{by}"
    facts.append(("disturbed", f"{disturbed['blocks_repeated']} blocks measured again; {stayed}"))
    if clock := found["cpu_mhz"]:
        facts.append(
            (
                "processor clock",
                f"{clock['median']:.0f} MHz (median; {clock['min']:.0f} to {clock['max']:.0f}), as the system tells",
            )
        )
    if heat := found["temperature_c"]:
        facts.append(("temperature", f"{heat['median']:.0f} °C (median), up to {heat['max']:.0f} °C"))
    if found["on_battery"] is not None:
        facts.append(("power", "battery" if found["on_battery"] else "mains"))
    return facts


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ") + (" UTC" if moment.endswith("+00:00") else "")


def _statistics(report: Report) -> list[str]:
    return [
        "A case's ratio is plain's time a token over the arm's, same case and round, the median over rounds; a "
        "prompt's is the geometric mean over its cases, and the speed-up the geometric mean over prompts.",
        "Intervals: Student's, at 95 %, of the mean log ratio over prompts, which keeps its level where a bootstrap "
        "does not; none for fewer than three prompts.",
        f"The headline is the best of {report['headline']['arms_compared']} arms, so it says faster only when the "
        "interval at a level corrected for that many (Bonferroni) excludes 1 as well; as the best of several, its "
        "figure is a little on the high side.",
    ]


TERMS = {
    "tau": "tokens emitted per target pass, at most gamma + 1",
    "gamma": "tokens proposed in a step",
    "accepted": "proposed tokens that the target kept, over all steps",
    "c, v(n)": "time of a draft pass, and of a target pass over n tokens, over that of a target pass over one token",
    "MBSU": "memory-bound speed-up, tau / (c by parameters * gamma + 1): the papers' figure",
    "predicted": "tau / (v(gamma + 1) + c * gamma), from passes timed alone on this machine",
    "TTFT, TPOT": "time to the first token; time per token after it",
    "case, block": "a prompt at one turn and length of context; all arms on one case in one round",
}
