"""Direct alignment: the draft learns to say what the target says, on the target's own text.

Sources: FastDraft (arXiv:2411.11055) and Goel et al. 2024 (arXiv:2403.00858): pretrain, let the target write, align.
The loss is any mix of losses.py. What it compares with is the target's text alone (sequence-level), the target's
likeliest tokens as they lie beside the text on disk, or the target itself, asked at every step. Each batch can hold a
share of pretraining rows, on which only cross-entropy is taken, so that the draft does not forget how to write what the
target was not asked about (Goel et al. mix 9 to 1).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from edgespec.errors import EdgespecError
from edgespec.progress import SILENT, Progress

from .batches import Batch, Batches, Position
from .evaluate import Service
from .generate import Written, read_answers, read_top_k
from .heads import hidden_states, rule_of
from .loop import LoopConfig, Outcome, Snapshot, train
from .losses import AskedTarget, Mix, TargetView, mixed_loss

PAD = 32
"""Rows are as long as a multiple of this: few shapes, so a compiled model is compiled few times."""


@dataclass(frozen=True)
class AlignConfig:
    """How to align. loss: as Mix reads it. length: tokens of a row; what is longer is cut. share: of pretraining rows
    in a batch, rounded to whole rows. heldout: share of the answers kept apart for a held-out loss. chunk: positions
    whose probabilities exist at once."""

    loss: str = "ce"
    length: int = 512
    share: float = 0.1
    heldout: float = 0.02
    chunk: int = 1024
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=1000))

    def __post_init__(self) -> None:
        Mix.parse(self.loss)
        if not 0 <= self.share < 1:
            raise EdgespecError(f"the share of pretraining rows must lie between 0 and 1, not {self.share}")
        if not 0 <= self.heldout < 0.5:
            raise EdgespecError(f"the held-out share must lie between 0 and 0.5, not {self.heldout}")
        if self.length < 2:
            raise EdgespecError(f"a row must have at least 2 tokens, not {self.length}")


@dataclass(frozen=True)
class Aligned:
    """A prompt with the target's answer as a row, and the target's likeliest tokens at the answer's places, if known.

    ids: i64 [n]; start: the first place that the target wrote; indices i32, log_probs f32 [n - start, k]."""

    ids: np.ndarray
    start: int
    indices: np.ndarray | None = None
    log_probs: np.ndarray | None = None


def read_rows(folder: Path, length: int, *, cached: bool) -> list[Aligned]:
    """The set's answers, cut to `length` tokens; an answer whose prompt alone fills a row is left out.

    Raises EdgespecError when nothing is left.
    """
    rows = []
    source: Iterator[tuple[Written, Any, Any]]
    source = read_top_k(folder) if cached else ((written, None, None) for written in read_answers(folder))
    for written, indices, log_probs in source:
        start = len(written.prompt_ids)
        count = min(length, start + len(written.answer_ids)) - start
        if start == 0 or count < 1:
            continue
        ids = np.asarray([*written.prompt_ids, *written.answer_ids[:count]], np.int64)
        if indices is not None:
            indices, log_probs = indices[:count], log_probs[:count]
        rows.append(Aligned(ids, start, indices, log_probs))
    if not rows:
        raise EdgespecError(
            f"no answer in '{folder}' fits a row of {length} tokens; give longer rows or shorter prompts"
        )
    return rows


def to_batch(rows: Sequence[Aligned]) -> Batch:
    """Padded at the end (id 0, never looked at): input_ids i64 and loss_mask bool [rows, length]; where the target's
    tokens are known also target_ids i32 and target_log_probs f32 [rows, length, k]: at place t, the target's word on
    the token at t. With the mask false they say nothing."""
    longest = -(-max(len(row.ids) for row in rows) // PAD) * PAD
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    batch: dict[str, torch.Tensor] = {"input_ids": ids, "loss_mask": mask}
    k = max((row.indices.shape[1] for row in rows if row.indices is not None), default=0)
    if k:
        batch["target_ids"] = torch.zeros(len(rows), longest, k, dtype=torch.int32)
        batch["target_log_probs"] = torch.zeros(len(rows), longest, k)
    for number, row in enumerate(rows):
        end = len(row.ids)
        ids[number, :end] = torch.from_numpy(row.ids)
        mask[number, row.start : end] = True
        if row.indices is not None and row.log_probs is not None:
            batch["target_ids"][number, row.start : end] = torch.from_numpy(row.indices)
            batch["target_log_probs"][number, row.start : end] = torch.from_numpy(row.log_probs)
    return batch


@dataclass(frozen=True)
class Mixture:
    """Batches of `batch` rows: answers, each seen once a pass in an order of the pass's own, and `extra` rows a batch
    of `pretraining`. `aligned` bool [rows] tells them apart. A position is [answers' batch, pretraining's position]."""

    rows: Sequence[Aligned]
    batch: int
    seed: int
    pretraining: Batches | None = None
    extra: int = 0

    def __post_init__(self) -> None:
        if self.extra and self.pretraining is None:
            raise EdgespecError("a share of pretraining rows was asked for and no data was given; give data or share 0")
        if len(self.rows) < self.batch - self.extra:
            raise EdgespecError(
                f"there are {len(self.rows)} answers, too few for batches of {self.batch - self.extra}; let the target "
                "write more, or lower the batch"
            )

    def read(self, position: Position = None) -> Iterator[tuple[Batch, Position]]:
        number, behind = position or (0, None)
        own = self.batch - self.extra
        in_a_pass = len(self.rows) // own
        stream = self.pretraining.read(behind) if self.pretraining is not None and self.extra else None
        while True:
            epoch, index = divmod(number, in_a_pass)
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            order = torch.randperm(len(self.rows), generator=generator).tolist()
            for start in range(index * own, in_a_pass * own, own):
                number += 1
                batch = dict(to_batch([self.rows[place] for place in order[start : start + own]]))
                batch["aligned"] = torch.ones(own, dtype=torch.bool)
                if stream is not None:
                    more, behind = next(stream)
                    batch = _stacked(batch, more, self.extra)
                yield batch, [number, behind]


def _stacked(batch: Mapping[str, torch.Tensor], more: Batch, extra: int) -> dict[str, torch.Tensor]:
    """The batch with `extra` rows of `more` below it, spread evenly among processes by interleaving."""
    rows = len(batch["input_ids"]) + extra
    length = max(batch["input_ids"].shape[1], more["input_ids"].shape[1])
    if len(more["input_ids"]) < extra:
        raise EdgespecError(
            f"the pretraining data comes in batches of {len(more['input_ids'])} rows, and {extra} are needed"
        )
    below = {
        "input_ids": more["input_ids"][:extra],
        "loss_mask": more.get("loss_mask", torch.ones_like(more["input_ids"], dtype=torch.bool))[:extra],
        "aligned": torch.zeros(extra, dtype=torch.bool),
    }
    places = np.linspace(0, rows, extra, endpoint=False).astype(int)
    order = torch.empty(rows, dtype=torch.long)
    order[torch.from_numpy(places)] = torch.arange(rows - extra, rows)
    others = np.setdiff1d(np.arange(rows), places)
    order[torch.from_numpy(others)] = torch.arange(rows - extra)
    merged = {}
    for name, tensor in batch.items():
        shape = list(tensor.shape)
        shape[0] = rows
        if tensor.ndim > 1:
            shape[1] = length
        whole = torch.zeros(shape, dtype=tensor.dtype)
        top = whole[: rows - extra]
        (top[:, : tensor.shape[1]] if tensor.ndim > 1 else top)[...] = tensor
        if name in below:
            bottom = whole[rows - extra :]
            (bottom[:, : below[name].shape[1]] if tensor.ndim > 1 else bottom)[...] = below[name]
        merged[name] = whole[order]
    return merged


LossFn = Callable[[torch.nn.Module, Batch], tuple[torch.Tensor, dict[str, torch.Tensor]]]


def alignment_loss(mix: Mix, target: torch.nn.Module | None = None, *, chunk: int = 1024) -> LossFn:
    """The loop's loss_fn: `mix` where the target wrote, cross-entropy on pretraining rows, weighed by their tokens.

    target: asked at every step, at its weights' precision; without one the batch's cached tokens are used. Figures:
    each loss of the mix and `overlap` (where the target is known) on the target's text alone.
    """
    names = mix.figures if mix.needs_target or target is not None else [name for name, _ in mix.weights]

    def loss_fn(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        inputs, labels = batch["input_ids"][:, :-1], batch["input_ids"][:, 1:]
        counts = batch["loss_mask"][:, 1:]
        told = counts & batch["aligned"][:, None] if "aligned" in batch else counts
        rows, head = hidden_states(model, inputs)
        view = _view(batch, told, inputs, target, mix)
        loss, figures = mixed_loss(rows[told], labels[told], view, mix, head=head, chunk=chunk)
        figures = {name: figures.get(name, torch.zeros(())) for name in names}  # the loop wants the same ones always
        rest = counts & ~told
        if "aligned" in batch and bool(rest.any()):
            more, _ = mixed_loss(rows[rest], labels[rest], None, Mix.parse("ce"), head=head, chunk=chunk)
            share = float(told.sum() / counts.sum())
            loss = share * loss + (1 - share) * more
        return loss, figures

    return loss_fn


def _view(
    batch: Batch, told: torch.Tensor, inputs: torch.Tensor, target: torch.nn.Module | None, mix: Mix
) -> TargetView | AskedTarget | None:
    """What the target says at the places `told`."""
    if target is not None:
        with torch.no_grad(), torch.autocast(inputs.device.type, enabled=False):
            rows, head = hidden_states(target, inputs)
            chosen = rows[told]
            return AskedTarget(chosen, head) if head else TargetView(torch.log_softmax(chosen.float(), dim=-1))
    if mix.needs_target and "target_ids" in batch:
        return TargetView(batch["target_log_probs"][:, 1:][told], batch["target_ids"][:, 1:][told])
    return None


@dataclass(frozen=True)
class Split:
    """Answers to learn from, and answers kept apart, by prompt: all answers to a prompt are on one side."""

    train: list[Aligned]
    heldout: list[Aligned]


def split(rows: Sequence[Aligned], share: float) -> Split:
    """About `share` of the prompts are held out, chosen by their content."""
    train: list[Aligned] = []
    heldout: list[Aligned] = []
    for row in rows:
        digest = hashlib.blake2b(row.ids[: row.start].tobytes(), digest_size=4).digest()
        (heldout if int.from_bytes(digest, "big") < share * 2**32 else train).append(row)
    return Split(train, heldout)


def align(
    draft: Any,
    answers: Path,
    out: Path,
    config: AlignConfig,
    *,
    cached: bool,
    target: torch.nn.Module | None = None,
    pretraining: Batches | None = None,
    service: Service | None = None,
    recipe: Mapping[str, Any] | None = None,
    progress: Progress = SILENT,
) -> Outcome:
    """Align `draft` (a transformers model, changed in place) to what lies in `answers`; go on from a checkpoint in
    `out`.

    cached: whether the target's likeliest tokens are read beside the answers. target: asked at every step instead.
    service: real speculative decoding with the draft as it is, every `config.loop.hook_every` steps.
    Raises EdgespecError when the loss needs the target's distribution and neither is given, and what the loop raises.
    """
    mix = Mix.parse(config.loss)
    if mix.needs_target and not cached and target is None:
        raise EdgespecError(
            f"the loss '{mix}' needs the target's distribution: generate with --top-k-logits, or give the target to ask"
        )
    parts = split(read_rows(answers, config.length, cached=cached and target is None), config.heldout)
    extra = round(config.share * config.loop.batch) if pretraining is not None else 0
    batches = Mixture(parts.train, config.loop.batch, config.loop.seed, pretraining, extra)
    heldout = _heldout_batches(parts.heldout, config.loop.batch)
    rule_of(draft)  # tried now: a compiled or wrapped draft would be compiled for it
    if target is not None:
        target.eval().to(Accelerator().device)
    loss_fn = alignment_loss(mix, target, chunk=config.chunk)
    own = {"align": {name: value for name, value in asdict(config).items() if name not in ("loop", "chunk")}}
    return train(
        draft,
        batches,
        loss_fn,
        config.loop,
        out,
        recipe={**own, **(recipe or {}), "answers": _set_name(answers)},
        heldout=heldout,
        hook=None if service is None else in_service(service),
        progress=progress,
        label="aligning",
    )


def in_service(service: Service) -> Callable[[int, Snapshot], dict[str, float | None]]:
    """A hook of the loop: acceptance rate and tau of a copy of the draft, by temperature."""

    def hook(step: int, snapshot: Snapshot) -> dict[str, float | None]:
        copy = type(snapshot.model)(snapshot.model.config)
        copy.load_state_dict(snapshot.weights)
        copy.to(service.device)
        figures: dict[str, float | None] = {}
        for document in service(copy):
            at = f"t{document['temperature']:g}"
            figures[f"acceptance_rate_{at}"] = document["acceptance_rate"]
            figures[f"block_efficiency_{at}"] = document["block_efficiency"]
        return figures

    return hook


def _heldout_batches(rows: Sequence[Aligned], batch: int) -> list[Batch]:
    """Whole batches only, at most eight of them."""
    count = min(len(rows) // batch, 8)
    return [to_batch(rows[number * batch : (number + 1) * batch]) for number in range(count)]


def _set_name(answers: Path) -> Any:
    """What the set was made from, by its card: a checkpoint belongs to it."""
    card = answers / "generate.json"
    return json.loads(card.read_text(encoding="utf-8")) if card.is_file() else None
