"""What compression cost: the compressed model against the uncompressed one, token by token, and the pair's acceptance.

Texts are held-out windows (never the calibration text) with the target's answers to them: the likeliest one, on which
the models are compared, and one drawn at temperature 1. Everything is computed on the CPU with nothing rounded but the
weights (settings.EXACT), so that the figures are the format's own. On the device, activations are rounded too:
`edgespec bench` measures that.

One model is open at a time; what the next is compared with lies in files.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgespec.engine.native import NativeEngine
from edgespec.engine.step import Step, acceptance_rate, block_efficiency
from edgespec.errors import EdgespecError
from edgespec.ir import input_names
from edgespec.pair import Pair
from edgespec.progress import Progress, Task
from edgespec.settings import EXACT

from .acceptance import Acceptance, Text, accepted_by
from .reading import Quality, Reader, Reference
from .scratch import scratch_folder
from .texts import FEWEST_TOKENS, WINDOW_TOKENS, Ask, Tokens, Windows, windows

GAMMA = 3
NEW_TOKENS = 64
WINDOWS = 16
"""Of held-out text: some 5,000 places with their answers, so that a top-1 agreement of 90 % is known to a point."""
CHECKED = 3
"""Texts decoded for real, to hold the computed acceptance against."""
COMBINATIONS = ("fp/fp", "q/fp", "fp/q", "q/q")
"""Target/draft, uncompressed or compressed."""
_NO_TEXT = "there is no text to measure the cost on; give --eval-text FILE, or --no-cost"
_MODES = {"acceptance": False, "acceptance_temperature_1": True}
"""Key in the document, and whether the answers were sampled."""


@dataclass(frozen=True)
class _Answers:
    """Of one target to all prompts."""

    greedy: list[Text]
    sampled: list[Text]

    def of(self, sampled: bool) -> list[Text]:
        return self.sampled if sampled else self.greedy


def held_out(pair: Pair, asks: Sequence[Ask], seed: int) -> Windows:
    """The windows that cost is measured on. Raises EdgespecError when there are none."""
    found = windows(Tokens(pair.target), asks, WINDOWS, WINDOW_TOKENS, seed)
    if found is None:
        raise EdgespecError(_NO_TEXT)
    return found


def require_held_out(pair: Pair, asks: Sequence[Ask], source: Path | None) -> None:
    """Refuse text that cost cannot be measured on: of the user's file `source` (None: packaged prompts) one text has to
    fill the shortest window. It takes the tokenizer and no model."""
    tokens = Tokens(pair.target)
    if any(tokens.reach(ask, 2 if source is None else FEWEST_TOKENS) for ask in asks):
        return
    if source is None:
        raise EdgespecError(_NO_TEXT)
    longest = max((len(tokens.read(ask)) for ask in asks), default=0)
    what = "the longest text of" if len(asks) > 1 else "the text of"
    raise EdgespecError(
        f"{what} '{source}' has {longest} tokens, and at least {FEWEST_TOKENS} in one text are needed to measure the "
        "cost on; give --eval-text a longer one, or leave it out for packaged prompts"
    )


def logits_bytes(vocabulary: int) -> int:
    """Disk for the logits of an uncompressed model over all windows with their answers, at most; f32."""
    return WINDOWS * (WINDOW_TOKENS + NEW_TOKENS) * vocabulary * 4


def measure_cost(
    before: Pair,
    after: Pair,
    asks: Sequence[Ask],
    progress: Progress,
    *,
    gamma: int = GAMMA,
    max_new_tokens: int = NEW_TOKENS,
    seed: int = 0,
) -> dict[str, Any]:
    """`quality` of each compressed model, and acceptance of the four COMBINATIONS, greedy and at temperature 1, with a
    check by real decoding. after: may be a pair still being built."""
    text = held_out(before, asks, seed)
    progress.say(f"cost is measured on {text.described}, held out")
    width = shared_vocabulary(before)
    eagle = before.draft is not None and "hidden_states" in input_names(before.draft / "openvino_model.xml")
    drafted = before.draft is not None and not eagle
    changed = [role for role in ("target", "draft") if not _unchanged(before, after, role)]
    passes = 5 if "target" in changed else 3
    passes += (3 if "draft" in changed else 2) if drafted else 0
    with (
        scratch_folder(after.root, "logits") as scratch,
        progress.task("measuring what it cost", total=passes * len(text.ids)) as task,
    ):
        with scratch_folder(scratch, "target") as logits:  # gone before the draft's are written
            found, answers = _targets(before, after, text.ids, width, max_new_tokens, seed, logits, task)
        document: dict[str, Any] = {"quality": {"target": found}}
        if drafted:
            document["quality"]["draft"], acceptance = _drafts(
                before, after, answers, width, gamma, max_new_tokens, scratch, task
            )
            document |= acceptance
        elif eagle:
            document["acceptance_unknown"] = (
                "an EAGLE draft reads the target's hidden states; edgespec bench measures it"
            )
    if drafted:
        document["check"] = _check(after, answers["q"].greedy, gamma, max_new_tokens, progress)
    document["texts"] = {
        "prompts": len(text.ids),
        "tokens": sum(map(len, text.ids)),
        "found": text.found,
        "max_new_tokens": max_new_tokens,
        "gamma": gamma,
        "seed": seed,
    }
    return document


def _targets(
    before: Pair,
    after: Pair,
    prompts: Sequence[Sequence[int]],
    width: int,
    tokens: int,
    seed: int,
    scratch: Path,
    task: Task,
) -> tuple[dict[str, Any], dict[str, _Answers]]:
    """Quality of the target and the answers of both, by "fp" and "q"; the uncompressed one is closed in between."""
    reader = Reader(before.target, width)
    answers = {"fp": _answers(reader, prompts, tokens, seed, task)}
    reference = Reference(reader, answers["fp"].greedy, scratch, task)
    found = {"fp": asdict(reference.compare(None, task))}
    del reader
    gc.collect()
    if _unchanged(before, after, "target"):
        return {**found, "q": found["fp"]}, {**answers, "q": answers["fp"]}
    reader = Reader(after.target, width)
    found["q"] = asdict(reference.compare(reader, task))
    answers["q"] = _answers(reader, prompts, tokens, seed, task)
    return found, answers


def _answers(reader: Reader, prompts: Sequence[Sequence[int]], tokens: int, seed: int, task: Task) -> _Answers:
    answers = _Answers([], [])
    for index, prompt in enumerate(prompts):
        answers.greedy.append(reader.answer(prompt, tokens))
        answers.sampled.append(reader.answer(prompt, tokens, seed + index))
        task.advance()
    return answers


def _drafts(
    before: Pair,
    after: Pair,
    answers: Mapping[str, _Answers],
    width: int,
    gamma: int,
    tokens: int,
    scratch: Path,
    task: Task,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Quality of the draft, and what both drafts get right of what both targets answer."""
    assert before.draft is not None
    assert after.draft is not None
    found: dict[str, Any] = {}
    table: dict[str, dict[str, Any]] = {mode: {} for mode in _MODES}
    reference: Reference | None = None
    for name, folder in (("fp", before.draft), ("q", after.draft)):
        if name == "q" and _unchanged(before, after, "draft"):
            found["q"] = found["fp"]
            for by in table.values():
                by |= {f"{target}/q": by[f"{target}/fp"] for target in answers}
            break
        reader = Reader(folder, width)
        quality: Quality
        if reference is None:
            reference = Reference(reader, answers["fp"].greedy, scratch, task)
            quality = reference.compare(None, task)
        else:
            quality = reference.compare(reader, task)
        found[name] = asdict(quality)
        for mode, sampled in _MODES.items():
            for target, texts in answers.items():
                own = reader.chances(texts.of(sampled))
                table[mode][f"{target}/{name}"] = told(accepted_by(own, gamma, tokens))
        del reader
        gc.collect()
    return found, {mode: {name: by[name] for name in COMBINATIONS} for mode, by in table.items()}


def _check(after: Pair, texts: Sequence[Text], gamma: int, tokens: int, progress: Progress) -> dict[str, Any]:
    """Real greedy speculative decoding of a few of the texts, beside what was computed for the same ones."""
    some = texts[:CHECKED]
    assert after.draft is not None
    with progress.task(f"decoding {len(some)} of the texts for real, to check the computed acceptance"):
        engine = NativeEngine(after, device="CPU", mode="draft", settings=EXACT)
        steps: list[Step] = []
        same = 0
        for text in some:
            generation = engine.generate(text.prompt, tokens, gamma=gamma)
            steps += [generation.steps[0], *generation.steps[1:]] if not steps else generation.steps[1:]
            same += tuple(generation.token_ids) == text.answer[: len(generation.token_ids)]
        engine.close()
        computed = accepted_by(Reader(after.draft, engine.vocab_size).chances(some), gamma, tokens)
    return {
        "texts": len(some),
        "same_answers": same,
        "decoded": {"acceptance_rate": acceptance_rate(steps), "tau": block_efficiency(steps)},
        "computed": told(computed),
    }


def told(found: Acceptance) -> dict[str, Any]:
    return {"gamma": found.gamma, "acceptance_rate": found.acceptance_rate, "tau": found.tau, "steps": found.steps}


def shared_vocabulary(pair: Pair) -> int:
    sizes = [pair.manifest.target.vocab_size]
    sizes += [pair.manifest.draft.vocab_size] if pair.manifest.draft is not None else []
    return min(sizes)


def _unchanged(before: Pair, after: Pair, role: str) -> bool:
    mine, other = getattr(before.manifest, role), getattr(after.manifest, role)
    return mine is None or bool(mine.files == other.files)


def rows_of(document: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str, str]]:
    """The rows of the quality table: model, top-1, KL, perplexity before and after."""
    for role, found in document["quality"].items():
        before, after = found["fp"], found["q"]
        yield (
            role,
            f"{after['top1']:.1%}",
            f"{after['kl']:.4f}",
            f"{before['perplexity']:.2f}",
            f"{after['perplexity']:.2f}",
        )
