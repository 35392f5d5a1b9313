"""Killed at a known place of the work: no pair that is not whole, and the next run cleans up.

Each kill follows what the process says of itself, and no time. At random moments: examples/killed_quantize.py.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def killing() -> Iterator[ModuleType]:
    source = Path(__file__).parents[2] / "examples" / "killed_quantize.py"
    spec = importlib.util.spec_from_file_location("killed_quantize", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["killed_quantize"] = module  # the process that is started imports `work` by this name
    sys.path.insert(0, str(source.parent))
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(source.parent))
    del sys.modules["killed_quantize"]


def test_a_killed_run_leaves_no_pair_and_the_next_cleans_up(
    tmp_path: Path, tiny_pair: Path, killing: ModuleType
) -> None:
    runs = killing.Rounds(tiny_pair, tmp_path)
    ends = killing.Ends()

    def once_told(words: str) -> object:
        def moment(heard: Connection) -> str:
            while words not in (told := str(heard.recv())):
                pass
            return told

        return moment

    for kind, words in (
        ("quantize", "compressing the target"),
        ("quantize", "checking the draft that was written"),
        ("quantize", "measuring what it cost"),
        ("sweep", "timing passes"),
        ("sweep", "checking the draft that is kept"),
    ):
        runs.killed(kind, once_told(words), ends)
    assert (ends.killed, ends.whole, ends.left_something) == (5, 0, 5)
    runs.killed("quantize", once_told("end"), ends)
    assert (ends.killed, ends.whole, ends.too_late) == (5, 1, 1)
    runs.whole("quantize")
    assert not list(tmp_path.iterdir())  # it found what the dead had left, and removed it


def test_the_moments_of_the_example_are_drawn_from_the_whole_run(killing: ModuleType) -> None:
    """A pipe that tells all at once: the wait ends with the work, whatever the time."""
    from multiprocessing import Pipe

    heard, told = Pipe(duplex=False)
    for words in ("one", "two", "end"):
        told.send(words)
    assert killing.after(60)(heard) == "end"
    told.send("three")
    assert killing.after(0)(heard) == "beginning"
    told.close()
