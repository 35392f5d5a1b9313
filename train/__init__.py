"""Train a draft for a target (imported as edgespec.train): corpus, tokenizer, pretraining, generation, alignment.

Sources: FastDraft (arXiv:2411.11055) and direct alignment (Goel et al. 2024, arXiv:2403.00858).
"""

from __future__ import annotations

from pathlib import Path

from transformers.utils import logging as transformers_logging

from edgespec.progress import SILENT, Progress

from .card import model_card
from .evaluate import evaluate_pair
from .init import InitConfig, make_draft
from .loop import LoopConfig, is_main_process
from .pretrain import PretrainConfig, pretrain_checkpoint
from .recipe import ExportTarget, Recipe, RecipeRun
from .schedule import Schedule
from .shapes import Shape
from .sources import SourceSpec

__all__ = [
    "BUNDLED_RECIPE",
    "ExportTarget",
    "InitConfig",
    "LoopConfig",
    "PretrainConfig",
    "Recipe",
    "Schedule",
    "Shape",
    "SourceSpec",
    "evaluate_pair",
    "is_main_process",
    "make_draft",
    "model_card",
    "pretrain_checkpoint",
    "read_recipe",
    "run_recipe",
]

transformers_logging.disable_progress_bar()  # ours are shown instead

BUNDLED_RECIPE = Path(__file__).parent / "recipes" / "bundled.yaml"


def read_recipe(path: Path | None) -> Recipe:
    """The recipe at `path`, or the bundled pair's. Raises EdgespecError naming the key that is wrong."""
    return Recipe.read(path or BUNDLED_RECIPE)


def run_recipe(recipe: Recipe, work: Path, export_target: ExportTarget, progress: Progress = SILENT) -> dict[str, str]:
    """Run every stage not made yet; the directories of the target and the draft it ends with, ready to ship."""
    target, draft = RecipeRun(recipe, work, export_target, progress).all()
    return {"target": str(target), "draft": str(draft)}
