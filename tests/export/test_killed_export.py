"""An export that is killed leaves no pair, or a whole one, and the next run cleans up (examples/killed_exports.py does
it fifty times)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("killed_exports", ROOT / "examples" / "killed_exports.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["killed_exports"] = module
    spec.loader.exec_module(module)
    return module


def test_killed_exports_leave_no_wrong_pair(tmp_path: Path, example: ModuleType, tiny_draft_checkpoint: Path) -> None:
    outcome = example.kill_at_random(tiny_draft_checkpoint, tmp_path / "out", 1, seed=6)
    assert outcome.kills == 1
    assert outcome.partial > 0  # else nothing was killed while it worked
