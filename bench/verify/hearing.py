"""Every arm speaks: greedy answers to all prompts, counts of sampled ones. One arm is loaded at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgespec.errors import EdgespecError
from edgespec.progress import Progress

from ..speakers import Speaker
from .expectation import Draws, Expected, generator
from .voices import REFERENCE, Opener, Voice
from .world import World

Answers = Mapping[str, list[int]]
"""By the prompt's id, the tokens of its answer."""


@dataclass
class Heard:
    """What the arms said. greedy: by arm. control: plain decoding in a batch, None where it was not asked for. counts:
    by arm and prompt, i64 [cells]. drafted: by arm, tokens proposed and accepted while sampling, None unless told.
    left_out: a sentence for each thing that was not done."""

    greedy: dict[str, Answers] = field(default_factory=dict)
    control: Answers | None = None
    counts: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    drafted: dict[str, tuple[int | None, int | None]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def hear(
    world: World,
    chosen: Sequence[Voice],
    prompts: Mapping[str, list[int]],
    draws: Draws | None,
    expected: Sequence[Expected],
    *,
    max_new_tokens: int,
    with_control: bool,
    strict: bool,
    seed: int,
    progress: Progress,
) -> Heard:
    """prompts: ids by the prompt's id, for greedy answers. strict: an arm that cannot be loaded raises EdgespecError;
    otherwise it is left out, unless it is the reference."""
    heard = Heard()
    for voice in chosen:
        if voice.sampled is None and voice.reason and draws is not None:
            heard.left_out.append(f"{voice.name} is not sampled: {voice.reason}.")
        may_lack = not strict and voice.name != REFERENCE
        if voice.greedy and (speaker := _open(voice.name, voice.greedy, heard, may_lack)):
            heard.greedy[voice.name] = _greedy(voice.name, speaker, prompts, max_new_tokens, progress)
        if voice.sampled and draws and (speaker := _open(voice.name, voice.sampled, heard, may_lack)):
            _sampled(heard, voice.name, speaker, draws, expected, seed, progress)
    if with_control:
        with progress.task("control: plain decoding in a batch"):
            answers = world.control(list(prompts.values()), max_new_tokens)
        heard.control = dict(zip(prompts, answers, strict=True))
    return heard


def hear_again(
    voices: Sequence[Voice],
    wanted: Collection[tuple[str, str]],
    draws: Draws,
    expected: Sequence[Expected],
    seed: int,
    progress: Progress,
) -> dict[tuple[str, str], np.ndarray]:
    """Fresh samples, as many as before, of the (arm, prompt) in `wanted`: counts by arm and prompt."""
    heard = Heard()
    for voice in voices:
        behind = [item for item in expected if (voice.name, item.prompt) in wanted]
        if behind and voice.sampled:
            _sampled(heard, voice.name, voice.sampled(), draws, behind, seed, progress, again=True)
    return heard.counts


def _open(name: str, opener: Opener, heard: Heard, may_lack: bool) -> Speaker | None:
    try:
        return opener()
    except EdgespecError as error:
        if not may_lack:
            raise
        sentence = f"{name} is left out: {error}."
        if sentence not in heard.left_out:
            heard.left_out.append(sentence)
        return None


def _greedy(
    name: str, speaker: Speaker, prompts: Mapping[str, list[int]], max_new_tokens: int, progress: Progress
) -> Answers:
    answers = {}
    try:
        with progress.task(f"{name}: {len(prompts)} greedy answers", total=len(prompts)) as task:
            for prompt, ids in prompts.items():
                answers[prompt] = list(speaker.greedy(ids, max_new_tokens))
                task.advance()
    finally:
        speaker.close()
    return answers


def _sampled(
    heard: Heard,
    name: str,
    speaker: Speaker,
    draws: Draws,
    expected: Sequence[Expected],
    seed: int,
    progress: Progress,
    again: bool = False,
) -> None:
    times = "another " if again else ""
    title = f"{name}: {times}{draws.samples} samples for each of {len(expected)} prompts"
    try:
        with progress.task(title, total=draws.samples * len(expected)) as task:
            for index, behind in enumerate(expected):
                seeds = generator(seed, f"{times}{name}", index).integers(0, 2**32, draws.samples).tolist()
                answers = []
                for answer in speaker.sample(behind.context, draws.tokens, draws.sampling, seeds):
                    answers.append(tuple(answer[: draws.tokens]))
                    task.advance()
                heard.counts[name, behind.prompt] = behind.cells.count(answers)
        heard.drafted[name] = speaker.proposed, speaker.accepted
    finally:
        speaker.close()
