"""The target's likeliest next tokens at every token it wrote, kept on disk: token-level losses then need no target.

A pass of the target costs far more than a pass of the draft, and alignment reads each answer many times.
`topk-00000.parquet` lies beside `part-00000.parquet` and has a row for each of its rows. At k = 64 a token takes
8 * 64 = 512 bytes before compression, so 10 M tokens take about 5 GB.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgespec.engine.model import Model, open_model
from edgespec.errors import EdgespecError
from edgespec.progress import SILENT, Progress

from ..models import load_model
from ..sequence import TorchModel
from .request import Written
from .shards import done_shards, read_table, shard_path, write_table


def open_target(checkpoint: str, ir: Path | None, device: str) -> Model:
    """What `write_top_k` reads. The OpenVINO model in `ir` where there is one that the native engine drives: it is what
    the draft will meet, and on a CPU up to three times as fast (LOG.md). Else the checkpoint by PyTorch, in float32."""
    if ir is not None and (ir / "openvino_model.xml").is_file():
        with suppress(EdgespecError):
            return open_model(ir, device)
    return TorchModel(load_model(checkpoint, dtype=torch.float32).eval())


def write_top_k(folder: Path, target: Model, k: int, *, progress: Progress = SILENT) -> int:
    """Make what is missing of the set's top-k files; how many tokens were read by this call.

    target: an OpenVINO model (engine.model.open_model) or a transformers one (sequence.TorchModel). Its probabilities
    are those at temperature 1, whatever the answers were drawn at: a draft is aligned to the target itself, and both
    are sharpened alike in service. Raises EdgespecError when the vocabulary has fewer than k tokens.
    """
    if not 1 <= k <= target.vocab_size:
        raise EdgespecError(f"--top-k-logits must lie between 1 and the vocabulary's {target.vocab_size}, not {k}")
    sequence = target.sequence()
    tokens = 0
    shards = done_shards(folder)
    with progress.task("reading the target's distribution", total=len(shards)) as task:
        for number, shard in enumerate(shards):
            path = shard_path(folder, number, "topk")
            if path.is_file():
                task.advance()
                continue
            rows = []
            for row in read_table(shard, ["index", "prompt_ids", "answer_ids"]):
                count = len(row["answer_ids"])
                sequence.reset()
                ids = row["prompt_ids"] + row["answer_ids"][:-1]
                indices, log_probs = top_k(_rows(sequence, ids, count), k)
                rows.append({"index": row["index"], "ids": indices.ravel(), "log_probs": log_probs.ravel()})
                tokens += count
            write_table(path, rows, _schema())
            task.advance()
    return tokens


def _rows(sequence: Any, ids: list[int], count: int) -> np.ndarray:
    """Logits behind the last `count` of `ids`, also where these are more than one pass takes."""
    parts = []
    before = len(ids) - count
    if before:
        sequence.feed(ids[:before])
    while before < len(ids):
        chunk = ids[before : before + sequence.chunk()]
        parts.append(np.array(sequence.feed(chunk, rows=len(chunk))))
        before += len(chunk)
    return np.concatenate(parts)


def top_k(logits: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(ids i32, log-probabilities f32), each [n, k], the likeliest first. logits: f32 [n, vocabulary]."""
    chosen = np.argpartition(-logits, k - 1, axis=-1)[:, :k] if k < logits.shape[-1] else np.argsort(-logits, axis=-1)
    order = np.argsort(-np.take_along_axis(logits, chosen, axis=-1), axis=-1, kind="stable")
    chosen = np.take_along_axis(chosen, order, axis=-1)
    wide = logits.astype(np.float64)
    peak = wide.max(axis=-1, keepdims=True)
    log_sum = peak + np.log(np.exp(wide - peak).sum(axis=-1, keepdims=True))
    log_probs = np.take_along_axis(wide, chosen, axis=-1) - log_sum
    return chosen.astype(np.int32), log_probs.astype(np.float32)


def read_top_k(folder: Path) -> Iterator[tuple[Written, np.ndarray, np.ndarray]]:
    """(answer, ids i32 [n, k], log-probabilities f32 [n, k]) with a row for each of its n tokens.

    Raises EdgespecError when the set has none, or lacks some.
    """
    shards, cached = done_shards(folder), done_shards(folder, "topk")
    if not cached or len(cached) != len(shards):
        raise EdgespecError(
            f"'{folder}' has the target's distributions for {len(cached)} of {len(shards)} shards; run edgespec train "
            "generate again with --top-k-logits, or align with the target itself (--target)"
        )
    for shard, distributions in zip(shards, cached, strict=True):
        for row, cache in zip(read_table(shard), read_table(distributions), strict=True):
            written = Written(**row)
            if cache["index"] != written.index:
                raise EdgespecError(
                    f"'{distributions}' belongs to another shard than '{shard}'; delete it and make it again"
                )
            count = len(written.answer_ids)
            shape = count, len(cache["ids"]) // max(count, 1)
            ids = np.asarray(cache["ids"], np.int32).reshape(shape)
            yield written, ids, np.asarray(cache["log_probs"], np.float32).reshape(shape)


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema([("index", pa.int64()), ("ids", pa.list_(pa.int32())), ("log_probs", pa.list_(pa.float32()))])
