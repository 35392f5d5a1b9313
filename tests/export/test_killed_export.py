"""An export that is killed leaves no pair, or a whole one, and the next run cleans up (examples/killed_exports.py does
it fifty times)."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgespec.errors import EdgespecError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("killed_exports", ROOT / "examples" / "killed_exports.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["killed_exports"] = module
    spec.loader.exec_module(module)
    return module


def test_a_killed_export_leaves_no_pair_and_the_next_run_cleans_up(
    tmp_path: Path, example: ModuleType, tiny_draft_checkpoint: Path
) -> None:
    """Killed when the model is half written, then when all but the manifest is there, then not. What is waited for is
    a file that appears; whole processes, as on every system."""
    outcome = example.Outcome()
    trial = example.Trial(tiny_draft_checkpoint, tmp_path / "out")
    trial.out.mkdir()
    leftovers: list[Path] = []
    for kills, file in enumerate(("openvino_model.bin", "openvino_detokenizer.xml"), 1):
        before = frozenset(trial.out.rglob(file))

        def moment(name: str = file, before: frozenset[Path] = before) -> bool:
            return any(path not in before for path in trial.out.rglob(name))

        example.killed(trial, moment, outcome)
        assert (outcome.partial, outcome.kills) == (kills, kills)
        assert not trial.pair.exists()
        (left,) = trial.out.iterdir()  # what the killed run before left is gone
        assert left not in leftovers
        leftovers.append(left)
    logits, _ = example.finished(trial)  # it looks at what is left
    assert logits.size == len(example.PROMPT) * 320


class Scripted:
    """A run that leaves what it is told to, and ends with `code` when it is killed."""

    def __init__(self, act: Callable[[], object], code: int) -> None:
        act()
        self.code: int | None = None
        self._later = code

    def ended(self) -> int | None:
        return self.code

    def kill(self) -> None:
        self.code = self._later


@pytest.mark.parametrize("what", ["wrong logits", "altered file", "left beside", "failed"])
def test_the_example_sees_what_it_looks_for(
    tmp_path: Path, example: ModuleType, tiny_pair: Path, tiny_draft_checkpoint: Path, what: str
) -> None:
    """A check that cannot fail proves nothing: each thing that must not be is there once."""

    def act() -> None:
        if what == "left beside":
            (tmp_path / "something").mkdir()
        elif what != "failed":
            shutil.copytree(tiny_pair, tmp_path / "pair")
        if what == "altered file":
            weights = tmp_path / "pair" / "target" / "openvino_model.bin"
            weights.write_bytes(bytes([weights.read_bytes()[0] ^ 1]) + weights.read_bytes()[1:])

    code = 2 if what == "failed" else example._KILLED[0]
    trial = example.Trial(tiny_draft_checkpoint, tmp_path, (), lambda _: Scripted(act, code))
    expected = np.ones(len(example.PROMPT) * 320, dtype=np.float32)
    says = {
        "wrong logits": "Not equal to tolerance",
        "altered file": "does not match its sha256",
        "left beside": "something",
        "failed": "a run that was not killed failed with 2",
    }
    with pytest.raises((AssertionError, EdgespecError), match=says[what]):
        example.killed(trial, lambda: True, example.Outcome(), expected)
