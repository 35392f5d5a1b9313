"""Train a draft for a target (imported as edgespec.train): init, pretraining, the target's own text, alignment.

Sources: FastDraft (arXiv:2411.11055) and direct alignment (Goel et al. 2024, arXiv:2403.00858).

recipe.py, pipeline.py, stages.py      a recipe, its stages, when one is skipped
forecast.py, page.py                   what it will take, and what it came to
loop.py and what it imports            the training loop
sources.py, packing.py                 text to rows
generate/                              the alignment set
losses.py, align.py                    alignment
evaluate.py                            acceptance, by real speculative decoding
"""

from __future__ import annotations

from pathlib import Path

from transformers.utils import logging as transformers_logging

from .card import model_card
from .drafting import read_source, run_alignment
from .evaluate import HeldOut, evaluate_at, evaluate_pair, read_temperatures
from .finishing import stopped_at
from .forecast import Forecast, total
from .generate import AlignmentJob, Settings, run_alignment_job
from .init import InitConfig, make_draft
from .loop import LoopConfig, is_main_process
from .page import write_page
from .pipeline import Pipeline, Tools
from .planning import plan_recipe
from .pretrain import PretrainConfig, pretrain_checkpoint
from .recipe import AlignSection, Recipe
from .schedule import Schedule
from .shapes import Shape
from .sources import SourceSpec
from .stages import stage_facts

__all__ = [
    "BUNDLED_RECIPE",
    "AlignSection",
    "AlignmentJob",
    "Forecast",
    "HeldOut",
    "InitConfig",
    "LoopConfig",
    "Pipeline",
    "PretrainConfig",
    "Recipe",
    "Schedule",
    "Settings",
    "Shape",
    "SourceSpec",
    "Tools",
    "evaluate_at",
    "evaluate_pair",
    "is_main_process",
    "make_draft",
    "model_card",
    "plan_recipe",
    "pretrain_checkpoint",
    "read_recipe",
    "read_source",
    "read_temperatures",
    "run_alignment",
    "run_alignment_job",
    "stage_facts",
    "stopped_at",
    "total",
    "write_page",
]

transformers_logging.disable_progress_bar()  # ours are shown instead

BUNDLED_RECIPE = Path(__file__).parent / "recipes" / "bundled.yaml"


def read_recipe(path: Path | None) -> Recipe:
    """The recipe at `path`, or the bundled pair's. Raises EdgespecError naming the key that is wrong."""
    return Recipe.read(path or BUNDLED_RECIPE)
