"""Does a text stand in what a draft was trained on? A small file beside the draft answers, without the text itself.

A draft accepts more of what it has seen, so a prompt out of its training text measures memory. Texts are compared as
UTF-8 bytes with white space folded. Of a training text every `stride`-th window of `window` bytes is hashed and kept;
of a prompt every window is looked up. So a run that both share

- of window + stride - 1 bytes (169 by default) or more holds a kept window and is found, wherever it lies;
- of length n between, is found with chance (n - window + 1) / stride;
- below `window` bytes is never found.

Winnowing (Schleimer et al. 2003) gives the same guarantee when both sides are thinned, and keeps twice as many hashes;
prompts are short enough to be looked up whole. 50 characters are what the GPT-4 report (arXiv:2303.08774, appendix C)
takes for a match. A hash keeps 20 bits more than counting the windows needs: a window that was never seen passes for
one that was with chance 2**-20, which is one wrong match of 50 bytes in a thousand prompts of 1,000 bytes. On disk a
window takes about 2.8 bytes, 2.3 % of the text.
"""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import EdgespecError

INDEX_FILE = "training_index.npz"
SCHEMA = 1
WINDOW = 50
STRIDE = 120
SPARE_BITS = 20
_BATCH_BYTES = 1 << 22

Bytes = NDArray[np.uint8]
Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class TrainingIndex:
    """hashes: sorted, without repeats, `bits` wide. texts, text_bytes: what was indexed, white space folded.
    sources: where the text came from, for people."""

    hashes: Hashes
    bits: int
    window: int
    stride: int
    texts: int
    text_bytes: int
    sources: str

    @classmethod
    def build(cls, texts: Iterable[str], sources: str, *, window: int = WINDOW, stride: int = STRIDE) -> TrainingIndex:
        """Index `texts`, one document each; one shorter than a window leaves nothing. Memory: 8 bytes a window."""
        count = total = 0
        parts: list[Hashes] = []

        def counted() -> Iterator[Bytes]:
            nonlocal count, total
            for text in texts:
                data = _folded(text)
                count, total = count + 1, total + len(data)
                yield data

        for data, starts in _batches(counted(), window, stride):
            parts.append(np.unique(_window_hashes(data, starts, window)))
        hashes = np.unique(np.concatenate(parts)) if parts else np.empty(0, dtype=np.uint64)
        bits = min(64, math.ceil(math.log2(len(hashes) + 1)) + SPARE_BITS)
        return cls(np.unique(_top(hashes, bits)), bits, window, stride, count, total, sources)

    @classmethod
    def read(cls, path: Path) -> TrainingIndex:
        """Raises EdgespecError when `path` is missing, damaged or of another schema."""
        try:
            with np.load(path, allow_pickle=False) as content:
                schema = int(content["schema"])
                if schema != SCHEMA:
                    raise EdgespecError(
                        f"'{path}' has schema {schema} and this edgespec reads {SCHEMA}; use the edgespec that made it"
                    )
                planes = np.ascontiguousarray(content["gaps"].T)
                hashes = np.cumsum(planes.view("<u8").reshape(-1), dtype=np.uint64)
                numbers = {name: int(content[name]) for name in ("bits", "window", "stride", "texts", "text_bytes")}
                return cls(hashes, sources=str(content["sources"]), **numbers)
        except FileNotFoundError as error:
            raise EdgespecError(f"there is no training index '{path}'") from error
        except (OSError, KeyError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise EdgespecError(f"the training index '{path}' is damaged ({error}); fetch the draft again") from error

    def write(self, path: Path) -> None:
        """Write the index to `path` (it ends in .npz), atomically; the same index gives the same bytes."""
        gaps = np.diff(self.hashes, prepend=np.uint64(0)).astype("<u8")
        planes = np.ascontiguousarray(gaps.view(np.uint8).reshape(-1, 8).T)  # empty high bytes in a row: they compress
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                np.savez_compressed(
                    file,
                    schema=SCHEMA,
                    bits=self.bits,
                    window=self.window,
                    stride=self.stride,
                    texts=self.texts,
                    text_bytes=self.text_bytes,
                    sources=np.array(self.sources),
                    gaps=planes,
                )
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    @property
    def certain_bytes(self) -> int:
        """Length of the shortest shared run that is always found."""
        return self.window + self.stride - 1

    def overlap(self, text: str) -> float:
        """Share of `text`'s bytes (0 to 1, white space folded) that lie in runs found in the training text.

        Found windows no further apart than the stride count as one run. At either end of a run up to stride - 1 bytes
        are not seen, so this errs to the low side. 0 for a text shorter than a window.
        """
        data = _folded(text)
        places = len(data) - self.window + 1
        if places < 1 or not len(self.hashes):
            return 0.0
        wanted = _top(_window_hashes(data, np.arange(places), self.window), self.bits)
        nearest = np.minimum(np.searchsorted(self.hashes, wanted), len(self.hashes) - 1)
        found = np.flatnonzero(self.hashes[nearest] == wanted)
        if not len(found):
            return 0.0
        apart = np.diff(found)
        covered = np.where(apart <= self.stride, apart, np.minimum(apart, self.window)).sum() + self.window
        return float(covered / len(data))


def _folded(text: str) -> Bytes:
    return np.frombuffer(" ".join(text.split()).encode("utf-8", "surrogatepass"), dtype=np.uint8)


def _batches(documents: Iterable[Bytes], window: int, stride: int) -> Iterator[tuple[Bytes, NDArray[np.int64]]]:
    """Documents laid end to end in stretches of a few megabytes, and where the windows to keep start in each."""
    held: list[Bytes] = []
    starts: list[NDArray[np.int64]] = []
    size = 0
    for document in documents:
        places = len(document) - window + 1
        if places < 1:
            continue
        held.append(document)
        starts.append(np.arange(0, places, stride, dtype=np.int64) + size)
        size += len(document)
        if size >= _BATCH_BYTES:
            yield np.concatenate(held), np.concatenate(starts)
            held, starts, size = [], [], 0
    if held:
        yield np.concatenate(held), np.concatenate(starts)


def _window_hashes(data: Bytes, starts: NDArray[np.int64], window: int) -> Hashes:
    """Polynomial hash of data[start : start + window] modulo 2**64, then mixed so that its top bits can be kept."""
    base = np.uint64(0x9E3779B97F4A7C15)
    hashes = np.zeros(len(starts), dtype=np.uint64)
    for offset in range(window):
        hashes = hashes * base + data[starts + offset] + np.uint64(1)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # the finaliser of splitmix64
        hashes = (hashes ^ (hashes >> np.uint64(shift))) * np.uint64(factor)
    mixed: Hashes = hashes ^ (hashes >> np.uint64(31))
    return mixed


def _top(hashes: Hashes, bits: int) -> Hashes:
    kept: Hashes = hashes >> np.uint64(64 - bits)
    return kept
