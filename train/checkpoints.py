"""Checkpoints that make a resumed run the same run: weights, optimizer, random states, step and place in the data.

    run/checkpoints/step-00000500/
      pytorch_model.bin, optimizer.bin, random_states_0.pkl, ...   by accelerate (sharded under FSDP)
      state.json     step, position, the run's recipe, size and sha256 of every file; written last

A checkpoint is written beside its place, forced to the disk, and renamed; a killed write leaves a folder that the next
run removes. What cannot be written (a full disk) leaves the older ones as they are.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from edgespec.errors import EdgespecError
from edgespec.hashing import sha256_of
from edgespec.progress import SILENT, Progress
from edgespec.resources import require_disk
from edgespec.staging import remove_folder, replace

from .batches import Position

FOLDER = "checkpoints"
STATE = "state.json"
_PARTIAL = ".partial-"


@dataclass(frozen=True)
class TrainState:
    """Where a run is: `step` optimizer steps done, `tokens` seen, `seconds` spent, the data's `position`, and what was
    settled when it began."""

    step: int
    tokens: int
    seconds: float
    position: Position
    settled: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run.

    recipe: everything that decides the run, as a JSON mapping; a checkpoint of another recipe is refused with the keys
    that differ. keep: how many of the newest stay.
    """

    def __init__(
        self, run: Path, recipe: Mapping[str, Any], accelerator: Accelerator, keep: int, progress: Progress = SILENT
    ) -> None:
        self._folder = run / FOLDER
        self._recipe = json.loads(json.dumps(recipe))
        self._accelerator = accelerator
        self._keep = keep
        self._progress = progress

    def newest(self) -> tuple[Path, TrainState] | None:
        """The newest whole checkpoint of this recipe; damaged ones are passed over, and said.

        Raises EdgespecError when it is another recipe's or was written by another number of processes.
        """
        for folder in reversed(self._folders()):
            try:
                document = json.loads((folder / STATE).read_text(encoding="utf-8"))
                problem = _damage(folder, document["files"])
                state = TrainState(**document["state"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                problem = f"its {STATE} cannot be read ({error})"
            if problem:
                self._progress.say(f"'{folder}' is passed over: {problem}")
                continue
            self._require_same(folder, document)
            return folder, state
        return None

    def require_room(self, parameters: int) -> None:
        """Refuse to begin on a disk too small for the checkpoints: 12 bytes a parameter (f32 weights, two moments)."""
        self._folder.mkdir(parents=True, exist_ok=True)
        missing = max(1, self._keep + 1 - len(self._folders()))
        require_disk(self._folder, missing * parameters * 12)

    def load(self, folder: Path) -> None:
        """Put weights, optimizer and random states of `folder` into what the accelerator prepared."""
        self._accelerator.load_state(str(folder))

    def save(self, state: TrainState) -> Path:
        """Write a checkpoint, drop the oldest; every process calls it. Raises EdgespecError if it cannot be written."""
        final = self._folder / f"step-{state.step:08d}"
        partial = self._folder / f"{_PARTIAL}{final.name}"
        main = self._accelerator.is_main_process
        try:
            if main:
                self._folder.mkdir(parents=True, exist_ok=True)
                for leftover in self._folder.glob(f"{_PARTIAL}*"):
                    shutil.rmtree(leftover)
                partial.mkdir()
            self._accelerator.wait_for_everyone()
            # not safetensors: accelerate's way there drops a tied head, which cannot be loaded strictly again
            self._accelerator.save_state(str(partial), safe_serialization=False)
            self._accelerator.wait_for_everyone()
            if main:
                self._seal(partial, state)
                remove_folder(final)
                replace(partial, final)
        except (OSError, RuntimeError) as error:  # torch.save turns a full disk into a RuntimeError
            shutil.rmtree(partial, ignore_errors=True)
            raise self._sentence(error, state.step) from error
        if main:
            for old in self._folders()[: -self._keep]:
                remove_folder(old, patience_s=0)
        self._accelerator.wait_for_everyone()
        return final

    def _seal(self, partial: Path, state: TrainState) -> None:
        files = {}
        for path in sorted(path for path in partial.rglob("*") if path.is_file()):
            with path.open("r+b") as file:
                os.fsync(file.fileno())
            files[path.relative_to(partial).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        document = {
            "recipe": self._recipe,
            "processes": self._accelerator.num_processes,
            "state": vars(state),
            "files": files,
        }
        with (partial / STATE).open("w", encoding="utf-8", newline="\n") as file:
            json.dump(document, file, indent=1)
            file.flush()
            os.fsync(file.fileno())

    def _folders(self) -> list[Path]:
        return sorted(self._folder.glob("step-*")) if self._folder.is_dir() else []

    def _require_same(self, folder: Path, document: Mapping[str, Any]) -> None:
        differences = recipe_differences(document["recipe"], self._recipe)
        if differences:
            raise EdgespecError(
                f"'{folder}' is a checkpoint of another run: {'; '.join(differences)}; "
                "give the options it was made with, or another output directory"
            )
        if document["processes"] != self._accelerator.num_processes:
            raise EdgespecError(
                f"'{folder}' was written by {document['processes']} processes and this run has "
                f"{self._accelerator.num_processes}; start it with as many as before"
            )

    def _sentence(self, error: Exception, step: int) -> EdgespecError:
        kept = self._folders()
        rest = (
            f"the last whole checkpoint is '{kept[-1].name}'; run the same command again to go on from there"
            if kept
            else "there is no earlier one"
        )
        free = shutil.disk_usage(self._folder).free if self._folder.is_dir() else 0
        full = (isinstance(error, OSError) and error.errno == errno.ENOSPC) or "failed writing" in str(error)
        why = f"the disk is full ({free / 1e9:.2f} GB free)" if full else str(error)
        return EdgespecError(f"the checkpoint of step {step} could not be written to '{self._folder}': {why}; {rest}")


def recipe_differences(made: Mapping[str, Any], wanted: Mapping[str, Any], at: str = "") -> list[str]:
    """One part of a sentence for each key that differs, nested keys with dots."""
    found = []
    for key in sorted(made.keys() | wanted.keys()):
        one, other = made.get(key), wanted.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            found += recipe_differences(one, other, f"{at}{key}.")
        elif one != other:
            found.append(f"{at}{key} was {json.dumps(one)} and is now {json.dumps(other)}")
    return found


def _damage(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> str:
    for name, record in files.items():
        path = folder / name
        if not path.is_file():
            return f"'{name}' is missing"
        if path.stat().st_size != record["bytes"]:
            return f"'{name}' has {path.stat().st_size} bytes instead of {record['bytes']}"
        if sha256_of(path) != record["sha256"]:
            return f"'{name}' is not what was written"
    return ""
