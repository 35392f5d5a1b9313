"""What a run of the loop came to: its facts, its model in place once it is finished, a sentence when it is not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgespec.errors import Stopped
from edgespec.progress import SILENT, Progress
from edgespec.staging import remove_folder, staged_directory

from .loop import Outcome
from .metrics import read_curve
from .models import MODEL

_TAIL = 20
"""Steps whose mean is told as the loss."""


def keep(folder: Path, model: Any, tokenizer: Any, outcome: Outcome, progress: Progress = SILENT) -> dict[str, Any]:
    """The facts of a run in `folder`; where it is finished, the main process writes the checkpoint `model` there.

    finished, step, tokens, seconds, parameters; loss: mean of the last 20 steps; heldout_loss; model: the checkpoint,
    or None. The losses are read back from the curves: a run that went on has not seen all of its steps itself.
    """
    if outcome.finished and outcome.is_main:
        remove_folder(folder / MODEL)  # of a run that was killed right here
        with staged_directory(folder / MODEL, progress=progress) as building:
            model.save_pretrained(building, state_dict=outcome.weights)
            tokenizer.save_pretrained(building)
    losses = [value for _, value in read_curve(folder)] if outcome.is_main else outcome.losses
    held = [value for _, value in read_curve(folder, "heldout_loss")] if outcome.is_main else []
    tail = losses[-_TAIL:]
    return {
        "finished": outcome.finished,
        "step": outcome.step,
        "tokens": outcome.tokens,
        "seconds": round(outcome.seconds, 1),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "loss": sum(tail) / len(tail) if tail else None,
        "heldout_loss": held[-1] if held else None,
        "model": str(folder / MODEL) if outcome.finished else None,
    }


def stopped_at(facts: Mapping[str, Any], folder: Path) -> str:
    """What to tell of a run that was asked to stop."""
    return f"stopped at step {facts['step']}, which is saved in '{folder}'; the same command goes on from there"


def require_finished(facts: Mapping[str, Any], folder: Path) -> None:
    """A stage whose training was asked to stop ends the recipe, as if by Ctrl-C and not as if it were done. Raises
    Stopped."""
    if not facts["finished"]:
        raise Stopped(stopped_at(facts, folder))
