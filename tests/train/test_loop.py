"""What the loop promises besides resuming: the same step however it is cut, and nothing lost whatever goes wrong."""

from __future__ import annotations

import errno
import json
import math
import shutil
import signal
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from tiny_run import CONFIG, columns, tiny_model, tiny_rows

from edgespec.errors import EdgespecError
from edgespec.train.align import alignment_loss
from edgespec.train.batches import Batch, ShuffledRows
from edgespec.train.cross_entropy import next_token_loss
from edgespec.train.loop import LoopConfig, Outcome, Snapshot, train
from edgespec.train.losses import Mix
from edgespec.train.metrics import read_curve
from edgespec.train.schedule import Schedule

SHORT = replace(CONFIG, steps=6, checkpoint_every=2, heldout_every=0)


class Said:
    """A Progress that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def task(self, description: str, total: float | None = None) -> Any:
        from edgespec.progress import SILENT

        return SILENT.task(description, total)

    def say(self, message: str) -> None:
        self.lines.append(message)


def _train(out: Path, config: LoopConfig = SHORT, loss_fn: Any = next_token_loss, **options: Any) -> Outcome:
    out.mkdir(exist_ok=True)
    return train(tiny_model(), ShuffledRows(tiny_rows(), config.batch, 3), loss_fn, config, out, **options)


def _checkpoints(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "checkpoints").iterdir())


def test_it_learns_and_writes_what_it_did(tmp_path: Path) -> None:
    config = replace(SHORT, steps=60, checkpoint_every=25, learning_rate=1e-2, schedule=Schedule("cosine", warmup=0.05))
    outcome = _train(tmp_path, config)
    assert outcome.finished and outcome.losses[-1] < outcome.losses[0] - 1
    assert [value for _, value in read_curve(tmp_path)] == outcome.losses
    rates = [value for _, value in read_curve(tmp_path, "learning_rate")]
    assert rates == pytest.approx([1e-2 * config.schedule.factor(step, 60) for step in range(60)])
    assert outcome.tokens == 60 * 8 * 17 and _checkpoints(tmp_path) == ["step-00000050", "step-00000060"]


@pytest.mark.parametrize("micro_batch", [1, 4, 8])
def test_a_step_does_not_depend_on_how_it_is_accumulated(tmp_path: Path, micro_batch: int) -> None:
    """Rows count by their masked tokens, so unequal rows must not be averaged as equals."""
    whole = _train(tmp_path / "whole", replace(SHORT, micro_batch=None))
    parts = _train(tmp_path / "parts", replace(SHORT, micro_batch=micro_batch))
    assert parts.losses == pytest.approx(whole.losses, rel=1e-4)
    one, other = (read_curve(tmp_path / run, "gradient_norm") for run in ("whole", "parts"))
    assert [value for _, value in other] == pytest.approx([value for _, value in one], rel=1e-3)


def test_one_step_is_the_plain_step(tmp_path: Path) -> None:
    """Against ten lines of PyTorch."""
    config = replace(SHORT, steps=1, batch=24, micro_batch=6, schedule=Schedule(warmup=0.0), clip_norm=0.5)
    outcome = _train(tmp_path, config)
    model, rows = tiny_model(), tiny_rows()
    labels = rows["input_ids"].masked_fill(~rows["loss_mask"], -100)
    loss = model(input_ids=rows["input_ids"], labels=labels).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    decayed = [w for n, w in model.named_parameters() if w.ndim == 2 and "embed" not in n]
    others = [w for n, w in model.named_parameters() if w.ndim < 2 or "embed" in n]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95)).step()
    assert outcome.losses[0] == pytest.approx(loss.item(), rel=1e-5)
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(outcome.weights[name], weight, rtol=1e-3, atol=2e-4)


def test_muon_and_bf16_and_metrics_of_the_loss(tmp_path: Path) -> None:
    def loss_fn(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        loss, _ = next_token_loss(model, batch)
        return loss, {"rows": float(len(batch["input_ids"]))}

    outcome = _train(tmp_path, replace(SHORT, optimizer="muon", precision="bf16", learning_rate=1e-3), loss_fn)
    assert outcome.losses[-1] < outcome.losses[0]
    assert [value for _, value in read_curve(tmp_path, "rows")] == pytest.approx([2.0] * 6)


def test_a_hook_sees_the_model_as_it_is(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    seen = []

    def hook(step: int, snapshot: Snapshot) -> dict[str, float | None]:
        snapshot.save(tmp_path / f"at-{step}")
        seen.append(step)
        return {"acceptance_rate": step / 10, "unknown": None}

    outcome = _train(tmp_path / "run", replace(SHORT, hook_every=4), hook=hook)
    assert seen == [4, 6] and read_curve(tmp_path / "run", "acceptance_rate") == [(4, 0.4), (6, 0.6)]
    last = AutoModelForCausalLM.from_pretrained(tmp_path / "at-6").state_dict()
    assert all(torch.equal(last[name], weight) for name, weight in outcome.weights.items())


def test_a_loss_that_is_not_finite_stops_with_a_sentence_and_the_last_checkpoint_stays(tmp_path: Path) -> None:
    calls = 0

    def breaks(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        nonlocal calls
        calls += 1
        loss, metrics = next_token_loss(model, batch)
        return loss * (math.nan if calls > 4 * 4 else 1), metrics

    with pytest.raises(EdgespecError, match=r"the loss is nan at step 5; the step was not taken .* lower the learning"):
        _train(tmp_path, loss_fn=breaks)
    assert _checkpoints(tmp_path) == ["step-00000002", "step-00000004"]
    assert _train(tmp_path).losses == _train(tmp_path / "whole").losses[4:]


def test_a_full_disk_before_the_start_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    with pytest.raises(EdgespecError, match=r"0\.00 GB free and about .* GB are needed"):
        _train(tmp_path)
    assert not (tmp_path / "metrics.csv").exists()


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("PytorchStreamWriter failed writing file")]
)
def test_a_disk_that_fills_up_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    save = Accelerator.save_state
    saves = 0

    def fills(self: Accelerator, folder: str, **options: Any) -> Any:
        nonlocal saves
        saves += 1
        save(self, folder, **options)  # files are there when it breaks
        if saves == 2:
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(Accelerator, "save_state", fills)
        with pytest.raises(EdgespecError, match=r"step 4 could not be written .*: the disk is full .*'step-00000002'"):
            _train(tmp_path)
    assert _checkpoints(tmp_path) == ["step-00000002"]
    _train(tmp_path)
    _train(tmp_path / "whole")
    assert list(columns(tmp_path)) == list(columns(tmp_path / "whole"))


def test_a_checkpoint_of_another_recipe_is_refused_with_what_differs(tmp_path: Path) -> None:
    _train(tmp_path, recipe={"data": "code"})
    with pytest.raises(
        EdgespecError,
        match=r'another run: data was "code" and is now "text"; loop.learning_rate was 0.005 and is now 0.1',
    ):
        _train(tmp_path, replace(SHORT, learning_rate=0.1), recipe={"data": "text"})
    assert _checkpoints(tmp_path) == ["step-00000004", "step-00000006"]


def test_how_often_to_save_may_change(tmp_path: Path) -> None:
    _train(tmp_path)
    assert _train(tmp_path, replace(SHORT, checkpoint_every=1, keep=1)).finished


@pytest.mark.parametrize("damage", ["truncated", "changed", "missing", "no state"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, damage: str) -> None:
    whole = _train(tmp_path)
    newest = tmp_path / "checkpoints" / "step-00000006"
    weights = newest / "pytorch_model.bin"
    content = weights.read_bytes()
    if damage == "truncated":
        weights.write_bytes(content[:-100])
    elif damage == "changed":
        weights.write_bytes(content[:-100] + bytes(100))
    elif damage == "missing":
        (newest / "optimizer.bin").unlink()
    else:
        (newest / "state.json").write_text("{")
    said = Said()
    again = _train(tmp_path, progress=said)
    assert any("step-00000006' is passed over" in line for line in said.lines)
    assert again.losses == whole.losses[4:]


def test_leftovers_of_a_killed_write_go(tmp_path: Path) -> None:
    leftover = tmp_path / "checkpoints" / ".partial-step-00000002"
    leftover.mkdir(parents=True)
    (leftover / "pytorch_model.bin").write_bytes(b"half")
    _train(tmp_path)
    assert not leftover.exists()


def _interrupting(at: int, times: int) -> Any:
    calls = 0

    def loss_fn(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        nonlocal calls
        calls += 1
        if calls == at:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return next_token_loss(model, batch)

    return loss_fn


def test_the_first_ctrl_c_saves_and_stops(tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    said = Said()
    stopped = _train(tmp_path, loss_fn=_interrupting(at=4 * 2 + 1, times=1), progress=said)
    assert not stopped.finished and stopped.step == 3 and "once more stops at once" in said.lines[-1]
    assert _checkpoints(tmp_path)[-1] == "step-00000003" and signal.getsignal(signal.SIGINT) is handler
    rest = _train(tmp_path)
    assert rest.finished and stopped.losses + rest.losses == _train(tmp_path / "whole").losses


def test_the_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path, loss_fn=_interrupting(at=4 * 2 + 1, times=2))
    assert _checkpoints(tmp_path) == ["step-00000002"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"learning_rate": 0.0}, r"the learning rate is 0\.0; it must be above 0"),
        ({"micro_batch": 3}, "8 rows of a batch, which are no whole number of micro-batches of 3"),
    ],
)
def test_what_cannot_be_is_a_sentence(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(EdgespecError, match=sentence):
        _train(tmp_path, replace(SHORT, **change))


def test_checkpoints_say_what_they_are(tmp_path: Path) -> None:
    _train(tmp_path, recipe={"data": "code"})
    document = json.loads((tmp_path / "checkpoints" / "step-00000006" / "state.json").read_text())
    assert document["recipe"]["data"] == "code" and document["recipe"]["loop"]["seed"] == 0
    assert document["state"]["step"] == document["state"]["position"] == 6 and document["processes"] == 1


@pytest.mark.parametrize("family", ["pretraining", "alignment"])
def test_what_is_compiled_is_what_the_loss_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    """A compiled module that nothing calls would be --compile without effect."""
    calls = 0

    def compiled(self: torch.nn.Module) -> None:
        def through(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            return self._call_impl(*args, **options)

        self._compiled_call_impl = through

    monkeypatch.setattr(torch.nn.Module, "compile", compiled)
    loss = next_token_loss if family == "pretraining" else alignment_loss(Mix.parse("ce"))
    _train(tmp_path / "run", replace(SHORT, steps=2, compiled=True), loss)
    assert calls >= 2 * SHORT.batch // (SHORT.micro_batch or SHORT.batch)


def test_what_cannot_be_compiled_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no C++ compiler found")

    def compiled(self: torch.nn.Module) -> None:
        self._compiled_call_impl = torch.compile(self._call_impl, backend=no_compiler)

    monkeypatch.setattr(torch.nn.Module, "compile", compiled)
    with pytest.raises(EdgespecError, match=r"torch.compile failed: .*; leave --compile out, or give it a C\+\+"):
        _train(tmp_path / "run", replace(SHORT, compiled=True))
