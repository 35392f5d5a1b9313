"""Formats tried against one another: each target and each draft is compressed once, then every combination is judged.

Speed is measured as passes: t(n) of every target and of every draft, interleaved, so that a slow moment of the machine
falls on all; only ratios inside one run count. With acceptance, computed from both models' choices:

    ms a token = (t_target(gamma + 1) + gamma * t_draft(1)) / tau(gamma), the best of gamma 1 to 5, or t_target(1) plain

The weight format of the target decides what verification costs (v(n) = t(n) / t(1)), so the format fastest alone
need not be the fastest with a draft. The draft's format changes speed only: the target checks every token.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from edgespec.engine.model import ModelSequence, open_model
from edgespec.engine.native import NativeEngine
from edgespec.engine.passes import measure_models
from edgespec.pair import Pair, Role
from edgespec.progress import Progress

from .acceptance import Text, accepted_by
from .calibration import Ask
from .cost import Quality, Reader, Reference, encoded, shared_vocabulary
from .front import Point, front_of

GAMMAS = (1, 2, 3, 4, 5)
LENGTHS = (1, 2, 3, 4, 5, 6)
CANDIDATES: Mapping[str, Mapping[Role, tuple[str, ...]]] = {
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


@dataclass(frozen=True)
class Models:
    """Folders of the candidates by name; "none" is the uncompressed one."""

    target: Mapping[str, Path]
    draft: Mapping[str, Path]


@dataclass(frozen=True)
class _Placed(Pair):
    """A pair whose models lie in folders of their own."""

    target_folder: Path = Path()
    draft_folder: Path = Path()

    @property
    def target(self) -> Path:
        return self.target_folder

    @property
    def draft(self) -> Path | None:
        return self.draft_folder


def judge(
    pair: Pair,
    models: Models,
    asks: Sequence[Ask],
    device: str,
    progress: Progress,
    *,
    max_new_tokens: int,
    min_agreement: float,
    scratch: Path,
) -> list[Combination]:
    """Every combination of `models`, those on the front marked and one the winner, fastest first."""
    prompts = encoded(pair, asks)
    width = shared_vocabulary(pair)
    quality, answers = _targets(models.target, prompts, width, max_new_tokens, scratch, progress)
    accepted = _acceptance(models.draft, answers, width, max_new_tokens, progress)
    times = _times(pair, models, device, progress)
    found = []
    for target, folder in models.target.items():
        t = times["target", target]
        for draft, draft_folder in (models.draft or {"": folder}).items():
            one = times["draft", draft][1] if draft else None
            by_gamma = accepted[target, draft] if draft else {}
            options = [(t[1], 0, None, 1.0)]
            options += [
                ((t[gamma + 1] + gamma * one) / rate.tau, gamma, rate.acceptance_rate, rate.tau)
                for gamma, rate in by_gamma.items()
                if one is not None and rate.tau
            ]
            best, gamma, rate_, tau = min(options, key=lambda option: option[0])
            found.append(
                Combination(
                    target=target,
                    draft=draft or "no draft",
                    bytes=_bytes(folder) + (_bytes(draft_folder) if draft else 0),
                    quality=quality[target],
                    plain_ms=t[1] * 1e3,
                    v={n: t[n] / t[1] for n in LENGTHS if n > 1},
                    c=one / t[1] if one is not None else None,
                    gamma=gamma,
                    acceptance_rate=rate_,
                    tau=tau,
                    ms_per_token=best * 1e3,
                    acceptance_by_gamma={gamma: rate.acceptance_rate for gamma, rate in by_gamma.items()},
                )
            )
    return chosen(found, min_agreement)


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


def decode(
    pair: Pair,
    models: Models,
    combinations: Sequence[Combination],
    asks: Sequence[Ask],
    device: str,
    max_new_tokens: int,
    progress: Progress,
) -> dict[str, float]:
    """Milliseconds a token of real decoding by label, the engines taking turns on each prompt: median over prompts."""
    prompts = encoded(pair, asks)
    engines = {
        one.label: NativeEngine(
            _Placed(pair.root, pair.manifest, models.target[one.target], models.draft.get(one.draft, Path())),
            device=device,
            mode="draft" if one.gamma else "plain",
        )
        for one in combinations
    }
    times: dict[str, list[float]] = {one.label: [] for one in combinations}
    with progress.task("decoding with the front's combinations, in turn", total=len(prompts)) as task:
        for turn, prompt in enumerate([prompts[0], *prompts]):  # the first is a warm-up
            for one in combinations:
                generation = engines[one.label].generate(prompt, max_new_tokens, gamma=one.gamma or None)
                if turn and generation.tpot_s is not None:
                    times[one.label].append(generation.tpot_s * 1e3)
            if turn:
                task.advance()
    for engine in engines.values():
        engine.close()
    return {label: median(found) for label, found in times.items() if found}


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
                quality[name] = reference.compare(None, _Unseen())
            else:
                quality[name] = reference.compare(reader, task)
            del reader
            gc.collect()
    return quality, answers


def _acceptance(
    folders: Mapping[str, Path], answers: Mapping[str, Sequence[Text]], width: int, tokens: int, progress: Progress
) -> dict[tuple[str, str], dict[int, Any]]:
    found: dict[tuple[str, str], dict[int, Any]] = {}
    with progress.task("what each draft gets right", total=max(1, len(folders) * len(answers))) as task:
        for draft, folder in folders.items():
            reader = Reader(folder, width)
            for target, texts in answers.items():
                choices = reader.choices(texts)
                found[target, draft] = {gamma: accepted_by(texts, choices, gamma, tokens) for gamma in GAMMAS}
                task.advance()
    return found


def _times(pair: Pair, models: Models, device: str, progress: Progress) -> dict[tuple[Role, str], dict[int, float]]:
    opened: dict[tuple[Role, str], tuple[ModelSequence, Sequence[int]]] = {}
    for name, folder in models.target.items():
        opened["target", name] = (open_model(folder, device).sequence(), LENGTHS)
    for name, folder in models.draft.items():
        opened["draft", name] = (open_model(folder, device).sequence(), (1,))
    with progress.task(f"timing passes of {len(opened)} models, interleaved"):
        return measure_models(opened, vocabulary=shared_vocabulary(pair))


def _bytes(folder: Path) -> int:
    return (folder / "openvino_model.bin").stat().st_size


class _Unseen:
    def advance(self, amount: float = 1) -> None: ...

    def describe(self, description: str) -> None: ...
