"""Direct alignment: the draft learns the target's next-token distribution on the target's own text.

Sources: FastDraft (arXiv:2411.11055) and Goel et al. 2024 (arXiv:2403.00858): pretrain, let the target write, distil.
The target's distribution is cached once as its top-k log-probabilities, since a pass of the target costs far more than
a pass of the draft.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as functional

from edgespec.errors import EdgespecError
from edgespec.progress import SILENT, Progress

from .generate import Completion
from .timed import Budget, Schedule, build_optimizers, compile_or_eager


@dataclass(frozen=True)
class Cached:
    """Rows of text with the target's distribution at each position.

    ids i64 [rows, length + 1]; indices i32 and log_probs f32 [rows, length, k], sorted from the likeliest; counts
    bool [rows, length]: positions that the loss is taken over.
    """

    ids: torch.Tensor
    indices: torch.Tensor
    log_probs: torch.Tensor
    counts: torch.Tensor


def to_rows(completions: Sequence[Completion], length: int, pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompt and answer as one padded row each: ids i64 [n, length + 1], and counts bool [n, length] where the next
    token was written by the target. Texts beyond `length` are cut."""
    ids = torch.full((len(completions), length + 1), pad)
    counts = torch.zeros((len(completions), length), dtype=torch.bool)
    for row, completion in enumerate(completions):
        text = (completion.prompt + completion.answer)[: length + 1]
        ids[row, : len(text)] = torch.tensor(text)
        counts[row, len(completion.prompt) - 1 : len(text) - 1] = True
    return ids, counts


@torch.no_grad()
def cache_target(
    target: torch.nn.Module,
    ids: torch.Tensor,
    counts: torch.Tensor,
    *,
    k: int = 32,
    batch: int = 16,
    progress: Progress = SILENT,
) -> Cached:
    """One pass of the target over `ids`; its k likeliest next tokens at every position."""
    target.eval()
    indices = torch.empty((*counts.shape, k), dtype=torch.int32)
    log_probs = torch.empty((*counts.shape, k))
    with progress.task("reading the target's distribution", total=len(ids)) as task:
        for start in range(0, len(ids), batch):
            rows = slice(start, start + batch)
            logits = target(input_ids=ids[rows, :-1], use_cache=False).logits.float()
            top = functional.log_softmax(logits, dim=-1).topk(k, dim=-1)
            indices[rows], log_probs[rows] = top.indices.int(), top.values
            task.advance(len(ids[rows]))
    return Cached(ids, indices, log_probs, counts)


def kl_to_target(log_q: torch.Tensor, indices: torch.Tensor, log_p: torch.Tensor) -> torch.Tensor:
    """KL(p || q) in nats for each position, over the target's top-k tokens and one bucket for all others.

    log_q f32 [..., vocabulary]: the draft's log-probabilities; indices, log_p [..., k]: the target's. -> [...]
    """
    chosen = log_q.gather(-1, indices.long())  # [..., k]
    rest_p = (1 - log_p.exp().sum(-1)).clamp_min(1e-6)
    rest_q = (1 - chosen.exp().sum(-1)).clamp_min(1e-6)
    return (log_p.exp() * (log_p - chosen)).sum(-1) + rest_p * (rest_p.log() - rest_q.log())


@torch.no_grad()
def agreement(draft: torch.nn.Module, cached: Cached, batch: int = 32) -> tuple[float, float]:
    """(share of positions whose likeliest token is the target's, mean overlap sum(min(p, q)) over the target's top-k).

    The first is the greedy chance of acceptance on the target's own text, the second the chance when sampling at
    temperature 1 (Leviathan, theorem 3.5). Teacher-forced: speculative decoding itself is measured by evaluate.
    """
    draft.eval()
    same, overlap, total = 0.0, 0.0, 0
    for start in range(0, len(cached.ids), batch):
        rows = slice(start, start + batch)
        mask = cached.counts[rows]
        log_q = functional.log_softmax(draft(input_ids=cached.ids[rows, :-1], use_cache=False).logits.float(), dim=-1)
        top = cached.indices[rows].long()
        same += float((log_q.argmax(-1) == top[..., 0])[mask].sum())
        both = torch.minimum(log_q.gather(-1, top).exp(), cached.log_probs[rows].exp()).sum(-1)
        overlap += float(both[mask].sum())
        total += int(mask.sum())
    draft.train()
    return same / total, overlap / total


def align(
    draft: torch.nn.Module,
    train: Cached,
    heldout: Cached,
    schedule: Schedule,
    *,
    budget: Budget,
    batch: int,
    seed: int,
    log: Path,
    compiled: bool = False,
    report: Callable[[dict[str, float]], None] | None = None,
) -> tuple[float, float]:
    """Minimise KL(target || draft) on the target's text until `budget` is spent; return held-out `agreement`.

    Appends a JSON line every 25 steps to `log`. Raises EdgespecError when the loss is not finite.
    """
    optimizers = build_optimizers(draft, schedule)
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    forward = compile_or_eager(draft) if compiled else draft
    draft.train()
    started = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    step, mean = 0, math.nan
    with log.open("a", encoding="utf-8") as lines:
        while (done := budget.spent(time.perf_counter() - started, step)) < 1:
            rows = torch.randint(len(train.ids), (batch,), generator=generator)
            for optimizer, lrs in zip(optimizers, peaks, strict=True):
                for group, lr in zip(optimizer.param_groups, lrs, strict=True):
                    group["lr"] = lr * schedule.factor(done)
            logits = forward(input_ids=train.ids[rows, :-1], use_cache=False).logits.float()
            losses = kl_to_target(functional.log_softmax(logits, dim=-1), train.indices[rows], train.log_probs[rows])
            loss = losses[train.counts[rows]].mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(draft.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            value = loss.item()
            if not math.isfinite(value):
                raise EdgespecError(f"the loss is {value} at step {step}; lower the learning rates in the recipe")
            mean = value if step == 0 else 0.95 * mean + 0.05 * value
            if step % 25 == 0:
                record = {"step": step, "seconds": time.perf_counter() - started, "kl": value, "kl_mean": mean}
                lines.write(json.dumps(record) + "\n")
                lines.flush()
                if report:
                    report(record)
            step += 1
    return agreement(draft, heldout)
