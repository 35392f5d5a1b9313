"""Calibration text to NNCF's samples: long enough, and with every input of a stateful model.

Samples of 32 tokens, upstream's default, show a model little of what it will see: these have 256. A model that is not
given `position_ids` raises no error and computes nonsense (41 % of its top-1 tokens are right), so the statistics of
AWQ, scale estimation and GPTQ are nonsense too: all inputs are always given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgespec.engine.native import NativeEngine
from edgespec.errors import EdgespecError
from edgespec.ir import input_names
from edgespec.pair import Pair
from edgespec.progress import Progress
from edgespec.sampling import Sampling

SELF = "self"
TOKENS = 256
SAMPLES = 32
FEWEST_TOKENS = 32


@dataclass(frozen=True)
class Ask:
    """What the target is asked for its own text, or for the text that cost is measured on. chat: `text` is what a user
    says; else it is a text to continue."""

    text: str
    chat: bool


@dataclass(frozen=True)
class CalibrationText:
    """Token ids of each sample, and where they came from."""

    source: str
    samples: tuple[tuple[int, ...], ...]

    @property
    def described(self) -> str:
        lengths = [len(sample) for sample in self.samples]
        return f"{self.source}: {len(lengths)} samples, {sum(lengths):,} tokens, {min(lengths)} to {max(lengths)} each"


def read_texts(path: Path) -> list[Ask]:
    """Texts of the user's file: .jsonl with `text`, `prompt` or `turns` (or `messages`) a line, else one text.

    Raises EdgespecError, with the line for JSON.
    """
    if not path.is_file():
        raise EdgespecError(f"there is no file '{path}' to calibrate with; give a text or .jsonl file, or self")
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise EdgespecError(f"'{path}' is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    if path.suffix.lower() != ".jsonl":
        texts = [Ask(content, chat=False)]
    else:
        lines = [(number, line) for number, line in enumerate(content.split("\n"), start=1) if line.strip()]
        texts = [_read_line(line, f"'{path}', line {number}") for number, line in lines]
    if not any(text.text.strip() for text in texts):
        raise EdgespecError(f"'{path}' holds no text to calibrate with")
    return texts


def _read_line(line: str, where: str) -> Ask:
    try:
        record: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise EdgespecError(f"{where} is not JSON: {error.msg} at column {error.colno}") from error
    if isinstance(record, dict):
        for key in ("text", "prompt"):
            if isinstance(record.get(key), str):
                return Ask(record[key], chat=False)
        turns = record.get("turns")
        if isinstance(turns, list) and turns and isinstance(turns[0], str):
            return Ask(turns[0], chat=True)
    raise EdgespecError(f"{where} has no text under 'text' or 'prompt' and no list under 'turns'; every line needs one")


def text_of_file(pair: Pair, path: Path, count: int, tokens: int) -> CalibrationText:
    """`count` samples of `tokens` tokens from the user's file: long texts are cut, short ones joined.

    Raises EdgespecError when there is too little for even one sample.
    """
    tokenizer = Tokens(pair.target)
    ids: list[int] = []
    for text in read_texts(path):
        ids += tokenizer.encode(text)
    samples = [tuple(ids[start : start + tokens]) for start in range(0, len(ids), tokens)][:count]
    samples = [sample for sample in samples if len(sample) >= min(tokens, FEWEST_TOKENS)]
    if not samples:
        raise EdgespecError(
            f"'{path}' has {len(ids)} tokens, and a sample to calibrate with needs at least {FEWEST_TOKENS}; "
            "give more text"
        )
    return CalibrationText(str(path), tuple(samples))


def text_of_target(
    pair: Pair, asks: Sequence[Ask], count: int, tokens: int, seed: int, progress: Progress
) -> CalibrationText:
    """`count` texts that the target writes, each `tokens` long with what it was asked; sampled at temperature 1, so
    that they follow its own distribution.

    The draft, where there is one, proposes; acceptance is exact, so it makes the text faster and does not change it.
    A text that ends early is followed by the next: samples are joined and cut to length.
    """
    if not asks:
        raise EdgespecError("there is nothing to ask the target for its own text; give --dataset FILE")
    record = pair.manifest.draft
    drafts = record is not None and record.kind != "eagle3"  # such a head runs in openvino_genai alone
    engine = NativeEngine(pair, device="CPU", mode="draft" if drafts else "plain")
    tokenizer = Tokens(pair.target)
    stream: list[int] = []
    wanted = count * tokens
    try:
        with progress.task(f"the target writes {wanted:,} tokens of calibration text", total=wanted) as task:
            turn = 0
            while len(stream) < wanted and turn < 4 * count + len(asks):
                prompt = tokenizer.encode(asks[turn % len(asks)])[-tokens // 2 :]
                sampling = Sampling(temperature=1.0, top_k=0, top_p=1.0, seed=seed + turn)
                written = engine.generate(prompt, tokens - len(prompt), sampling=sampling).token_ids
                before = min(len(stream), wanted)
                stream += [*prompt, *written]
                task.advance(min(len(stream), wanted) - before)
                turn += 1
    finally:
        engine.close()
    samples = [tuple(stream[start : start + tokens]) for start in range(0, wanted, tokens)]
    return CalibrationText(SELF, tuple(sample for sample in samples if len(sample) >= min(tokens, FEWEST_TOKENS)))


def samples_for(xml: Path, text: CalibrationText) -> list[dict[str, np.ndarray]]:
    """The samples as inputs of the IR at `xml`, each from an empty cache. Raises EdgespecError for an input that text
    alone cannot fill."""
    names = input_names(xml)
    made = []
    for sample in text.samples:
        length = len(sample)
        inputs: Mapping[str, np.ndarray] = {
            "input_ids": np.asarray(sample, dtype=np.int64)[None],
            "attention_mask": np.ones((1, length), dtype=np.int64),
            "position_ids": np.arange(length, dtype=np.int64)[None],
            "beam_idx": np.zeros(1, dtype=np.int32),
        }
        made.append({name: value for name, value in inputs.items() if name in names})
    return made


class Tokens:
    """A model's tokenizer, and its chat template where it has one."""

    def __init__(self, folder: Path) -> None:
        import openvino_genai

        self._tokenizer = openvino_genai.Tokenizer(str(folder))

    def encode(self, ask: Ask) -> list[int]:
        """Ids of what is asked; what a user says goes through the chat template, when there is one."""
        text = ask.text
        if ask.chat and self._tokenizer.chat_template:
            text = self._tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True)
        text = text.encode("utf-8", errors="replace").decode("utf-8")
        return [int(token) for token in self._tokenizer.encode(text, add_special_tokens=False).input_ids.data[0]]
