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


def test_a_killed_export_leaves_no_pair_and_the_next_run_cleans_up(
    tmp_path: Path, example: ModuleType, tiny_draft_checkpoint: Path
) -> None:
    """Killed when the model is half written, then when all but the manifest is there, then not."""
    outcome = example.Outcome()
    leftovers: list[Path] = []
    for kills, file in enumerate(("openvino_model.bin", "openvino_detokenizer.xml"), 1):
        before = frozenset(tmp_path.rglob(file))

        def moment(name: str = file, before: frozenset[Path] = before) -> bool:
            return any(path not in before for path in tmp_path.rglob(name))

        example.killed(tiny_draft_checkpoint, tmp_path, moment, outcome)
        assert (outcome.partial, outcome.kills) == (kills, kills)
        assert not (tmp_path / "pair").exists()
        (left,) = tmp_path.iterdir()  # what the killed run before left is gone
        assert left not in leftovers
        leftovers.append(left)
    example.finished(tiny_draft_checkpoint, tmp_path)  # it looks at what is left
