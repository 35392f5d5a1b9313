"""A model that reads and answers on the CPU with nothing rounded but its weights, and the comparison of two such.

top1: share of positions where both models' likeliest token is the same. kl: mean KL(uncompressed || compressed), nats a
token, over the same positions. perplexity: of the prompts, which people wrote; not of the answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgespec.engine.draws import draw
from edgespec.engine.native import stop_ids
from edgespec.engine.stateful import StatefulModel
from edgespec.errors import EdgespecError
from edgespec.progress import Task
from edgespec.settings import EXACT
from edgespec.tuning.quality import compared, log_chances, log_softmax, row_blocks

from .acceptance import Text, chances


@dataclass(frozen=True)
class Quality:
    """A model against its uncompressed self; see the head of this file. positions: how many were compared."""

    top1: float
    kl: float
    perplexity: float
    positions: int


class Reader:
    """A compiled model that reads texts (all logits in one pass) and answers prompts, greedily or sampled."""

    def __init__(self, folder: Path, vocabulary: int | None = None) -> None:
        """vocabulary: columns of the logits that count; target and draft may be padded differently."""
        self._model = StatefulModel(str(folder / "openvino_model.xml"), "CPU", EXACT)
        self._columns = vocabulary
        self._stops = stop_ids(folder)

    def logits(self, ids: np.ndarray) -> np.ndarray:
        """f32 [len(ids), vocabulary], a view that the next call overwrites."""
        self._model.reset()
        return self._model.feed(ids)[:, : self._columns]

    def chances(self, texts: Sequence[Text]) -> list[np.ndarray]:
        """For each text, the chance of each token of the answer to be this model's own, accepted, proposal."""
        return [chances(text, self.logits(text.ids)) for text in texts]

    def answer(self, prompt: Sequence[int], max_new_tokens: int, seed: int | None = None) -> Text:
        """The likeliest token at every place; with a seed, tokens drawn at temperature 1, with their chances.

        Two models that are given one seed draw with the same numbers, so their answers differ as far as the models do.
        """
        rng = np.random.default_rng(seed) if seed is not None else None
        row = self.logits(np.asarray(prompt))[-1]
        answer: list[int] = []
        logs: list[float] = []
        while True:
            if rng is None:
                answer.append(int(row.argmax()))
            else:
                log_p = log_softmax(row)
                answer.append(draw(np.exp(log_p), rng))
                logs.append(float(log_p[answer[-1]]))
            if len(answer) == max_new_tokens or answer[-1] in self._stops:
                return Text(tuple(prompt), tuple(answer), tuple(logs) if rng is not None else None)
            row = self._model.feed(np.asarray(answer[-1:]))[-1, : self._columns]


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
        same = positions = written = 0
        divergence = surprise = 0.0
        for text, path in zip(self.texts, self._files, strict=True):
            stored = np.load(path, mmap_mode="r")
            mine = stored if reader is None else reader.logits(text.ids)
            _require_finite(mine, "uncompressed" if reader is None else "compressed")
            agreeing, divergent = compared(stored, mine)
            same += agreeing
            divergence += divergent
            following = np.asarray(text.prompt[1:])
            surprise -= float(log_chances(mine[: len(following)], following).sum())
            positions += len(stored)
            written += len(following)
            task.advance()
        return Quality(same / positions, divergence / positions, float(np.exp(surprise / max(1, written))), positions)


def _require_finite(logits: np.ndarray, which: str) -> None:
    if not all(np.isfinite(logits[rows]).all() for rows in row_blocks(logits)):
        what = "export it with --dtype bf16" if which == "uncompressed" else "choose another format, such as int8"
        raise EdgespecError(f"the {which} model computes NaN or infinity, so nothing can be compared with it; {what}")
