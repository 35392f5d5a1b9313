"""report.json (schema edgespec.bench/1) and the sentence on top of it: pure functions over the lines of rows.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from . import statistics as st
from .bound import explain
from .calibration import Choice, choose_settings
from .conditions import conditions, notes
from .plan import (
    AUTO,
    CONTROL,
    PIPELINE,
    PLAIN_TUNED,
    REFERENCE,
    TUNED,
    UNTOUCHED,
    Arm,
    kind_of,
    measured_arms,
    settings_arms,
)
from .promise import Held, promise
from .rows import Bandwidth, Header, Line, Load, Passes, Row, Sameness, Session, Stop, latest_rows

SCHEMA = "edgespec.bench/1"


@dataclass(frozen=True)
class _Run:
    """What the arms' figures are made from."""

    header: Header
    settings: Mapping[str, Any]
    rows: list[Row]
    loads: list[Load]
    bandwidth: float | None
    target_s: list[dict[int, float]]
    draft_s: list[dict[int, float]]

    @property
    def costs(self) -> dict[int, float]:
        return st.pass_costs(self.target_s)

    @property
    def single_s(self) -> float | None:
        """Seconds of a target pass over one token."""
        known = [seconds[1] for seconds in self.target_s if seconds.get(1)]
        return median(known) if known else None

    def c(self, gamma: float | None) -> float | None:
        return st.draft_cost(st.draft_costs(self.draft_s, self.target_s), gamma) if self.draft_s else None

    @property
    def repetition(self) -> dict[str, float]:
        """How much plain's answer to each prompt repeats itself."""
        found = {row.prompt: st.repetition(row.token_ids) for row in self.rows if row.arm == REFERENCE and row.tokens}
        return {prompt: share for prompt, share in found.items() if share is not None}

    @property
    def c_params(self) -> float | None:
        draft = self.header.pair.get("draft")
        return draft["parameters"] / self.header.pair["target"]["parameters"] if draft else None


def settings_choice(lines: Sequence[Line]) -> Choice:
    """The settings that the run's trial decided for, or that were asked for."""
    header = _header(lines)
    if header.settings != "auto":
        return Choice(header.settings, "asked for", [])
    return choose_settings(latest_rows(lines, "settings"), settings_arms(header.candidates))


def build_report(lines: Sequence[Line]) -> dict[str, Any]:
    """The report on whatever has been measured so far; unknown is None."""
    header = _header(lines)
    choice = settings_choice(lines)
    arms = measured_arms(header, choice.name)
    passes = _passes(lines, choice.name)
    sessions = [line for line in lines if isinstance(line, Session)]
    bandwidth = next((line for line in reversed(lines) if isinstance(line, Bandwidth)), Bandwidth())
    run = _Run(
        header=header,
        settings=header.candidates[choice.name],
        rows=latest_rows(lines, "measure"),
        loads=[line for line in lines if isinstance(line, Load)],
        bandwidth=bandwidth.bytes_per_second,
        target_s=_slices(passes.get("target", [])),
        draft_s=_slices(passes.get("draft", [])),
    )
    described = [_describe(run, arm) for arm in arms]
    contenders = [arm for arm in described if arm["mode"] != "plain" and arm["speedup"]["geomean"] is not None]
    drafts = [arm for arm in contenders if arm["mode"] in ("draft", "eagle3")]
    headline = _headline(run, contenders)
    stop = next((line for line in reversed(lines) if isinstance(line, Stop)), None)
    rounds = stop.repetitions if stop else header.repetitions
    expected = header.cases * len(arms) * rounds
    best_draft = max(drafts, key=_geomean)["name"] if drafts else None
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "complete": stop is not None and stop.complete and len(run.rows) >= expected,
        "pair": header.pair,
        "device": header.device,
        "draft_device": header.draft_devices[0] if header.draft_devices else None,
        "draft_devices": header.draft_devices,
        "versions": header.versions,
        "machine": header.machine,
        "prompts": {"suite": header.suite, "count": len(header.prompt_ids), "sha256": header.prompts_sha256},
        "dropped_prompts": header.dropped_prompts,
        "run": {
            "started_at": header.started_at,
            "finished_at": run.rows[-1].started_at if run.rows else None,
            "repetitions": rounds,
            "stopped_because": stop.reason if stop else None,
            "precision": header.precision,
            "max_new_tokens": header.max_new_tokens,
            "contexts": header.contexts,
            "sampling": header.sampling or {"temperature": 0.0},
            "seed": header.seed,
            "cases": header.cases,
            "rows": len(run.rows),
            "rows_planned": expected,
            "sessions": len(sessions),
        },
        "arms": described,
        "best_arm": headline["arm"] if headline["verdict"] == "faster" else REFERENCE,
        "best_plain": REFERENCE,
        "best_draft_arm": best_draft,
        "headline": headline,
        "bound": next(
            ({"arm": arm["name"], **arm["bound"]} for arm in described if arm["name"] == headline["arm"]), None
        ),
        "settings": {
            "chosen": choice.name,
            "reason": choice.reason,
            "candidates": [asdict(c) for c in choice.candidates],
        },
        "passes": {
            role: {
                "device": measured[-1].device,
                "context": measured[-1].context,
                "slices": sum(line.error is None for line in measured),
                "seconds": {str(n): seconds for n, seconds in _middle(_slices(measured)).items()},
                "error": next((line.error for line in measured if line.error), None),
            }
            for role, measured in passes.items()
        },
        "bandwidth": {
            "limit_gb_per_second": bandwidth.bytes_per_second and bandwidth.bytes_per_second / 1e9,
            "error": bandwidth.error,
        },
        "sameness": _sameness(lines),
        "conditions": conditions(run.rows, sessions),
        "repetition": {"median": median(run.repetition.values()) if run.repetition else None, "run": st.REPEAT_RUN},
    }
    report["promise"] = [_held(held) for held in promise(run.rows, arms)] or None
    report["notes"] = [*header.notes, *notes(report)]
    return report


def _held(held: Held) -> dict[str, Any]:
    return {
        "category": held.category,
        "rivals": list(held.rivals),
        "bound": held.bound,
        **_speedup(held.found),
        "kept": held.kept,
    }


def _sameness(lines: Sequence[Line]) -> dict[str, Any] | None:
    """What the checks beside the timed rows found; None when they were not made."""
    exact = latest_rows(lines, "exact")
    found = next((line for line in reversed(lines) if isinstance(line, Sameness)), None)
    if found is None and not exact:
        return None
    found = found or Sameness()
    compared = {arm: st.sameness(exact, arm, REFERENCE) for arm in dict.fromkeys(row.arm for row in exact)}
    return {
        "exact": {arm: asdict(same) for arm, same in compared.items() if same is not None and arm != REFERENCE},
        "batched_control": {"matched": found.control_matched, "total": found.control_total},
        "gaps": [gap.model_dump() for gap in found.gaps],
        "error": found.error,
    }


def _header(lines: Sequence[Line]) -> Header:
    header = lines[0]
    assert isinstance(header, Header)
    return header


def _geomean(arm: Mapping[str, Any]) -> float:
    return float(arm["speedup"]["geomean"])


def _passes(lines: Sequence[Line], settings: str) -> dict[str, list[Passes]]:
    """By role, one line a round; of lines for the same round the last."""
    found: dict[str, dict[int, Passes]] = {}
    for line in lines:
        if isinstance(line, Passes) and line.settings == settings:
            found.setdefault(line.role, {})[line.repetition] = line
    return {role: [by_round[number] for number in sorted(by_round)] for role, by_round in found.items()}


def _slices(measured: Sequence[Passes]) -> list[dict[int, float]]:
    """Seconds by n of each line, empty for one that failed; the draft's of n passes in a row, also where an older file
    has those of single passes."""
    return [
        {n: n * line.seconds[1] for n in range(1, 9)}
        if line.role == "draft" and not line.in_a_row and line.seconds.get(1)
        else line.seconds
        for line in measured
    ]


def _middle(slices: Sequence[Mapping[int, float]]) -> dict[int, float]:
    lengths = sorted({n for seconds in slices for n in seconds})
    return {n: median(seconds[n] for seconds in slices if n in seconds) for n in lengths}


def _headline(run: _Run, contenders: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The fastest arm that is not plain. It is the best of several, so its verdict asks more than its own 95 %
    interval: the interval at 1 - 0.05/arms (Bonferroni) must be on one side of 1 as well."""
    if not contenders:
        return {
            "arm": None,
            "over": None,
            "arms_compared": 0,
            "geomean": None,
            "ci95": None,
            "ci_of_best": None,
            "verdict": None,
        }
    best = max(contenders, key=_geomean)
    # the trial chose the settings on few prompts; should the whole run find the untouched default faster, it counts
    default = _over(run, UNTOUCHED, REFERENCE)
    over = UNTOUCHED if default.verdict == "faster" else REFERENCE
    ratios = list(st.prompt_ratios(run.rows, best["name"], over).values())
    luck = st.process_luck(run.rows, best["name"], over)
    found = st.speedup(ratios, luck=luck)
    strict = st.speedup(ratios, 1 - 0.05 / len(contenders), luck)
    return {
        "arm": best["name"],
        "over": over,
        "arms_compared": len(contenders),
        "geomean": found.geomean,
        "ci95": _pair(found.ci95),
        "ci_of_best": _pair(strict.ci95),
        "verdict": strict.verdict,
    }


def _describe(run: _Run, arm: Arm) -> dict[str, Any]:
    """One entry of `arms`."""
    rows = [row for row in run.rows if row.arm == arm.name and row.error is None]
    errors = [row.error for row in run.rows if row.arm == arm.name and row.error]
    drafting = st.drafting(rows)
    plain, with_draft = arm.plain, kind_of(arm).drafts
    tau = drafting.block_efficiency
    gamma = float(arm.gamma) if arm.gamma is not None else drafting.mean_proposed
    as_an_app = arm.engine == PIPELINE  # which finds its settings and its way itself
    as_metered = dict(arm.settings) == dict(run.settings) and not as_an_app  # as passes were timed, for the reference
    costs = run.costs if as_metered else {}
    metered_on = next(iter(run.header.draft_devices), run.header.device)
    on_first_draft_device = (arm.draft_device or run.header.device) == metered_on
    a_pass_a_token = arm.mode == "draft" and on_first_draft_device  # a tree of the draft's takes a pass a level
    c = None if plain or as_an_app else (run.c(gamma) if a_pass_a_token and as_metered else None) if with_draft else 0.0
    c_params = None if plain or as_an_app else run.c_params if with_draft else 0.0
    same = None if run.header.sampling else st.sameness(run.rows, arm.name, REFERENCE)
    ratios = st.prompt_ratios(run.rows, arm.name, REFERENCE)
    luck = st.process_luck(run.rows, arm.name, REFERENCE)
    speedup = st.speedup(list(ratios.values()), luck=luck)
    if arm.name == REFERENCE and ratios:
        speedup = st.Speedup(1.0, None, "reference", len(ratios))
    tpots = [tpot for row in rows if (tpot := st.tpot_s(row)) is not None]
    bound = None
    if not plain:
        decode = st.speedup(list(st.prompt_ratios(run.rows, arm.name, REFERENCE, st.tpot_s).values())).geomean
        bound = asdict(
            explain(
                gamma=gamma,
                tau=tau,
                costs=costs,
                c=c,
                single_s=run.single_s if as_metered else None,
                iteration_s=median(tpots) * tau if tpots and tau else None,
                decode=decode,
                measured=speedup.geomean,
                with_draft=with_draft,
            )
        )
    return {
        "name": arm.name,
        "engine": arm.engine,
        "mode": arm.mode,
        "gamma": arm.gamma,
        "threshold": arm.threshold,
        "draft_device": arm.draft_device,
        "settings": {"name": arm.settings_name, "properties": dict(arm.settings)},
        "tokens_per_second": _rate(rows, run.header.seed),
        "ttft_ms": _milliseconds([row.ttft_s for row in rows if row.ttft_s is not None]),
        "tpot_ms": _milliseconds(tpots),
        "speedup": _speedup(speedup),
        "speedup_over_default": _over_default(run, arm, speedup),
        "by_category": _by(run, rows, arm, luck, lambda row: row.category),
        "by_turn": _by(run, rows, arm, luck, lambda row: str(row.turn)) if any(row.turn > 1 for row in rows) else {},
        "by_context": _by(run, rows, arm, luck, lambda row: str(row.context)) if run.header.contexts else {},
        "by_repetition": _by_repetition(run, ratios, luck),
        "acceptance_rate": drafting.acceptance_rate,
        "alpha": drafting.alpha,
        "block_efficiency": tau,
        "mean_proposed": None if plain else drafting.mean_proposed,
        "mbsu": st.mbsu(tau, gamma, c_params),
        "c": c,
        "c_params": c_params,
        "v": {str(n): cost for n, cost in costs.items()},
        "predicted_speedup": None if plain else st.predicted_speedup(tau, gamma, costs, c),
        "bound": bound,
        "identical": None if same is None else asdict(same),
        "peak_rss_bytes": max((row.peak_rss_bytes for row in rows if row.peak_rss_bytes is not None), default=None),
        "loaded_rss_bytes": _loaded_bytes(run, arm),
        "step_time": _step_time(rows),
        "energy_j_per_token": _energy(rows),
        "weights_gb_per_second": _bandwidth(run, tpots, tau),
        "share_of_bandwidth_limit": _share_of_limit(run, _bandwidth(run, tpots, tau)),
        "answers": len(rows),
        "errors": {"count": len(errors), "first": errors[0] if errors else None},
    }


def _rate(rows: Sequence[Row], seed: int) -> dict[str, Any]:
    by_prompt: dict[str, list[float]] = {}
    for row in rows:
        if seconds := st.seconds_per_token(row):
            by_prompt.setdefault(row.prompt, []).append(1 / seconds)
    rates = [median(values) for values in by_prompt.values()]
    return {"median": median(rates) if rates else None, "ci95": _pair(st.interval_of_median(rates, seed))}


def _milliseconds(seconds: Sequence[float]) -> dict[str, float | None]:
    if not seconds:
        return {"median": None, "p95": None}
    return {"median": median(seconds) * 1e3, "p95": st.percentile(seconds, 0.95) * 1e3}


def _speedup(value: st.Speedup) -> dict[str, Any]:
    return {
        "geomean": value.geomean,
        "ci95": _pair(value.ci95),
        "verdict": value.verdict,
        "prompts": value.prompts,
    }


def _over_default(run: _Run, arm: Arm, over_reference: st.Speedup) -> dict[str, Any]:
    """Against plain decoding with no setting touched; the same as `speedup` when the best settings are the default."""
    if not any(row.arm == UNTOUCHED for row in run.rows):
        return _speedup(over_reference)
    if arm.name == UNTOUCHED:
        return _speedup(st.Speedup(1.0, None, "reference", over_reference.prompts))
    return _speedup(_over(run, arm.name, UNTOUCHED))


def _over(run: _Run, arm: str, reference: str) -> st.Speedup:
    ratios = st.prompt_ratios(run.rows, arm, reference)
    return st.speedup(list(ratios.values()), luck=st.process_luck(run.rows, arm, reference))


def _by(run: _Run, rows: Sequence[Row], arm: Arm, luck: st.Luck | None, group: Callable[[Row], str]) -> dict[str, Any]:
    """The arm's speed-up in each group of rows, with what it accepted there. luck: the same processes answered all."""
    result = {}
    for name in sorted({group(row) for row in rows}, key=lambda name: (len(name), name)):
        ratios = st.prompt_ratios([row for row in run.rows if group(row) == name], arm.name, REFERENCE)
        drafting = st.drafting([row for row in rows if group(row) == name])
        result[name] = {
            **_speedup(st.speedup(list(ratios.values()), luck=luck)),
            "acceptance_rate": drafting.acceptance_rate,
            "block_efficiency": drafting.block_efficiency,
        }
    return result


def _by_repetition(run: _Run, ratios: Mapping[str, float], luck: st.Luck | None) -> dict[str, Any]:
    """The speed-up on the half of the prompts whose plain answers repeat themselves least, and on the other half."""
    shares = run.repetition
    if len(shares) < 2:
        return {}
    middle = median(shares.values())
    halves = {
        "least": [ratios[prompt] for prompt in ratios if shares.get(prompt, middle + 1) <= middle],
        "most": [ratios[prompt] for prompt in ratios if shares.get(prompt, middle) > middle],
    }
    return {name: _speedup(st.speedup(values, luck=luck)) for name, values in halves.items()}


def _loaded_bytes(run: _Run, arm: Arm) -> int | None:
    """What the arm's process held once its engine was loaded."""
    found = [load.rss_after_bytes for load in run.loads if load.engine == "/".join(arm.engine_key)]
    return found[-1] if found else None


def _step_time(rows: Sequence[Row]) -> dict[str, float] | None:
    """Where the time after the first token goes, in milliseconds a step; None where the engine does not tell."""
    known = [
        (row.draft_s, row.verify_s, row.wall_s - row.ttft_s, len(row.emitted) - 1)
        for row in rows
        if row.draft_s is not None and row.verify_s is not None and row.wall_s and row.ttft_s and len(row.emitted) > 1
    ]
    steps = sum(count for *_, count in known)
    if not steps:
        return None
    draft, verify, whole = (sum(row[i] for row in known) / steps * 1e3 for i in range(3))
    return {"draft_ms": draft, "verify_ms": verify, "other_ms": whole - draft - verify}


def _energy(rows: Sequence[Row]) -> float | None:
    pairs = [(row.energy_j, row.tokens) for row in rows if row.energy_j is not None and row.tokens]
    tokens = sum(count for _, count in pairs)
    return sum(energy for energy, _ in pairs) / tokens if tokens else None


def _share_of_limit(run: _Run, gb_per_second: float | None) -> float | None:
    return gb_per_second * 1e9 / run.bandwidth if gb_per_second and run.bandwidth else None


def _bandwidth(run: _Run, tpots: Sequence[float], tau: float | None) -> float | None:
    """Target weights read per second while decoding, in GB: an absurd figure here means an absurd time."""
    size = run.header.pair["target"].get("weights_bytes")
    return size / (median(tpots) * tau) / 1e9 if size and tpots and tau else None


def _pair(interval: st.Interval | None) -> list[float] | None:
    return None if interval is None else [interval[0], interval[1]]


def arm_label(arm: Mapping[str, Any]) -> str:
    """An arm's name in words."""
    fixed = {
        "lookup": "prompt lookup",
        UNTOUCHED: "plain, untouched default",
        CONTROL: "plain again, the control",
        TUNED: "the tuned profile",
        PLAIN_TUNED: "plain, the profile's settings",
        AUTO: "auto, as an app runs it",
    }
    if arm["name"] in fixed:
        return fixed[arm["name"]]
    name, _, device = str(arm["name"]).partition("@")
    words = name.replace("-", " ")
    if arm.get("gamma") is not None:
        words = words.rsplit(" ", 1)[0] + f" gamma {arm['gamma']}"
    elif arm.get("threshold") is not None:
        words = words.rsplit(" ", 1)[0] + f" above {arm['threshold']:g}"
    return words + (f", draft on {device}" if device else "")


def verdict_sentence(report: Mapping[str, Any]) -> str:
    """What the run found, in words that claim no more than its intervals allow."""
    return " ".join(filter(None, verdict_parts(report)))


def verdict_parts(report: Mapping[str, Any]) -> tuple[str, str]:
    """The verdict against plain decoding with the best settings, and a sentence against the untouched default ("" when
    they are the same)."""
    headline = report["headline"]
    arms = {arm["name"]: arm for arm in report["arms"]}
    if headline["arm"] is None:
        return _without_contender(report, arms[REFERENCE]), ""
    best = arms[headline["arm"]]
    label = arm_label(best)
    on = f"on {best['speedup']['prompts']} {_suite(report, best['speedup']['prompts'])}"
    ratio, interval = f"{headline['geomean']:.2f}x", _interval(headline["ci95"])
    if headline["verdict"] == "faster":
        said = f"This machine answers {ratio} as fast ({interval}) with {label} as without, {on}"
    elif headline["verdict"] == "slower":
        said = (
            f"Nothing tried beats plain decoding on this machine: the best, {label}, runs at {ratio} ({interval}), {on}"
        )
    elif best["speedup"]["verdict"] == "faster":
        said = (
            f"This run cannot tell whether {label} helps: {ratio} ({interval}) {on} looks faster, but the best of "
            f"{headline['arms_compared']} arms can look so by chance; measure more prompts"
        )
    else:
        said = f"This run cannot tell whether {label} helps: {ratio} ({interval}) {on}; measure more prompts"
    said += f"; {_same(best['identical'])}."
    beside = [_beside_default(best, arms), _draft_too(report, best, arms)]
    return said, " ".join(filter(None, beside))


def _draft_too(report: Mapping[str, Any], best: Mapping[str, Any], arms: Mapping[str, Mapping[str, Any]]) -> str:
    """The best draft arm's own figure, where another arm won."""
    if best["mode"] in ("draft", "eagle3") or report["best_draft_arm"] is None:
        return ""
    draft = arms[report["best_draft_arm"]]
    found = draft["speedup"]
    return (
        f"With the draft model, {arm_label(draft)}: {found['geomean']:.2f}x ({_interval(found['ci95'])}; "
        f"{found['verdict']}), {_same(draft['identical'])}."
    )


def _without_contender(report: Mapping[str, Any], plain: Mapping[str, Any]) -> str:
    rate = plain["tokens_per_second"]["median"]
    if rate is None:
        return "Nothing was measured: no arm gave an answer."
    tried = [arm for arm in report["arms"] if arm["mode"] != "plain"]
    why = "every speculative arm failed" if tried else "no speculative arm was asked for"
    return f"Plain decoding makes {rate:.1f} tokens/s on this machine; there is no speed-up to state, because {why}."


def _suite(report: Mapping[str, Any], count: int) -> str:
    suite = report["prompts"]["suite"]
    noun = "prompt" if count == 1 else "prompts"
    return {"quick": f"code {noun}", "code": f"code {noun}", "full": noun}.get(suite, f"{noun} of {suite}")


def _interval(interval: Sequence[float] | None) -> str:
    return f"95 % interval {interval[0]:.2f} to {interval[1]:.2f}" if interval else "too few prompts for an interval"


def _same(identical: Mapping[str, Any] | None) -> str:
    if identical is None:
        return "outputs were not compared token for token"
    matched, total = identical["matched"], identical["total"]
    return (
        f"outputs identical in {matched}/{total}"
        if matched * 10 >= total * 8
        else f"outputs identical in only {matched}/{total}"
    )


def _beside_default(best: Mapping[str, Any], arms: Mapping[str, Mapping[str, Any]]) -> str:
    both = best["speedup_over_default"]
    if UNTOUCHED not in arms or both["verdict"] == "cannot tell":
        return ""
    alone, name = arms[REFERENCE]["speedup_over_default"], arms[REFERENCE]["settings"]["name"]
    share = (
        f", of which the settings '{name}' alone give {alone['geomean']:.2f}x" if alone["verdict"] == "faster" else ""
    )
    return f"Against OpenVINO's untouched default it is {both['geomean']:.2f}x ({_interval(both['ci95'])}){share}."
