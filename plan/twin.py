"""Calibrated twins: checkpoints of a real model's exact shape, random weights, and an acceptance that is set.

Every matrix and every operation of the model is there and is computed, so step times, memory and the cost ratio are the
shape's own. What the model says is a walk along one long cycle over the vocabulary (cycle.py): the draft knows a share
alpha of that cycle. The layers add a disturbance of a few per cent to the embedding, so a token's follower depends on
nothing else: acceptance is the same in every engine, device, precision and at every gamma. A twin says nothing about
quality, about top-k trees (its second guesses are random) or about copying from the context (it never repeats itself).
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from edgespec.pair import Role
from edgespec.progress import SILENT, Progress
from edgespec.staging import require_absent, staged_directory
from edgespec.twins import KEY

from .cycle import Cycle, draft_cycle, target_cycle
from .layout import Layout, Tensor, read_layout
from .rotation import TURN, Rotation, choose_rotation
from .separation import require_separation
from .shapes import DEFAULT_VOCAB, find_shape
from .shards import DTYPE, Blocks, open_tensor, write_index, write_shard
from .tokenizer import END_ID, Vocabulary, synthetic_vocabulary, write_tokenizer

GAIN = 0.1
"""Scale of what goes into (value, up) and comes out of (attention_out, down) a layer's two halves, so that each adds
GAIN squared, a hundredth, to the hidden state. Split over both matrices because int8 keeps its scales in float16: a
thousandth on one of them leaves scales of two or three of float16's smallest steps. Never 0: equal zero tensors are
stored once, and the timing of a shared tensor lies."""

LOGIT = 40.0
"""The follower's logit. Others lie around 0, so sampling at temperature 1 also takes the follower."""

WEAK = 0.5
"""Length of an alias' embedding and head beside a live token's: it never wins."""

_BLOCK = 1 << 22  # numbers made at a time
_POOL = 16_777_213  # prime: rows of no width repeat

_DROPPED = ("auto_map", "quantization_config", "_name_or_path", "torch_dtype", "transformers_version")


@dataclass(frozen=True)
class _Twin:
    """One model to be written. rotation: of a tied model, else None."""

    role: Role
    name: str
    config: dict[str, Any]
    layout: Layout
    cycle: Cycle
    rotation: Rotation | None
    seed: int

    @property
    def bytes(self) -> int:
        """Disk that the checkpoint takes, its tokenizer included."""
        return 2 * self.layout.parameters + 50 * self.layout.vocab


Alpha = float | Sequence[float]


def make_twins(
    target: str | Path | Mapping[str, Any],
    draft: str | Path | Mapping[str, Any],
    alpha: Alpha,
    out: str | Path,
    *,
    seed: int = 0,
    vocab: int | None = None,
    progress: Progress = SILENT,
) -> tuple[Path, Path]:
    """Write the Hugging Face checkpoints `out`/target and `out`/draft, and return their directories.

    target, draft: a shape (shapes.find_shape): a name, LAYERSxHIDDEN, a config.json or its content.
    alpha: the share of proposals that the target accepts, given that those before were, greedy; or one for each zone of
    the cycle (cycle.py). vocab: tokens of both; None takes the target's own, 32,000 for a grid shape. seed: same
    arguments, same files.
    Weights are float16, a file a layer, made a block at a time. Raises EdgespecError for a shape that cannot be built,
    an alpha that this vocabulary cannot have, or a model too narrow to keep its tokens apart; `out` appears whole or
    not at all.
    """
    out = Path(out)
    require_absent(out)
    if vocab is None:
        vocab = int(find_shape(target)[1].get("vocab_size", DEFAULT_VOCAB))
    vocabulary = synthetic_vocabulary(vocab)
    twins = [_design(target, "target", vocabulary, alpha, seed), _design(draft, "draft", vocabulary, alpha, seed)]
    with staged_directory(out, sum(twin.bytes for twin in twins), progress) as staged:
        for twin in twins:
            _write_shown(twin, staged / twin.role, vocabulary, progress)
    return out / "target", out / "draft"


def make_twin(
    shape: str | Path | Mapping[str, Any],
    role: Role,
    alpha: Alpha,
    out: str | Path,
    *,
    vocab: int,
    seed: int = 0,
    name: str | None = None,
    progress: Progress = SILENT,
) -> Path:
    """One of the two, as `make_twins` writes it, into `out`: a target's files do not depend on alpha, so one goes with
    the drafts of any. name: in place of the shape's own in the label. Nothing is kept in memory for another twin."""
    out = Path(out)
    require_absent(out)
    vocabulary = synthetic_vocabulary(vocab)
    twin = _design(shape, role, vocabulary, alpha, seed, name)
    try:
        with staged_directory(out, twin.bytes, progress) as staged:
            _write_shown(twin, staged / role, vocabulary, progress)
            for file in sorted((staged / role).iterdir()):
                file.replace(staged / file.name)
            (staged / role).rmdir()
    finally:
        _pool.cache_clear()
    return out


def _design(
    shape: str | Path | Mapping[str, Any],
    role: Role,
    vocabulary: Vocabulary,
    alpha: Alpha,
    seed: int,
    name: str | None = None,
) -> _Twin:
    """What is to be written; everything that can be refused beforehand is."""
    own_name, config = find_shape(shape)
    name, vocab = name or own_name, len(vocabulary.tokens)
    layout = read_layout({**config, "vocab_size": vocab}, name)
    if config.get("vocab_size") not in (None, vocab):
        name = f"{name}-v{vocab}"  # not the shape it is named after
    cycle = target_cycle(vocabulary.live, vocab, seed)
    if role == "draft":
        cycle = draft_cycle(cycle, alpha, seed)
    own_seed = 2 * seed + (role == "draft")
    rotation = None
    if layout.tied:
        rotation = choose_rotation(layout.hidden, layout.intermediate, len(cycle.order), own_seed)
    label = {
        "shape": name,
        "role": role,
        "alpha": float(alpha) if isinstance(alpha, (int, float)) else list(alpha),
        "seed": seed,
    }
    return _Twin(role, name, _config(config, layout, label), layout, cycle, rotation, own_seed)


def _write_shown(twin: _Twin, folder: Path, vocabulary: Vocabulary, progress: Progress) -> None:
    description = f"writing the {twin.role}'s twin of '{twin.name}', {twin.layout.parameters / 1e6:,.1f} M"
    with progress.task(description, total=twin.layout.layers + 2) as task:
        for _ in _write(twin, folder, vocabulary):
            task.advance()


def _config(config: Mapping[str, Any], layout: Layout, label: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json of a twin: the shape's, with the sizes spelled out, this vocabulary's ids, and the label."""
    kept = {key: value for key, value in config.items() if key not in _DROPPED}
    return kept | {
        "architectures": [layout.family.architecture],
        "vocab_size": layout.vocab,
        "num_key_value_heads": layout.kv_heads,
        "head_dim": layout.head_dim,
        "tie_word_embeddings": layout.tied,
        "bos_token_id": END_ID,
        "eos_token_id": END_ID,
        "pad_token_id": END_ID,
        "dtype": "float16",
        KEY: dict(label),
    }


def _write(twin: _Twin, folder: Path, vocabulary: Vocabulary) -> Iterator[None]:
    """Write one checkpoint, yielding after each file of weights; config.json last."""
    folder.mkdir()
    layout = twin.layout
    files = layout.layers + 2
    names = [f"model-{number:05d}-of-{files:05d}.safetensors" for number in range(1, files + 1)]
    where: dict[str, str] = {}
    total = 0
    contents = [[layout.embedding()], *(layout.layer(index) for index in range(layout.layers)), layout.final()]
    for index, (name, tensors) in enumerate(zip(names, contents, strict=True)):
        turning = None
        if twin.rotation is not None and index == layout.layers:  # the last layer
            turning = twin.rotation.mlp(layout.intermediate, 0.3 / math.sqrt(layout.hidden), twin.seed)
        embedding = folder / names[0]
        total += write_shard(
            folder / name,
            [(tensor.name, tensor.shape, _blocks(twin, tensor, turning, embedding)) for tensor in tensors],
        )
        where |= {tensor.name: name for tensor in tensors}
        if index == 0 and twin.rotation is None:
            _write_aliases(twin, embedding)
        yield
    write_index(folder, where, total)
    write_tokenizer(folder, vocabulary)
    label = {**twin.config[KEY], "margin": _margin(twin, folder, where)}
    ids = {key: twin.config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    documents = {"generation_config.json": ids, "config.json": {**twin.config, KEY: label}}
    for file, document in documents.items():
        (folder / file).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8", newline="\n")


def _blocks(twin: _Twin, tensor: Tensor, turning: Mapping[str, np.ndarray] | None, embedding: Path) -> Blocks:
    """The values of a tensor, a block of rows at a time."""
    draw = np.random.Generator(np.random.SFC64([twin.seed, zlib.crc32(tensor.name.encode())]))
    columns = tensor.shape[1] if len(tensor.shape) > 1 else 1
    rows_at_once = max(1, _BLOCK // columns)
    for role, rows in tensor.parts:
        if turning is not None and role in turning:
            yield turning[role]
            continue
        for start in range(0, rows, rows_at_once):
            count = min(rows_at_once, rows - start)
            if len(tensor.shape) == 1:
                yield _vector(twin, role, tensor.name, draw, count)
            elif role == "embedding":
                yield _embedding(twin, np.arange(start, start + count), draw)
            elif role == "head":
                yield _head(twin, np.arange(start, start + count), embedding)
            else:
                scale = GAIN if role in ("value", "up", "attention_out", "down") else 1.0
                yield _from_pool(draw, scale / math.sqrt(columns), count * columns).reshape(count, columns)


@lru_cache(maxsize=4)  # the scales of one model
def _pool(scale: float) -> np.ndarray:
    """34 MB of normal numbers."""
    draw = np.random.default_rng(15)
    return np.asarray(draw.standard_normal(_POOL, dtype=np.float32) * np.float32(scale), dtype=DTYPE)


def _from_pool(draw: np.random.Generator, scale: float, count: int) -> np.ndarray:
    """`count` neighbours of a pool of normal numbers, from a random place on and around its end: drawing every weight
    anew took five times as long as writing it, and a model of 8 B minutes."""
    pool, start = _pool(scale), int(draw.integers(_POOL))
    rest = count - (_POOL - start)
    return pool[start : start + count] if rest <= 0 else np.concatenate([pool[start:], pool[:rest]])


def _vector(twin: _Twin, role: str, name: str, draw: np.random.Generator, length: int) -> np.ndarray:
    """Norm weights vary by a tenth: the converter folds away a norm whose weights are all 1."""
    layout = twin.layout
    varied = 1 + 0.1 * draw.standard_normal(length, dtype=np.float32)
    if role == "bias":
        return 0.1 * (varied - 1)
    if role == "final_norm":
        head_length = math.sqrt(layout.hidden) * _row_scale(layout) if layout.tied else 1.0
        varied *= np.float32(LOGIT / (math.sqrt(layout.hidden) * head_length))
    if role == "after_norm":
        turns = twin.rotation is not None and name.startswith(f"model.layers.{layout.layers - 1}.post_feedforward")
        varied *= np.float32(TURN if turns else GAIN * GAIN)
    return varied - 1 if layout.family.sandwich else varied


def _row_scale(layout: Layout) -> float:
    """Root mean square of a live token's embedding row such that the first layer sees 1."""
    return 1 / math.sqrt(layout.hidden) if layout.family.sandwich else 1.0


def _embedding(twin: _Twin, ids: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Rows of the embedding. Untied: random, all of one length; aliases follow when all rows are there."""
    if twin.rotation is not None:
        rows = twin.rotation.rows(twin.cycle.position[ids])
        rows *= np.where(twin.cycle.live[ids], 1.0, WEAK).astype(np.float32)[:, None]
    else:
        rows = draw.standard_normal((len(ids), twin.layout.hidden), dtype=np.float32)
        rows *= math.sqrt(twin.layout.hidden) / np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows * np.float32(_row_scale(twin.layout)))


def _write_aliases(twin: _Twin, embedding: Path) -> None:
    """Give each token that is not live its alias' embedding."""
    rows = open_tensor(embedding, twin.layout.embedding().name, writable=True)
    others = np.flatnonzero(~twin.cycle.live)
    rows[others] = (WEAK * rows[twin.cycle.order[twin.cycle.position[others]]].astype(np.float32)).astype(rows.dtype)
    rows.flush()


def _head(twin: _Twin, ids: np.ndarray, embedding: Path) -> np.ndarray:
    """Rows of the head: a token's is the embedding of the one before it, of length 1."""
    cycle = twin.cycle
    rows = open_tensor(embedding, twin.layout.embedding().name)[cycle.order[cycle.position[ids] - 1]]
    scale = np.where(cycle.live[ids], 1.0, WEAK) / (math.sqrt(twin.layout.hidden) * _row_scale(twin.layout))
    return np.asarray(rows.astype(np.float32) * scale.astype(np.float32)[:, None])


def _margin(twin: _Twin, folder: Path, where: Mapping[str, str]) -> float:
    """How far followers stay ahead in the files as written; see separation.py."""
    layout, cycle = twin.layout, twin.cycle
    name = layout.embedding().name
    embedding = open_tensor(folder / where[name], name)
    head = embedding if layout.tied else open_tensor(folder / where["lm_head.weight"], "lm_head.weight")
    sample = np.random.default_rng([twin.seed, 6]).choice(cycle.order, min(64, len(cycle.order)), replace=False)
    hidden = embedding[sample].astype(np.float32) / np.float32(_row_scale(layout))
    if twin.rotation is not None:
        hidden = hidden + np.float32(TURN) * twin.rotation.turned(hidden)
    return require_separation(hidden, head, cycle.following(sample), layout.hidden, twin.seed)
