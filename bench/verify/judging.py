"""From what was heard to a verdict: every comparison as a record, and one family of tests over all that are a matter
of chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgespec.progress import Progress

from .expectation import Draws, Expected, generator
from .hearing import Heard, hear_again
from .sameness import Difference, Margins, Sameness, difference, differs_more
from .variation import FAMILY_ALPHA, distance, holm, resolution, total_variation
from .voices import BATCH_CONTROL, REFERENCE, Voice
from .world import World

Record = dict[str, Any]


@dataclass(frozen=True)
class Compared:
    """By arm, its greedy answers against plain's (plain's against the target's own logits, `control` among them), and
    by how much rounding moves logit gaps along the answers in which something differs."""

    same: Mapping[str, Sameness]
    shift: float


def judge(
    voices: Sequence[Voice],
    heard: Heard,
    compared: Compared,
    expected: Sequence[Expected],
    draws: Draws | None,
    *,
    exact: bool,
    seed: int,
    progress: Progress,
) -> Record:
    """The result's keys passed, greedy, control, logit_shift, sampled, tests, family_alpha. voices: the arms heard.

    Sampled answers that look wrong are drawn afresh, and the arm fails if these look wrong too: chance does that to a
    right engine in 5 % of 5 % of runs, and it costs nothing where all is well.
    """
    tests: list[tuple[Record, float]] = []
    greedy: dict[str, Record] = {}
    for voice in voices:
        found = compared.same.get(voice.name)
        if found is None:
            continue
        unexplained = len(found.unexplained(compared.shift))
        record = _sameness(found) | {"unexplained": unexplained, "passed": not unexplained}
        control = compared.same.get(voice.control)
        if control is not None and not exact:
            record |= {"control": voice.control, "p_value": differs_more(found, control)}
            tests.append((record, record["p_value"]))
        greedy[voice.name] = record
    batch = compared.same.get(BATCH_CONTROL)
    sampled = []
    behind = {item.prompt: item for item in expected}
    for (name, prompt), counts in heard.counts.items():
        assert draws is not None
        record = _variation(name, behind[prompt], counts, draws) | _acceptance(heard, name)
        tests.append((record, record["p_value"]))
        sampled.append(record)
    for (record, _), passed in zip(tests, holm([p for _, p in tests]), strict=True):
        record["passed"] = record["passed"] and passed
    if draws is not None:
        _confirm([record for record in sampled if not record["passed"]], voices, expected, draws, seed, progress)
    _add_resolution(sampled, expected, draws, len(tests), seed)
    return {
        "passed": all(record["passed"] for record in (*greedy.values(), *sampled)),
        "greedy": greedy,
        "control": None if batch is None else _sameness(batch),
        "logit_shift": compared.shift,
        "sampled": sampled,
        "tests": len(tests),
        "family_alpha": FAMILY_ALPHA,
    }


def compare(world: World, heard: Heard, prompts: Mapping[str, list[int]], progress: Progress) -> Compared:
    """Hold every greedy answer against plain's, and plain's against the target's own exact logits."""
    plain = heard.greedy[REFERENCE]
    others = {name: answers for name, answers in heard.greedy.items() if name != REFERENCE}
    if heard.control is not None:
        others[BATCH_CONTROL] = heard.control
    differences: dict[str, list[Difference]] = {name: [] for name in (REFERENCE, *others)}
    margins: dict[str, Margins] = {}
    target = world.open_target()
    try:
        with progress.task("the target's own logits along plain's answers", total=len(plain)) as task:
            for prompt, answer in plain.items():
                logits = target.along(prompts[prompt], answer)
                likeliest = logits.argmax(axis=1).tolist()
                pairs = {REFERENCE: (answer, likeliest)} | {
                    name: (said[prompt], answer) for name, said in others.items()
                }
                for name, (ours, theirs) in pairs.items():
                    if found := difference(prompt, ours, theirs, logits):
                        differences[name].append(found)
                        margins[prompt] = Margins.of(logits)
                task.advance()
    finally:
        target.close()
    shift = _shift(world, plain, prompts, margins, progress) if margins else 0.0
    same = {name: Sameness(len(plain), tuple(found)) for name, found in differences.items()}
    return Compared(same, shift)


def _shift(
    world: World,
    plain: Mapping[str, list[int]],
    prompts: Mapping[str, list[int]],
    margins: Mapping[str, Margins],
    progress: Progress,
) -> float:
    """How far gaps move when the device decodes plain's answers a token a pass."""
    rounded, worst = world.open_rounded(), 0.0
    try:
        with progress.task("how far rounding moves the logits", total=len(margins)) as task:
            for prompt, of in margins.items():
                worst = max(worst, of.shift(rounded.along(prompts[prompt], plain[prompt], one_by_one=True)))
                task.advance()
    finally:
        rounded.close()
    return worst


def _variation(name: str, behind: Expected, counts: Any, draws: Draws) -> Record:
    variation = total_variation(counts, behind.cells.probabilities)
    return {
        "arm": name,
        "prompt": behind.prompt,
        "temperature": draws.sampling.temperature,
        "total_variation": variation,
        "null_median": behind.null.median,
        "null_bound95": behind.null.bound95,
        "samples": int(counts.sum()),
        "cells": len(behind.cells),
        "p_value": behind.null.p_value(variation),
        "draft_variation": None if behind.wrong is None else distance(behind.cells.probabilities, behind.wrong),
        "rounding_variation": behind.rounding,
        "again": None,
        "passed": True,
    }


def _confirm(
    doubtful: Sequence[Record],
    voices: Sequence[Voice],
    expected: Sequence[Expected],
    draws: Draws,
    seed: int,
    progress: Progress,
) -> None:
    wanted = {(record["arm"], record["prompt"]) for record in doubtful}
    counts = hear_again(voices, wanted, draws, expected, seed, progress)
    behind = {item.prompt: item for item in expected}
    for record in doubtful:
        item = behind[record["prompt"]]
        variation = total_variation(counts[record["arm"], record["prompt"]], item.cells.probabilities)
        record["again"] = {"total_variation": variation, "p_value": item.null.p_value(variation)}
    for record, passed in zip(doubtful, holm([record["again"]["p_value"] for record in doubtful]), strict=True):
        record["passed"] = passed


def _acceptance(heard: Heard, name: str) -> Record:
    """How much was speculated while sampling: an arm that never proposed was not tested."""
    proposed, accepted = heard.drafted[name]
    rate = accepted / proposed if proposed and accepted is not None else None
    return {"proposed": proposed, "acceptance_rate": rate}


def _add_resolution(
    sampled: Sequence[Record], expected: Sequence[Expected], draws: Draws | None, tests: int, seed: int
) -> None:
    """`finds`: the total variation that a test finds in nine of ten runs at the strictest level Holm's rule may hold it
    to; None when even an engine that always answers as the draft does would pass."""
    for index, behind in enumerate(expected):
        records = [record for record in sampled if record["prompt"] == behind.prompt]
        if records and draws is not None:
            found = resolution(
                behind.cells.probabilities,
                behind.wrong,
                draws.samples,
                behind.null.bound(FAMILY_ALPHA / tests),
                generator(seed, "power", index),
            )
            for record in records:
                record["finds"] = found


def _sameness(found: Sameness) -> Record:
    return {
        "matched": found.matched,
        "total": found.total,
        "first_divergence": [
            {"prompt": item.prompt, "position": item.position, "of": item.of, "logit_gap": item.logit_gap}
            for item in found.differences
        ],
    }
