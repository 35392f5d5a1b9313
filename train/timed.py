"""Pretraining by the clock, for the bundled recipe: AdamW and Muon, a budget in minutes or in steps."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as functional

from edgespec.errors import EdgespecError

from .muon import Muon

Report = Callable[["Progress"], None]


@dataclass(frozen=True)
class Budget:
    """How long to train: minutes of wall clock or optimizer steps, exactly one of them."""

    minutes: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("a budget is either minutes or steps")

    def spent(self, seconds: float, steps: int) -> float:
        """Share of the budget used after `seconds` and `steps`: 1 or more when it is spent."""
        return seconds / (60 * self.minutes) if self.minutes else steps / (self.steps or 1)


@dataclass(frozen=True)
class Schedule:
    """Learning rates and their course over a stage's budget.

    lr_matrices: Muon's rate for 2-D weights of the layers; lr_rest: AdamW's rate for embeddings and norms.
    The rates rise over `warmup` of the budget, stay, and fall linearly to zero over the last `decay` of it.
    """

    lr_matrices: float = 0.02
    lr_rest: float = 2e-3
    warmup: float = 0.02
    decay: float = 0.3
    weight_decay: float = 0.01

    def factor(self, done: float) -> float:
        """Multiplier of both rates when `done` (0..1) of the budget is spent."""
        if done < self.warmup:
            return max(done, 1e-3) / self.warmup
        if self.decay and done > 1 - self.decay:
            return max(0.0, (1 - done) / self.decay)
        return 1.0


@dataclass(frozen=True)
class Progress:
    """One step of training. `loss` is the mean cross-entropy in nats per token of that step's batch."""

    step: int
    tokens: int
    seconds: float
    loss: float
    done: float
    heldout_loss: float | None = None


def pack(documents: list[list[int]], length: int, end_of_text: int) -> torch.Tensor:
    """Token ids of all documents, each after an end-of-text mark, cut into rows: i64 [rows, length + 1]."""
    stream: list[int] = []
    for ids in documents:
        stream.append(end_of_text)
        stream.extend(ids)
    rows = (len(stream) - 1) // length
    flat = torch.tensor(stream[: rows * length + 1])
    return torch.stack([flat[row * length : row * length + length + 1] for row in range(rows)])


def batches(rows: torch.Tensor, batch: int, seed: int) -> Iterator[torch.Tensor]:
    """Endless batches of rows [batch, length + 1], reshuffled at each pass over the data."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(rows), generator=generator)
        for start in range(0, len(order) - batch + 1, batch):
            yield rows[order[start : start + batch]]


def build_optimizers(model: torch.nn.Module, schedule: Schedule) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for embeddings, head and norms."""
    matrices: list[torch.Tensor] = []
    rest: list[torch.Tensor] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
        (matrices if is_matrix else rest).append(parameter)
    return [
        Muon(matrices, lr=schedule.lr_matrices, weight_decay=schedule.weight_decay),
        torch.optim.AdamW(rest, lr=schedule.lr_rest, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


def pretrain(
    model: torch.nn.Module,
    rows: torch.Tensor,
    heldout: torch.Tensor,
    schedule: Schedule,
    *,
    budget: Budget,
    batch: int,
    seed: int,
    log: Path,
    report: Report | None = None,
    heldout_every: int = 50,
    compiled: bool = False,
) -> Progress:
    """Train until `budget` is spent; append one JSON line a step to `log`; return the last step.

    `rows` and `heldout` come from `pack`. `compiled` runs the model through torch.compile (on a CPU about 1.4 times as
    fast after a minute's start; needs a C++ compiler). Raises EdgespecError when the loss is not finite or
    the text is too short for a batch.
    """
    if len(rows) < batch or not len(heldout):
        raise EdgespecError(
            f"the text makes {len(rows)} training rows and {len(heldout)} held-out rows, too few for batches of "
            f"{batch}; give the recipe's corpus more sources or a larger share"
        )
    optimizers = build_optimizers(model, schedule)
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    model.train()
    forward = compile_or_eager(model) if compiled else model
    started = time.perf_counter()
    tokens = 0
    progress = Progress(0, 0, 0.0, math.nan, 0.0)
    with log.open("a", encoding="utf-8") as lines:
        for step, chunk in enumerate(batches(rows, batch, seed)):
            done = budget.spent(time.perf_counter() - started, step)
            if done >= 1:
                break
            factor = schedule.factor(done)
            for optimizer, lrs in zip(optimizers, peaks, strict=True):
                for group, lr in zip(optimizer.param_groups, lrs, strict=True):
                    group["lr"] = lr * factor
            loss = next_token_loss(forward, chunk)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            tokens += chunk[:, 1:].numel()
            value = loss.item()
            if not math.isfinite(value):
                raise EdgespecError(f"the loss is {value} at step {step}; lower the learning rates in the recipe")
            held = heldout_loss(model, heldout) if heldout_every and step % heldout_every == heldout_every - 1 else None
            progress = Progress(step, tokens, time.perf_counter() - started, value, done, held)
            lines.write(json.dumps(asdict(progress)) + "\n")
            lines.flush()
            if report:
                report(progress)
    return progress


def compile_or_eager(model: torch.nn.Module) -> torch.nn.Module:
    """`model` through torch.compile; what cannot be compiled (no C++ compiler, say) runs as it is."""
    torch._dynamo.config.suppress_errors = True
    compiled: torch.nn.Module = torch.compile(model)
    return compiled


def next_token_loss(model: torch.nn.Module, chunk: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy, nats per token, of rows [batch, length + 1]."""
    logits = model(input_ids=chunk[:, :-1], use_cache=False).logits
    return functional.cross_entropy(logits.flatten(0, 1).float(), chunk[:, 1:].flatten())


@torch.no_grad()
def heldout_loss(model: torch.nn.Module, rows: torch.Tensor, batch: int = 8) -> float:
    """Mean cross-entropy on held-out rows, nats per token."""
    was_training = model.training
    model.eval()
    losses = [next_token_loss(model, rows[start : start + batch]).item() for start in range(0, len(rows), batch)]
    model.train(was_training)
    return sum(losses) / len(losses)
