"""What compression cost: the compressed model against the uncompressed one, token by token, and the pair's acceptance.

Texts are held-out prompts (never the calibration text) with the uncompressed target's greedy answers. Everything is
computed on the CPU with nothing rounded but the weights (settings.EXACT), so that the figures are the format's own. On
the device, activations are rounded too: `edgespec bench` measures that.

top1: share of positions where both models' likeliest token is the same. kl: mean KL(uncompressed || compressed), nats a
token, over the same positions. perplexity: of the prompts, which people wrote; not of the answers.
"""

from __future__ import annotations

import gc
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgespec.engine.native import NativeEngine
from edgespec.engine.stateful import StatefulModel
from edgespec.engine.step import Step, acceptance_rate, block_efficiency
from edgespec.errors import EdgespecError
from edgespec.ir import input_names
from edgespec.pair import Pair
from edgespec.progress import Progress, Task
from edgespec.settings import EXACT

from .acceptance import Acceptance, Text, accepted_by
from .calibration import Ask, Tokens

GAMMA = 3
NEW_TOKENS = 64
PROMPT_TOKENS = 192
CHECKED = 3
"""Texts decoded for real, to hold the computed acceptance against."""


@dataclass(frozen=True)
class Quality:
    """A model against its uncompressed self; see the head of this file. positions: how many were compared."""

    top1: float
    kl: float
    perplexity: float
    positions: int


class Reader:
    """A compiled model that reads texts (all logits in one pass) and answers prompts greedily."""

    def __init__(self, folder: Path, vocabulary: int | None = None) -> None:
        """vocabulary: columns of the logits that count; target and draft may be padded differently."""
        self._model = StatefulModel(str(folder / "openvino_model.xml"), "CPU", EXACT)
        self._columns = vocabulary
        self._stops = stop_ids(folder)

    def logits(self, ids: np.ndarray) -> np.ndarray:
        """f32 [len(ids), vocabulary], a view that the next call overwrites."""
        self._model.reset()
        return self._model.feed(ids)[:, : self._columns]

    def choices(self, texts: Sequence[Text]) -> list[np.ndarray]:
        """The likeliest token behind each id of each text."""
        return [self.logits(text.ids).argmax(-1) for text in texts]

    def answer(self, prompt: Sequence[int], max_new_tokens: int) -> Text:
        token = int(self.logits(np.asarray(prompt))[-1].argmax())
        answer = [token]
        while len(answer) < max_new_tokens and token not in self._stops:
            token = int(self._model.feed(np.asarray([token]))[-1, : self._columns].argmax())
            answer.append(token)
        return Text(tuple(prompt), tuple(answer))


class Reference:
    """The logits of an uncompressed model over texts, kept in files: for a large vocabulary they are gigabytes."""

    def __init__(self, reader: Reader, texts: Sequence[Text], folder: Path, task: Task) -> None:
        self.texts = texts
        self._files = []
        for index, text in enumerate(texts):
            path = folder / f"{index}.npy"
            np.save(path, reader.logits(text.ids))
            self._files.append(path)
            task.advance()

    def compare(self, reader: Reader | None, task: Task) -> Quality:
        """Quality of `reader`'s model; None: of the reference's own. Raises EdgespecError for logits that are no
        numbers, with which every figure would be NaN."""
        same = positions = 0
        divergence = surprise = 0.0
        written = 0
        for text, path in zip(self.texts, self._files, strict=True):
            stored = np.load(path, mmap_mode="r")
            mine = stored if reader is None else reader.logits(text.ids)
            _require_finite(mine, "uncompressed" if reader is None else "compressed")
            for start in range(0, len(stored), 32):  # a few rows at a time: a row may have 260,000 columns
                p, q = _log_softmax(stored[start : start + 32]), _log_softmax(mine[start : start + 32])
                same += int((p.argmax(-1) == q.argmax(-1)).sum())
                divergence += float((np.exp(p) * (p - q)).sum())
                stop = min(start + 32, len(text.prompt) - 1)
                if stop > start:
                    following = np.asarray(text.prompt[start + 1 : stop + 1])
                    surprise -= float(q[np.arange(stop - start), following].sum())
            positions += len(stored)
            written += len(text.prompt) - 1
            task.advance()
        return Quality(same / positions, divergence / positions, float(np.exp(surprise / max(1, written))), positions)


def measure_cost(
    before: Pair,
    after: Pair,
    asks: Sequence[Ask],
    progress: Progress,
    *,
    gamma: int = GAMMA,
    max_new_tokens: int = NEW_TOKENS,
) -> dict[str, Any]:
    """`quality` of each compressed model and `acceptance` of the four combinations of uncompressed ("fp") and
    compressed ("q") target and draft, with a check by real decoding. after: may be a pair still being built."""
    prompts = encoded(before, asks)
    width = shared_vocabulary(before)
    eagle = before.draft is not None and "hidden_states" in input_names(before.draft / "openvino_model.xml")
    drafted = before.draft is not None and not eagle
    passes = len(prompts) * (5 if drafted else 3)
    with (
        tempfile.TemporaryDirectory(prefix=".logits-", dir=after.root) as scratch,
        progress.task("measuring what it cost", total=passes) as task,
    ):
        found, texts = _targets(before, after, prompts, width, max_new_tokens, Path(scratch), task)
        document: dict[str, Any] = {"quality": {"target": found}}
        if drafted:
            document["quality"]["draft"] = _drafts(
                before, after, texts, width, gamma, max_new_tokens, scratch, document, task
            )
        elif eagle:
            document["acceptance_unknown"] = (
                "an EAGLE draft reads the target's hidden states; edgespec bench measures it"
            )
    if drafted:
        document["check"] = _check(after, texts["q"], document, gamma, max_new_tokens, progress)
    document["texts"] = {"prompts": len(prompts), "max_new_tokens": max_new_tokens, "gamma": gamma}
    return document


def _targets(
    before: Pair, after: Pair, prompts: Sequence[Sequence[int]], width: int, tokens: int, scratch: Path, task: Task
) -> tuple[dict[str, Any], dict[str, list[Text]]]:
    reader = Reader(before.target, width)
    fp = [reader.answer(prompt, tokens) for prompt in prompts]
    reference = Reference(reader, fp, _folder(scratch, "target"), task)
    found = {"fp": asdict(reference.compare(None, task))}
    del reader
    gc.collect()
    if _unchanged(before, after, "target"):
        return {**found, "q": found["fp"]}, {"fp": fp, "q": fp}
    reader = Reader(after.target, width)
    found["q"] = asdict(reference.compare(reader, task))
    return found, {"fp": fp, "q": [reader.answer(prompt, tokens) for prompt in prompts]}


def _drafts(
    before: Pair,
    after: Pair,
    texts: Mapping[str, Sequence[Text]],
    width: int,
    gamma: int,
    tokens: int,
    scratch: str,
    document: dict[str, Any],
    task: Task,
) -> dict[str, Any]:
    assert before.draft is not None
    assert after.draft is not None
    found: dict[str, Any] = {}
    table: dict[str, Any] = {}
    reference: Reference | None = None
    for name, folder in (("fp", before.draft), ("q", after.draft)):
        reader = Reader(folder, width)
        if reference is None:
            reference = Reference(reader, texts["fp"], _folder(Path(scratch), "draft"), task)
            found[name] = asdict(reference.compare(None, task))
        else:
            found[name] = asdict(reference.compare(reader, task))
        for target, answers in texts.items():
            table[f"{target}/{name}"] = told(accepted_by(answers, reader.choices(answers), gamma, tokens))
    document["acceptance"] = {name: table[name] for name in ("fp/fp", "q/fp", "fp/q", "q/q")}
    return found


def _check(
    after: Pair, texts: Sequence[Text], document: Mapping[str, Any], gamma: int, tokens: int, progress: Progress
) -> dict[str, Any]:
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
        computed = accepted_by(some, Reader(after.draft, engine.vocab_size).choices(some), gamma, tokens)
    return {
        "texts": len(some),
        "same_answers": same,
        "decoded": {"acceptance_rate": acceptance_rate(steps), "tau": block_efficiency(steps)},
        "computed": told(computed),
    }


def told(found: Acceptance) -> dict[str, Any]:
    return {"gamma": found.gamma, "acceptance_rate": found.acceptance_rate, "tau": found.tau, "steps": found.steps}


def encoded(pair: Pair, asks: Sequence[Ask]) -> list[list[int]]:
    """Prompts as ids, of which the last PROMPT_TOKENS are taken: cost grows with length, and what it says does not."""
    tokens = Tokens(pair.target)
    found = [tokens.encode(ask)[-PROMPT_TOKENS:] for ask in asks]
    prompts = [prompt for prompt in found if len(prompt) > 1]
    if not prompts:
        raise EdgespecError("there is no text to measure the cost on; give --eval-text FILE, or --no-cost")
    return prompts


def shared_vocabulary(pair: Pair) -> int:
    sizes = [pair.manifest.target.vocab_size]
    sizes += [pair.manifest.draft.vocab_size] if pair.manifest.draft is not None else []
    return min(sizes)


def stop_ids(folder: Path) -> frozenset[int]:
    """Ids that end a text by the model's generation_config.json; none where it has no such file."""
    try:
        value = json.loads((folder / "generation_config.json").read_bytes()).get("eos_token_id")
    except (OSError, ValueError):
        return frozenset()
    return frozenset(value if isinstance(value, list) else [] if value is None else [value])


def _unchanged(before: Pair, after: Pair, role: str) -> bool:
    return bool(getattr(before.manifest, role).files == getattr(after.manifest, role).files)


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder


def _require_finite(logits: np.ndarray, which: str) -> None:
    if not all(np.isfinite(logits[start : start + 32]).all() for start in range(0, len(logits), 32)):
        what = "export it with --dtype bf16" if which == "uncompressed" else "choose another format, such as int8"
        raise EdgespecError(f"the {which} model computes NaN or infinity, so nothing can be compared with it; {what}")


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = np.asarray(logits, dtype=np.float64)
    shifted = wide - wide.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


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
