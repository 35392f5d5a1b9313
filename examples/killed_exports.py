"""Is a killed export ever a pair that loads and is wrong? Kill it, again and again, at moments drawn at random.

    python examples/killed_exports.py CHECKPOINT --out FOLDER [--kills 50] [--seed 0] [-- ARGUMENTS OF edgespec export]

Each round starts `edgespec export CHECKPOINT -o FOLDER/pair`, kills it (SIGKILL; TerminateProcess on Windows) after a
time between nothing and what a whole run takes, and looks at what is there: nothing, or a pair whose every hash is
right and whose logits are those of a run that nobody killed. Now and then, and at the end, a run goes to its end beside
what the dead ones left: it must leave its pair and nothing else.

Most of a run on a small checkpoint is the import of torch, which writes nothing. So on POSIX each run is a fork of a
process that has imported the libraries and done no work with them (`forked` in the result): a whole process of its own,
the one that writes, which SIGKILL ends as it ends any other. With --whole-processes, and on Windows, each is started
anew by the interpreter.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from edgespec.pair import Pair
from edgespec.staging import remove_folder

PROMPT = [12, 77, 203, 5, 140, 31, 250, 9]
_WARM = (
    "torch",
    "transformers",
    "nncf",
    "openvino",
    "openvino_genai",
    "openvino_tokenizers",
    "optimum.exporters.openvino.convert",
    "optimum.intel",
    "edgespec.export.assemble",
    "edgespec.quantize.assemble",
    "edgespec.commands.export",
)


class Run(Protocol):
    """A process that runs a command."""

    def ended(self) -> int | None:
        """Its exit code, None while it runs."""

    def kill(self) -> None:
        """End it at once, without a chance to clean up."""


Start = Callable[[list[str]], Run]
"""Starts `edgespec` with these arguments."""


class Started:
    """A process that the interpreter begins anew."""

    def __init__(self, arguments: list[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edgespec", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def ended(self) -> int | None:
        return self._process.poll()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Forked:
    """A fork of this process, which has imported what the command needs and started no thread of OpenVINO or torch."""

    def __init__(self, arguments: list[str]) -> None:
        self._code: int | None = None
        self._pid = os.fork()
        if self._pid == 0:
            _become(arguments)

    def ended(self) -> int | None:
        if self._code is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        _, status = os.waitpid(self._pid, 0)
        self._code = os.waitstatus_to_exitcode(status)


def _become(arguments: list[str]) -> None:
    """Run the command in this fork, and end with its exit code whatever happens."""
    code = 1
    try:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        from edgespec.cli import main

        sys.argv = ["edgespec", *arguments]
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    finally:
        os._exit(code)


def warm() -> None:
    """Import what an export needs, so that forks need not."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a fork must not wait for threads that it has not got
    for module in _WARM:
        importlib.import_module(module)


@dataclass
class Outcome:
    """Of the runs that were killed: how many left a staging directory, nothing, or a whole pair; and how many runs were
    over before their time came, which count as no kill."""

    partial: int = 0
    nothing: int = 0
    whole: int = 0
    too_late: int = 0

    @property
    def kills(self) -> int:
        return self.partial + self.nothing + self.whole


Moment = Callable[[], bool]
"""Whether it is time to kill."""


@dataclass(frozen=True)
class Trial:
    """What is killed: an export of `checkpoint` to out/pair with further arguments, begun by `start`."""

    checkpoint: Path
    out: Path
    arguments: tuple[str, ...] = ()
    start: Start = Started

    @property
    def pair(self) -> Path:
        return self.out / "pair"

    def begin(self) -> Run:
        return self.start(["export", str(self.checkpoint), "-o", str(self.pair), *self.arguments])


def kill_at_random(trial: Trial, kills: int, seed: int = 0) -> Outcome:
    """Run until `kills` runs were killed at moments drawn at random. Raises what `killed` and `finished` raise."""
    trial.out.mkdir(parents=True, exist_ok=True)
    expected, takes_s = finished(trial)
    draw = random.Random(seed)
    # a run that Python begins anew imports for a while: nine of ten moments are later than that
    earliest = 0.0 if trial.start is Forked else 0.2
    outcome = Outcome()
    while outcome.kills < kills:
        wait_s = draw.uniform(0.0 if draw.random() < 0.1 else earliest, 1.02) * takes_s
        started = time.monotonic()
        late, before = outcome.too_late, outcome.kills
        killed(trial, lambda since=started, wait_s=wait_s: time.monotonic() - since > wait_s, outcome, expected)
        if outcome.too_late > late:
            takes_s = min(takes_s, time.monotonic() - started)  # the machine is quicker now
        if outcome.kills > before and outcome.kills % 10 == 5:
            finished(trial, expected)
        sys.stderr.write(f"{outcome}\n")
    finished(trial, expected)
    return outcome


def killed(trial: Trial, moment: Moment, outcome: Outcome, expected: np.ndarray | None = None) -> None:
    """Start one run, kill it when `moment` says so, and count in `outcome` what it left.

    expected: logits of PROMPT that a whole pair must give. Raises EdgespecError when a pair is there that is not whole,
    AssertionError for anything else that should not be.
    """
    run = trial.begin()
    while (code := run.ended()) is None:
        if moment():
            run.kill()
            code = run.ended()
            break
        time.sleep(0.002)
    left = sorted(path.name for path in trial.out.iterdir())
    if code == 0:  # it was over, perhaps in the moment between the last look and the kill
        outcome.too_late += 1
        _take(trial, expected)
    elif "pair" in left:
        _take(trial, expected)
        outcome.whole += 1
    elif left:
        assert code in _KILLED, f"a run that was not killed failed with {code}"
        assert all(name.startswith(".pair.edgespec-partial-") for name in left), left
        outcome.partial += 1
    else:
        assert code in _KILLED, f"a run that was not killed failed with {code}"
        outcome.nothing += 1


_KILLED = (-9, 1) if os.name == "nt" else (-9,)
"""Exit codes of a killed process: minus the signal, or what TerminateProcess was told."""


def finished(trial: Trial, expected: np.ndarray | None = None) -> tuple[np.ndarray, float]:
    """Run to the end; the logits of the pair, which is deleted, and the seconds it took. It must be whole and alone."""
    trial.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    run = trial.begin()
    while (code := run.ended()) is None:
        time.sleep(0.002)
    took_s = time.monotonic() - started
    assert code == 0, f"a run that was not killed failed with {code}"
    left = sorted(path.name for path in trial.out.iterdir())
    assert left == ["pair"], f"the run left {left}"
    return _take(trial, expected), took_s


def _take(trial: Trial, expected: np.ndarray | None) -> np.ndarray:
    """The logits of the pair, whose every hash is right, and which is deleted. They must be the expected ones."""
    pair = Pair.open(trial.pair)
    # in a process of its own: a fork of one that has run OpenVINO would wait for threads it has not got
    told = subprocess.run(
        [sys.executable, __file__, "--tell", str(pair.target.absolute())], capture_output=True, check=True
    )
    logits = np.frombuffer(told.stdout, dtype=np.float32)
    assert np.isfinite(logits).all() and logits.size > 0
    if expected is not None:
        np.testing.assert_allclose(logits, expected, atol=1e-5 * float(np.abs(expected).max()))
    pair.delete()
    return logits


def tell(folder: str) -> None:
    """Write the f32 logits of PROMPT, of the model in `folder`, to stdout as bytes."""
    import openvino as ov

    from edgespec.settings import EXACT

    xml = Path(folder) / "openvino_model.xml"
    request = ov.Core().compile_model(xml, "CPU", dict(EXACT)).create_infer_request()
    request.infer(
        {
            "input_ids": np.array([PROMPT], dtype=np.int64),
            "attention_mask": np.ones((1, len(PROMPT)), dtype=np.int64),
            "position_ids": np.arange(len(PROMPT), dtype=np.int64)[None],
            "beam_idx": np.zeros(1, dtype=np.int32),
        }
    )
    sys.stdout.buffer.write(request.get_tensor("logits").data.astype(np.float32).tobytes())


def main() -> None:
    if sys.argv[1:2] == ["--tell"]:
        tell(sys.argv[2])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--whole-processes", action="store_true", help="start the interpreter anew for each run")
    asked, rest = parser.parse_known_args()
    remove_folder(asked.out)
    forks = hasattr(os, "fork") and not asked.whole_processes
    if forks:
        warm()
    arguments = tuple(word for word in rest if word != "--")
    trial = Trial(asked.checkpoint, asked.out, arguments, Forked if forks else Started)
    started = time.monotonic()
    outcome = kill_at_random(trial, asked.kills, asked.seed)
    seconds = round(time.monotonic() - started, 1)
    print(
        json.dumps(
            {
                "kills": outcome.kills,
                "forked": forks,
                "arguments": arguments,
                "seconds": seconds,
                "seconds_per_kill": round(seconds / max(1, outcome.kills), 2),
                **asdict(outcome),
            }
        )
    )
    assert not (leftover := list(asked.out.iterdir())), f"left at the end: {leftover}"
    shutil.rmtree(asked.out)


if __name__ == "__main__":
    main()
