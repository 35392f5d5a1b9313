"""Formats tried against one another: each target and each draft is compressed once, then every combination is judged.

Speed is measured as passes: t(n) of every target and of every draft, in turn and in as many heats as memory asks for
(heats.py); only ratios inside one run count. With acceptance, computed from both models' choices:

    ms a token = (t_target(gamma + 1) + gamma * t_draft(1)) / tau(gamma), the best of gamma 1 to 5, or t_target(1) plain

The weight format of the target decides what verification costs (v(n) = t(n) / t(1)), so the format fastest alone
need not be the fastest with a draft. The draft's format changes speed only: the target checks every token.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgespec.pair import Pair, Role
from edgespec.progress import SILENT, Progress

from .acceptance import Acceptance, Text, accepted_by
from .cost import shared_vocabulary
from .front import Point, front_of
from .reading import Quality, Reader, Reference
from .timing import LENGTHS, Candidate, Models, time_passes

GAMMAS = (1, 2, 3, 4, 5)
CANDIDATES: dict[str, Mapping[Role, tuple[str, ...]]] = {
    "cpu": {
        "target": ("int8_sym", "int8_asym", "int4_sym", "int4_asym"),
        "draft": ("none", "int8_sym", "int8_asym", "int4_sym"),
    },
    "gpu": {
        "target": ("int8_sym", "int8_asym", "int4_sym", "int4_asym"),
        "draft": ("none", "int8_sym", "int8_asym", "int4_sym"),
    },
    "npu": {"target": ("int4_sym",), "draft": ("none", "int4_sym")},
}
MIN_AGREEMENT = 0.9
"""Top-1 agreement with the uncompressed target that a winner must reach, unless nothing does."""
NO_DRAFT = "no draft"


@dataclass(frozen=True)
class Combination:
    """One target format with one draft format. bytes: of both models. tau, acceptance_rate: at the best gamma; gamma 0
    is plain decoding. c: draft pass / target pass over one token. v: target pass over n tokens / over one, by n.
    decoded_ms_per_token: of real decoding through the native engine; None where it was not tried."""

    target: str
    draft: str
    bytes: int
    quality: Quality
    plain_ms: float
    v: dict[int, float]
    c: float | None
    gamma: int
    acceptance_rate: float | None
    tau: float
    ms_per_token: float
    acceptance_by_gamma: dict[int, float | None]
    on_front: bool = False
    winner: bool = False
    decoded_ms_per_token: float | None = None

    @property
    def label(self) -> str:
        return f"{self.target} + {self.draft}"


def judge(
    pair: Pair,
    models: Models,
    heats: Sequence[Sequence[Candidate]],
    prompts: Sequence[Sequence[int]],
    device: str,
    progress: Progress,
    *,
    max_new_tokens: int,
    min_agreement: float,
    scratch: Path,
) -> list[Combination]:
    """Every combination of what `heats` time, those on the front marked and one the winner, fastest first."""
    width = shared_vocabulary(pair)
    quality, answers = _targets(models.target, prompts, width, max_new_tokens, scratch, progress)
    accepted = _acceptance(models.draft, answers, width, max_new_tokens, progress)
    times = time_passes(models, heats, device, width, progress)
    found = []
    for target in (name for role, name in times if role == "target"):
        for draft in models.draft or (NO_DRAFT,):
            by_gamma = accepted.get((target, draft), {})
            one = times["draft", draft][1] if draft in models.draft else None
            size = _bytes(models.target[target]) + (_bytes(models.draft[draft]) if draft in models.draft else 0)
            found.append(_combination(target, draft, size, quality[target], times["target", target], one, by_gamma))
    return chosen(found, min_agreement)


def _combination(
    target: str,
    draft: str,
    size: int,
    quality: Quality,
    t: Mapping[int, float],
    one: float | None,
    by_gamma: Mapping[int, Acceptance],
) -> Combination:
    """t: seconds of the target's passes by length; one: of the draft's over a token, None without a draft."""
    options: list[tuple[float, int, float | None, float]] = [(t[1], 0, None, 1.0)]
    if one is not None:
        options += [
            ((t[gamma + 1] + gamma * one) / rate.tau, gamma, rate.acceptance_rate, rate.tau)
            for gamma, rate in by_gamma.items()
            if rate.tau
        ]
    best, gamma, rate_, tau = min(options, key=lambda option: option[0])
    return Combination(
        target=target,
        draft=draft,
        bytes=size,
        quality=quality,
        plain_ms=t[1] * 1e3,
        v={n: t[n] / t[1] for n in LENGTHS if n > 1},
        c=one / t[1] if one is not None else None,
        gamma=gamma,
        acceptance_rate=rate_,
        tau=tau,
        ms_per_token=best * 1e3,
        acceptance_by_gamma={gamma: rate.acceptance_rate for gamma, rate in by_gamma.items()},
    )


def chosen(found: Sequence[Combination], min_agreement: float) -> list[Combination]:
    """The combinations, fastest first, with the front (speed against KL) and the winner marked.

    The winner is the fastest whose target is compressed and agrees with the uncompressed one in at least
    `min_agreement` of its top-1 tokens; where none does, the one that agrees most.
    """
    fronts = front_of([(one.ms_per_token, one.quality.kl) for one in found])
    eligible = [one for one in found if one.target != "none"]
    good = [one for one in eligible if one.quality.top1 >= min_agreement]
    best = (
        min(good, key=lambda one: one.ms_per_token)
        if good
        else max(eligible, key=lambda one: (one.quality.top1, -one.ms_per_token))
    )
    marked = [replace(one, on_front=front, winner=one is best) for one, front in zip(found, fronts, strict=True)]
    return sorted(marked, key=lambda one: one.ms_per_token)


def points(found: Sequence[Combination]) -> list[Point]:
    return [Point(one.label, one.ms_per_token, one.quality.kl, one.on_front, one.winner) for one in found]


def document(found: Sequence[Combination]) -> list[dict[str, Any]]:
    return [asdict(one) for one in found]


def _targets(
    folders: Mapping[str, Path],
    prompts: Sequence[Sequence[int]],
    width: int,
    tokens: int,
    scratch: Path,
    progress: Progress,
) -> tuple[dict[str, Quality], dict[str, list[Text]]]:
    quality: dict[str, Quality] = {}
    answers: dict[str, list[Text]] = {}
    with progress.task("the targets answer", total=len(folders) * len(prompts) * 2) as task:
        reference: Reference | None = None
        for name, folder in folders.items():  # the uncompressed one is first
            task.describe(f"the target as {name} answers")
            reader = Reader(folder, width)
            answers[name] = []
            for prompt in prompts:
                answers[name].append(reader.answer(prompt, tokens))
                task.advance()
            if reference is None:
                reference = Reference(reader, answers[name], scratch, task)
                with SILENT.task("") as unseen:
                    quality[name] = reference.compare(None, unseen)
            else:
                quality[name] = reference.compare(reader, task)
            del reader
            gc.collect()
    return quality, answers


def _acceptance(
    folders: Mapping[str, Path], answers: Mapping[str, Sequence[Text]], width: int, tokens: int, progress: Progress
) -> dict[tuple[str, str], dict[int, Acceptance]]:
    found: dict[tuple[str, str], dict[int, Acceptance]] = {}
    with progress.task("what each draft gets right", total=max(1, len(folders) * len(answers))) as task:
        for draft, folder in folders.items():
            reader = Reader(folder, width)
            for target, texts in answers.items():
                own = reader.chances(texts)
                found[target, draft] = {gamma: accepted_by(own, gamma, tokens) for gamma in GAMMAS}
                task.advance()
            del reader
            gc.collect()
    return found


def _bytes(folder: Path) -> int:
    return (folder / "openvino_model.bin").stat().st_size
