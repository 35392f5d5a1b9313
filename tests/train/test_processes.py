"""Two processes over gloo and one process, over the same global batches: equal to rounding."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_run

from edgespec.train.metrics import read_curve


def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    # accelerate's own flag for several CPU processes wants MPI; this one starts them through torchrun, over gloo
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    options = ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    command = [sys.executable, *launch, *options, tiny_run.__file__, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "ACCELERATE_USE_CPU": "true"})
    assert done.returncode == 0, done.stderr[-2000:]
    tiny_run.run(tmp_path / "alone")
    for name in ("loss", "gradient_norm", "heldout_loss"):
        two, one = read_curve(tmp_path / "run", name), read_curve(tmp_path / "alone", name)
        assert [step for step, _ in two] == [step for step, _ in one] and len(one) >= 4
        for (_, a), (_, b) in zip(two, one, strict=True):
            assert a == pytest.approx(b, rel=2e-4, abs=2e-5)
    states = sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("*/random_states_*"))
    assert {"random_states_0.pkl", "random_states_1.pkl"} <= set(states), "it did not run in two processes"
