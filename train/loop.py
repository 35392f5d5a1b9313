"""The one training loop: a model, a stream of batches, a loss. Accelerate underneath: one process, DDP or FSDP.

    accelerate launch --num_processes 8 -m edgespec train pretrain ...

A step is one optimizer update over a global batch of rows. Every process reads the same stream and takes its own rows
of each batch, so the rows of a step do not depend on how many processes there are, and neither does a checkpoint's
position. Gradients are weighed by the tokens that count, so the split changes the loss by rounding only.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType, set_seed

from edgespec.errors import EdgespecError
from edgespec.progress import SILENT, Progress

from .batches import Batch, Batches, read_ahead
from .checkpoints import Checkpoints, TrainState
from .interrupt import StopRequest
from .metrics import MetricsLog
from .models import first_line
from .optimizers import OptimizerName, build_optimizers
from .precision import Precision, Wanted, autocast, settle_precision
from .schedule import Schedule

LossFunction = Callable[[torch.nn.Module, Batch], tuple[torch.Tensor, Mapping[str, "float | torch.Tensor"]]]
"""(model, micro-batch) -> (mean loss over the tokens that count, figures to record, averaged the same way)."""


@dataclass(frozen=True)
class LoopConfig:
    """How to train. Everything here decides the result, so all of it is part of a checkpoint's recipe, but for how
    often something is saved or measured.

    batch: rows of an optimizer step, over all processes; micro_batch: rows of a forward pass on one process, None for
    all of its share at once. learning_rate: AdamW's peak (Muon's is derived). clip_norm: of the whole gradient.
    """

    steps: int
    batch: int = 32
    micro_batch: int | None = None
    learning_rate: float = 1e-3
    schedule: Schedule = field(default_factory=Schedule)
    optimizer: OptimizerName = "adamw"
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    precision: Wanted = "auto"
    compiled: bool = False
    seed: int = 0
    checkpoint_every: int = 500
    keep: int = 2
    heldout_every: int = 200
    hook_every: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "checkpoint_every", "keep"):
            if getattr(self, name) < 1:
                raise EdgespecError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not self.learning_rate > 0:
            raise EdgespecError(f"the learning rate is {self.learning_rate}; it must be above 0")

    def recipe(self) -> dict[str, Any]:
        """What decides the result, for the checkpoint's recipe."""
        free = {"checkpoint_every", "keep", "heldout_every", "hook_every"}
        return {
            name: vars(value) if isinstance(value, Schedule) else value
            for name, value in vars(self).items()
            if name not in free
        }


@dataclass(frozen=True)
class Snapshot:
    """The model in the middle of training, for a hook. weights: its whole state dict, also where it is sharded."""

    model: Any
    weights: dict[str, torch.Tensor]

    def save(self, folder: Path) -> None:
        """A directory that transformers loads (without a tokenizer)."""
        self.model.save_pretrained(folder, state_dict=self.weights)


Hook = Callable[[int, Snapshot], Mapping[str, "float | None"]]
"""(step, snapshot) -> figures for evaluations.csv: acceptance measured in service, say. Called on the main process."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to. finished: False when it was asked to stop; run it again and it goes on.

    losses: the mean loss of each step of this call; heldout_loss: the last one measured.
    weights: the whole state dict, on the main process (empty on the others).
    """

    finished: bool
    step: int
    tokens: int
    seconds: float
    losses: list[float]
    heldout_loss: float | None
    weights: dict[str, torch.Tensor]
    is_main: bool


def is_main_process() -> bool:
    """Whether this is the process that speaks, of those that `accelerate launch` started, or the only one."""
    return bool(PartialState().is_main_process)


_COMPILERS = ("torch._dynamo", "torch._inductor")
"""Where the exceptions of torch.compile are at home, which takes a second to import."""


class _Unit(torch.nn.Module):
    """Model and loss behind one forward call: DDP and FSDP hook a module's forward, whatever the loss does inside."""

    def __init__(self, model: torch.nn.Module, loss_fn: LossFunction, precision: Precision) -> None:
        super().__init__()
        self.model = model
        self._loss_fn = loss_fn
        self._precision = precision
        self._no_split_modules = getattr(model, "_no_split_modules", None)  # where FSDP may cut

    def forward(self, batch: Batch) -> tuple[torch.Tensor, Mapping[str, float | torch.Tensor]]:
        with autocast(batch["input_ids"].device.type, self._precision):
            return self._loss_fn(self.model, batch)


@contextmanager
def _compiling() -> Iterator[None]:
    """torch.compile does its work in the first pass, forward and back; what it cannot do becomes a sentence."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.startswith(_COMPILERS):
            raise EdgespecError(
                f"torch.compile failed: {first_line(error)}; leave --compile out, or give it a C++ compiler to find"
            ) from error
        raise


def train(
    model: torch.nn.Module,
    batches: Batches,
    loss_fn: LossFunction,
    config: LoopConfig,
    out: Path,
    *,
    recipe: Mapping[str, Any] | None = None,
    heldout: Sequence[Batch] = (),
    hook: Hook | None = None,
    progress: Progress = SILENT,
    label: str = "training",
) -> Outcome:
    """Train `model` in place until `config.steps`, or until asked to stop; go on from the newest checkpoint in `out`.

    batches: endless global batches of `config.batch` rows. recipe: what else decides the result (data, model); kept in
    checkpoints and compared. heldout: batches for a held-out loss.
    Writes metrics.csv, evaluations.csv and checkpoints/ below `out`.

    Raises EdgespecError: a checkpoint of another recipe; a loss that is not finite (the step is not taken, the last
    checkpoint stays); a full disk; data that ends.
    """
    set_seed(config.seed)
    accelerator = Accelerator()
    run = _Run(model, loss_fn, config, out, dict(recipe or {}), accelerator, progress)
    return run.go(batches, heldout, hook, label)


class _Run:
    def __init__(
        self,
        model: torch.nn.Module,
        loss_fn: LossFunction,
        config: LoopConfig,
        out: Path,
        recipe: dict[str, Any],
        accelerator: Accelerator,
        progress: Progress,
    ) -> None:
        self._config = config
        self._accelerator = accelerator
        self._model = model
        self._log = MetricsLog(out)
        self._say = progress if accelerator.is_main_process else SILENT
        self._share = _share(config, accelerator.num_processes)
        self._checkpoints = Checkpoints(
            out, {**recipe, "loop": config.recipe()}, accelerator, config.keep, progress=self._say
        )
        self._found = self._checkpoints.newest()
        if self._found:
            precision = self._found[1].settled["precision"]
        else:
            precision = settle_precision(config.precision, accelerator)
        self._settled = {"precision": precision}
        self._checkpoints.require_room(sum(parameter.numel() for parameter in model.parameters()))
        accelerator.wait_for_everyone()
        if config.compiled:  # what the losses call, which make logits themselves: see heads.py
            getattr(model, "base_model", model).compile()
        unit = _Unit(model, loss_fn, precision)
        if config.optimizer == "muon" and accelerator.distributed_type == DistributedType.FSDP:
            raise EdgespecError("Muon needs whole matrices and FSDP shards them; choose the optimizer adamw, or DDP")
        if accelerator.is_fsdp2:  # shards parameters in place and tells the optimizers: both at once
            self._unit, *self._optimizers = accelerator.prepare(unit, *_optimizers(unit, config))
        else:
            self._unit = accelerator.prepare_model(unit)
            self._optimizers = [accelerator.prepare_optimizer(one) for one in _optimizers(self._unit, config)]

    def go(self, batches: Batches, heldout: Sequence[Batch], hook: Hook | None, label: str) -> Outcome:
        config = self._config
        state = TrainState(0, 0, 0.0, None, self._settled)
        if self._found:
            folder, state = self._found
            self._checkpoints.load(folder)
            self._say.say(f"going on from step {state.step} of {config.steps} ('{folder.name}')")
        if self._accelerator.is_main_process:
            self._log.resume(state.step)
        saved = state.step if self._found else -1
        losses: list[float] = []
        held: float | None = None
        self._unit.train()
        stream = read_ahead(batches, state.position)
        stop = False
        before = state.seconds
        started = time.perf_counter()
        try:
            with StopRequest(self._say) as request, self._say.task(label, total=config.steps) as task:
                task.advance(state.step)
                while state.step < config.steps and not stop:
                    batch, position = _next(stream, state.step, config)
                    loss, norm, metrics, stop = self._step(batch, state.step, request)
                    losses.append(loss)
                    state = TrainState(
                        state.step + 1,
                        state.tokens + batch["input_ids"].numel(),
                        before + time.perf_counter() - started,
                        position,
                        self._settled,
                    )
                    self._record(state, loss, norm, metrics)
                    task.advance(1)
                    task.describe(f"{label}: {state.tokens / 1e6:.2f} M tokens, loss {loss:.3f}")
                    last = state.step == config.steps
                    if heldout and config.heldout_every and (last or state.step % config.heldout_every == 0):
                        held = self._heldout(heldout)
                        self._evaluated(state, {"heldout_loss": held})
                    if hook and config.hook_every and (last or state.step % config.hook_every == 0):
                        self._call(hook, state)
                    if last or stop or state.step % config.checkpoint_every == 0:
                        self._checkpoints.save(state)
                        saved = state.step
        finally:
            stream.close()
        assert saved == state.step
        return Outcome(
            finished=state.step == config.steps,
            step=state.step,
            tokens=state.tokens,
            seconds=state.seconds,
            losses=losses,
            heldout_loss=held,
            weights=self._weights(),
            is_main=self._accelerator.is_main_process,
        )

    def _step(self, batch: Batch, step: int, request: StopRequest) -> tuple[float, float, dict[str, float], bool]:
        """One optimizer update: (loss, norm of the gradient, metrics, whether any process was asked to stop)."""
        config, accelerator = self._config, self._accelerator
        factor = config.schedule.factor(step, config.steps)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor
        names: list[str] = []
        sums: list[torch.Tensor] = []
        parts = list(self._parts(batch))
        for index, (part, weight) in enumerate(parts):
            with _compiling(), accelerator.no_sync(self._unit) if index + 1 < len(parts) else nullcontext():
                loss, metrics = self._unit(part)
                # DDP averages over processes what is to be summed
                accelerator.backward(loss * (weight * accelerator.num_processes))
            names = list(metrics)
            values = [float(value) for value in (loss.detach(), *metrics.values())]
            sums.append(weight * torch.tensor(values, dtype=torch.float64))
        asked = torch.tensor([float(request.asked)], dtype=torch.float64)
        total = self._summed(torch.cat([torch.stack(sums).sum(0), asked]))
        loss_value, stop = total[0], total[-1] > 0
        norm = float(accelerator.clip_grad_norm_(self._unit.parameters(), config.clip_norm))
        for name, value in (("loss", loss_value), ("norm of the gradient", norm)):
            if not math.isfinite(value):
                raise EdgespecError(
                    f"the {name} is {value} at step {step + 1}; the step was not taken and the last checkpoint is "
                    "kept: lower the learning rate, lengthen the warm-up, or look at the data there"
                )
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss_value, norm, dict(zip(names, total[1:-1], strict=True)), stop

    def _parts(self, batch: Batch, uneven: bool = False) -> Iterator[tuple[Batch, float]]:
        """This process's micro-batches of a global batch, each with its share of the batch's tokens that count.
        uneven: rows that do not divide among the processes are all done by each, at a share of the weight."""
        rows, processes = len(batch["input_ids"]), self._accelerator.num_processes
        mine, start = rows // processes, self._accelerator.process_index * (rows // processes)
        repeats = 1
        if rows % processes and uneven:
            mine, start, repeats = rows, 0, processes
        elif rows % processes:
            raise EdgespecError(f"a batch has {rows} rows, which do not divide among {processes} processes")
        counts = batch["loss_mask"][:, 1:].sum(1) if "loss_mask" in batch else torch.ones(rows, dtype=torch.long)
        whole = max(1, int(counts.sum()) * repeats)
        size = min(self._share, mine)
        for first in range(start, start + mine, size):
            chosen = slice(first, min(first + size, start + mine))
            part = {name: tensor[chosen].to(self._accelerator.device) for name, tensor in batch.items()}
            yield part, int(counts[chosen].sum()) / whole

    def _summed(self, values: torch.Tensor) -> list[float]:
        """Elementwise sum over the processes."""
        if self._accelerator.num_processes > 1:
            device = self._accelerator.device
            kept = torch.float32 if device.type == "mps" else torch.float64
            values = self._accelerator.reduce(values.to(device, kept), reduction="sum")
        return [float(value) for value in values]

    @torch.no_grad()
    def _heldout(self, heldout: Sequence[Batch]) -> float:
        self._unit.eval()
        total = torch.zeros(1, dtype=torch.float64)
        for batch in heldout:
            for part, weight in self._parts(batch, uneven=True):
                total += weight * float(self._unit(part)[0]) / len(heldout)
        self._unit.train()
        return self._summed(total)[0]

    def _call(self, hook: Hook, state: TrainState) -> None:
        weights = self._weights()
        if self._accelerator.is_main_process:
            self._model.eval()
            self._evaluated(state, hook(state.step, Snapshot(self._model, weights)))
            self._model.train()
        self._accelerator.wait_for_everyone()

    def _weights(self) -> dict[str, torch.Tensor]:
        whole = self._accelerator.get_state_dict(self._unit)
        if not self._accelerator.is_main_process:
            return {}
        return {name.removeprefix("model."): weight for name, weight in whole.items()}

    def _record(self, state: TrainState, loss: float, norm: float, metrics: Mapping[str, float]) -> None:
        if self._accelerator.is_main_process:
            self._log.step(
                state.step,
                tokens=state.tokens,
                seconds=state.seconds,
                learning_rate=self._optimizers[-1].param_groups[0]["lr"],
                gradient_norm=norm,
                loss=loss,
                metrics=metrics,
            )

    def _evaluated(self, state: TrainState, figures: Mapping[str, float | None]) -> None:
        if self._accelerator.is_main_process:
            self._log.evaluation(state.step, state.tokens, figures)


def _optimizers(unit: torch.nn.Module, config: LoopConfig) -> list[torch.optim.Optimizer]:
    return build_optimizers(unit, config.optimizer, config.learning_rate, config.weight_decay)


def _share(config: LoopConfig, processes: int) -> int:
    """Rows of a forward pass on one process."""
    if config.batch % processes:
        raise EdgespecError(
            f"a batch of {config.batch} rows does not divide among {processes} processes; give a multiple of them"
        )
    mine = config.batch // processes
    size = config.micro_batch or mine
    if mine % size:
        raise EdgespecError(
            f"each process has {mine} rows of a batch, which are no whole number of micro-batches of {size}; "
            "give a micro-batch that divides them"
        )
    return size


def _next(stream: Iterator[tuple[Batch, Any]], step: int, config: LoopConfig) -> tuple[Batch, Any]:
    try:
        return next(stream)
    except StopIteration:
        raise EdgespecError(f"the data ended after {step} of {config.steps} steps; give more, or fewer steps") from None
