"""Killed at any step and started again, a run is the same run, bit for bit."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_run
import torch
from tiny_run import CONFIG, columns

from edgespec.train.loop import LoopConfig
from edgespec.train.metrics import METRICS


def _steps(folder: Path) -> int:
    path = folder / METRICS
    return max(0, path.read_text(encoding="utf-8").count("\n") - 1) if path.is_file() else 0


def test_killed_at_random_steps_the_curve_is_the_same(tmp_path: Path) -> None:
    command = [sys.executable, tiny_run.__file__, str(tmp_path), "--dropout"]
    points = sorted(random.Random(7).sample(range(2, CONFIG.steps - 2), 3))
    for point in points:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 240
            while _steps(tmp_path / "run") < point:
                assert process.poll() is None, f"it ended at step {_steps(tmp_path / 'run')}, before it could be killed"
                assert time.monotonic() < deadline
                time.sleep(0.002)
        finally:
            process.kill()  # SIGKILL
            process.wait()
        assert point <= _steps(tmp_path / "run") < CONFIG.steps
    subprocess.run([*command, "--compare"], check=True, capture_output=True)
    assert list(columns(tmp_path / "run")) == list(columns(tmp_path / "whole"))
    assert _steps(tmp_path / "run") == CONFIG.steps
    evaluations = [(tmp_path / name / "evaluations.csv").read_text() for name in ("run", "whole")]
    assert evaluations[0] == evaluations[1]


@pytest.mark.parametrize("step", [1, 5, 6, 11])
def test_every_state_is_restored(tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process that dies in the middle of step + 1 would leave it: weights, moments, random states and place."""
    config = LoopConfig(**{**vars(CONFIG), "steps": 12, "checkpoint_every": 1})
    whole = tiny_run.run(tmp_path / "whole", config, dropout=0.1)
    optimizer_step, seen = torch.optim.AdamW.step, 0

    def dies(self: torch.optim.AdamW, closure: None = None) -> None:
        nonlocal seen
        seen += 1
        if seen > step:
            raise KeyboardInterrupt
        optimizer_step(self, closure)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", dies)
        with pytest.raises(KeyboardInterrupt):
            tiny_run.run(tmp_path / "broken", config, dropout=0.1)
    torch.rand(7)  # another place in the random numbers
    rest = tiny_run.run(tmp_path / "broken", config, dropout=0.1)
    assert rest.losses == whole.losses[step:]
    assert all(torch.equal(rest.weights[name], whole.weights[name]) for name in whole.weights)
    assert list(columns(tmp_path / "broken")) == list(columns(tmp_path / "whole"))


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    config = LoopConfig(**{**vars(CONFIG), "steps": 3})
    first = tiny_run.run(tmp_path / "run", config)
    again = tiny_run.run(tmp_path / "run", config)
    assert again.finished and again.losses == [] and again.tokens == first.tokens
    assert all(torch.equal(again.weights[name], first.weights[name]) for name in first.weights)
