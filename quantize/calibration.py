"""Calibration text to NNCF's samples: long enough, and with every input of a stateful model.

Samples of 32 tokens, upstream's default, show a model little of what it will see: these have 256. A model that is not
given `position_ids` raises no error and computes nonsense (41 % of its top-1 tokens are right), so the statistics of
AWQ, scale estimation and GPTQ are nonsense too: all inputs are always given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgespec.engine.native import NativeEngine
from edgespec.errors import EdgespecError
from edgespec.ir import input_names
from edgespec.pair import Pair
from edgespec.progress import Progress
from edgespec.sampling import Sampling

from .texts import FEWEST_TOKENS, WINDOW_TOKENS, Ask, Tokens, Windows, cut, read_texts, windows

SELF = "self"
TOKENS = WINDOW_TOKENS
SAMPLES = 32


@dataclass(frozen=True)
class CalibrationText:
    """The samples, and where they came from."""

    source: str
    windows: Windows

    @property
    def described(self) -> str:
        return f"{self.source}: {self.windows.described}"


def text_of_file(pair: Pair, path: Path, count: int, tokens: int, seed: int) -> CalibrationText:
    """At most `count` samples of `tokens` tokens, drawn by `seed` from the user's file: long texts are cut, short ones
    joined. Raises EdgespecError when there is too little for even one sample."""
    tokenizer = Tokens(pair.target)
    found = windows(tokenizer, read_texts(path), count, tokens, seed, joined=True)
    longest = max((len(window) for window in found.ids), default=0) if found else 0
    if found is None or longest < min(tokens, FEWEST_TOKENS):
        raise EdgespecError(
            f"'{path}' has {longest} tokens, and a sample to calibrate with needs at least {FEWEST_TOKENS}; "
            "give more text"
        )
    return CalibrationText(str(path), found)


def text_of_target(
    pair: Pair, asks: Sequence[Ask], count: int, tokens: int, seed: int, progress: Progress
) -> CalibrationText:
    """`count` texts that the target writes, each `tokens` long with what it was asked; sampled at temperature 1, so
    that they follow its own distribution.

    The draft, where there is one, proposes; acceptance is exact, so it makes the text faster and does not change it.
    A text that ends early is followed by the next: samples are joined and cut to length, and each begins as the
    tokenizer begins a text.
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
                prompt = tokenizer.prompt(asks[turn % len(asks)], -(-tokens // 2))
                sampling = Sampling(temperature=1.0, top_k=0, top_p=1.0, seed=seed + turn)
                written = engine.generate(prompt, tokens - len(prompt), sampling=sampling).token_ids
                before = min(len(stream), wanted)
                stream += [*prompt, *written]
                task.advance(min(len(stream), wanted) - before)
                turn += 1
    finally:
        engine.close()
    samples, _ = cut(stream, tokenizer.start, tokens)
    kept = tuple(sample for sample in samples[:count] if len(sample) >= min(tokens, FEWEST_TOKENS))
    return CalibrationText(SELF, Windows(kept, len(kept)))


def samples_for(xml: Path, text: CalibrationText) -> list[dict[str, np.ndarray]]:
    """The samples as inputs of the IR at `xml`, each from an empty cache. Raises EdgespecError for an input that text
    alone cannot fill."""
    names = input_names(xml)
    made = []
    for sample in text.windows.ids:
        length = len(sample)
        inputs: Mapping[str, np.ndarray] = {
            "input_ids": np.asarray(sample, dtype=np.int64)[None],
            "attention_mask": np.ones((1, length), dtype=np.int64),
            "position_ids": np.arange(length, dtype=np.int64)[None],
            "beam_idx": np.zeros(1, dtype=np.int32),
        }
        made.append({name: value for name, value in inputs.items() if name in names})
    return made
