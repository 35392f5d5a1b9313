"""Killed at random moments: no pair that is not whole, and the next run cleans up."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from edgespec.pair import Pair


def test_a_killed_run_leaves_no_pair_and_the_next_cleans_up(tmp_path: Path, tiny_pair: Path) -> None:
    source = Path(__file__).parents[2] / "examples" / "killed_quantize.py"
    spec = importlib.util.spec_from_file_location("killed_quantize", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ends = module.killed_rounds(tiny_pair, tmp_path, rounds=3)
    assert ends["killed"] + ends["whole"] == 3
    assert ends["killed"] >= 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    Pair.open(tmp_path / "out")
