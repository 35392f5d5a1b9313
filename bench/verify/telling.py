"""A verification in words: tables for a terminal, one sentence an arm, one for the whole. Pure functions over the
result of `run_verify`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgespec.console import Terminal

from .sameness import EXPLAINED_SHIFTS
from .voices import BATCH_CONTROL, NATIVE_CONTROL, REFERENCE

Result = Mapping[str, Any]
CONTROLS = {BATCH_CONTROL: "plain decoding in a batch", NATIVE_CONTROL: "native decoding without speculation"}
GREEDY = ("arm", "identical", "largest logit gap", "verdict")
SAMPLED = ("arm", "prompt", "TV", "chance", "95 %", "p", "finds", "verdict")


def print_verification(terminal: Terminal, result: Result) -> None:
    """Both tables, a sentence for each arm, what weakens the result, and the verdict, to stderr."""
    greedy, sampled = result["greedy"], result["sampled"]
    how = "exact settings" if result["exact"] else "default settings"
    rows = [_greedy_row(name, record) for name, record in greedy.items()]
    if result["control"] is not None:
        rows.append(["plain in a batch (control)", _matched(result["control"]), _gap(result["control"]), "-"])
    terminal.table(f"Greedy, {how}: {result['pair']} on {result['device']}", GREEDY, rows)
    if sampled:
        of = result["sampling"]
        title = (
            f"Sampled, {how}: {of['samples']} answers of {of['tokens']} tokens at temperature {of['temperature']:g}"
            + (f", top-k {of['top_k']}" if of["top_k"] else "")
            + (f", top-p {of['top_p']:g}" if of["top_p"] < 1 else "")
        )
        terminal.table(title, SAMPLED, [_sampled_row(record) for record in sampled])
        terminal.say(_legend(result))
    for name in _arms(result):
        terminal.say(arm_sentence(result, name))
    for note in notes(result):
        terminal.say(f"note: {note}")
    terminal.say(verification_sentence(result))


def verification_sentence(result: Result) -> str:
    """The verdict over all arms."""
    failed = [name for name in _arms(result) if not _passed(result, name)]
    if not failed:
        return "PASS: no arm changes what the model says, as far as this check can see."
    if REFERENCE in failed:
        return (
            "FAIL: plain decoding itself does not say what the target's own logits say, so this is no matter of "
            "speculation: look at the device's precision (run with --exact) and at the versions of OpenVINO."
        )
    return f"FAIL: {', '.join(failed)} {'changes' if len(failed) == 1 else 'change'} what the model says."


def arm_sentence(result: Result, name: str) -> str:
    """What was found of one arm."""
    parts = []
    if name in result["greedy"]:
        parts.append(_greedy_sentence(result, name))
    if records := [record for record in result["sampled"] if record["arm"] == name]:
        parts.append(_sampled_sentence(records))
    return f"{name}: {'; '.join(parts)}."


def notes(result: Result) -> list[str]:
    """What weakens the result, and how to read it."""
    found = list(result["left_out"])
    sampled = result["sampled"]
    doubtful = [record for record in sampled if record["passed"] and record["again"]]
    for record in doubtful:
        found.append(
            f"{record['arm']} on {record['prompt']} looked wrong at first (p {record['p_value']:.2g}) and not with as "
            f"many fresh samples (total variation {record['again']['total_variation']:.3f}, p "
            f"{record['again']['p_value']:.2g}): it was chance."
        )
    beyond = [
        record
        for record in sampled
        if record["passed"] and not record["again"] and record["total_variation"] > record["null_bound95"]
    ]
    if beyond:
        found.append(
            f"{len(beyond)} of {len(sampled)} total variations lie above their 95 % bound and pass: one in twenty does "
            f"by chance, so the {result['tests']} tests of this run are judged together (Holm's rule), and what then "
            f"looks wrong, as a right engine does in {result['family_alpha']:.0%} of runs, is sampled once more."
        )
    silent = sorted({record["arm"] for record in sampled if record["proposed"] == 0 and not _is_plain(record["arm"])})
    if silent:
        found.append(f"{', '.join(silent)} proposed nothing while sampling, so nothing of it was tested there.")
    blind = sorted({record["prompt"] for record in sampled if record["finds"] is None})
    if blind:
        found.append(
            f"On {', '.join(blind)} even an engine that always answers as the draft does might pass: draft and target "
            "say nearly the same there; take more --samples or another suite."
        )
    rounded = [record["rounding_variation"] for record in sampled if record["rounding_variation"] is not None]
    if rounded:
        found.append(
            f"Rounding alone moves the target's distribution by a total variation of {max(rounded):.4f} at most, which "
            "is part of every TV above; with --exact it is not there."
        )
    return found


def _legend(result: Result) -> str:
    finds = [record for record in result["sampled"] if record["finds"] is not None and record["draft_variation"]]
    text = (
        "TV: the least share of answers that must change to follow the target exactly. chance: TV of as many answers "
        "drawn from the target itself, its median and 95 % bound. finds: the true TV that nine of ten runs would see"
    )
    if finds:
        shares = [record["finds"] / record["draft_variation"] for record in finds]
        text += f", reached by answers of which {min(shares):.0%} to {max(shares):.0%} follow the draft instead"
    return f"{text}."


def _greedy_sentence(result: Result, name: str) -> str:
    record = result["greedy"][name]
    against = "the target's own logits" if name == REFERENCE else "plain decoding"
    same = f"greedily the same as {against} on {record['matched']} of {record['total']} prompts"
    explained = EXPLAINED_SHIFTS * result["logit_shift"]
    if record["unexplained"]:
        gaps = [item["logit_gap"] for item in record["first_divergence"]]
        if None in gaps:
            return f"{same}, and an answer ends where the other goes on"
        return f"{same}; rounding explains a logit gap up to {explained:.2g}, and {max(map(abs, gaps)):.2g} was seen"
    if not record["passed"]:
        control = result["control"] if record["control"] == BATCH_CONTROL else result["greedy"][record["control"]]
        return (
            f"{same}, significantly fewer than its control, {CONTROLS[record['control']]}, with {control['matched']}: "
            f"p {record['p_value']:.2g}, McNemar's exact test, one-sided"
        )
    if record["first_divergence"]:
        return f"{same}, the others leaving it at near-ties that rounding decides (gaps up to {explained:.2g})"
    return same


def _sampled_sentence(records: Sequence[Mapping[str, Any]]) -> str:
    worst = min(records, key=lambda record: record["p_value"])
    figures = (
        f"total variation {worst['total_variation']:.3f} on {worst['prompt']}, where chance alone stays below "
        f"{worst['null_bound95']:.3f}"
    )
    if all(record["passed"] for record in records):
        return f"sampled, no difference from the target's distribution is seen (most suspect: {figures})"
    again = next(record["again"]["total_variation"] for record in records if not record["passed"])
    return (
        f"sampled, its answers do NOT follow the target's distribution: {figures}, and {again:.3f} with fresh samples"
    )


def _greedy_row(name: str, record: Mapping[str, Any]) -> list[str]:
    return [name, _matched(record), _gap(record), "same" if record["passed"] else "DIFFERS"]


def _matched(record: Mapping[str, Any]) -> str:
    return f"{record['matched']}/{record['total']}"


def _gap(record: Mapping[str, Any]) -> str:
    gaps = [abs(item["logit_gap"]) for item in record["first_divergence"] if item["logit_gap"] is not None]
    return f"{max(gaps):.2g}" if gaps else "-"


def _sampled_row(record: Mapping[str, Any]) -> list[str]:
    return [
        record["arm"],
        record["prompt"],
        f"{record['total_variation']:.3f}",
        f"{record['null_median']:.3f}",
        f"{record['null_bound95']:.3f}",
        f"{record['p_value']:.2g}",
        "-" if record["finds"] is None else f"{record['finds']:.2f}",
        "same" if record["passed"] else "DIFFERS",
    ]


def _arms(result: Result) -> list[str]:
    return list(dict.fromkeys([*result["greedy"], *(record["arm"] for record in result["sampled"])]))


def _passed(result: Result, name: str) -> bool:
    records = [record for record in result["sampled"] if record["arm"] == name]
    return bool(result["greedy"].get(name, {"passed": True})["passed"] and all(r["passed"] for r in records))


def _is_plain(name: str) -> bool:
    return name in (REFERENCE, NATIVE_CONTROL)
