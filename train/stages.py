"""Stages: each makes one folder from what went into it, and is skipped when that very thing is there already.

A finished stage's folder has a stage.json: the stage, the hash of everything that went into it, what came out. An
upstream folder counts by what made it, a foreign one (a checkpoint, a file of prompts) by its content; nothing counts
by where it lies. A folder that is no stage of this recipe is never touched.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edgespec.errors import EdgespecError
from edgespec.progress import SILENT, Progress
from edgespec.staging import staged_directory, write_atomically

STAMP = "stage.json"
MAKING = "making.json"
"""In a folder that is being made in place: the inputs it is made from, until the stamp stands."""
_WHOLE_BYTES = 64 << 20
_SAMPLE_BYTES = 1 << 20


@dataclass(frozen=True)
class Stage:
    """name: its folder below the work folder. inputs: sections, numbers, folders: whatever decides the result.

    make: fills a folder and returns facts for the stamp. in_place: the folder stays when the stage is stopped or
    killed, and `make` goes on from what it finds there; else it appears whole.
    """

    name: str
    inputs: Sequence[Any]
    make: Callable[[Path], Mapping[str, Any]]
    in_place: bool = False


def run_stage(work: Path, stage: Stage, progress: Progress = SILENT) -> Path:
    """The stage's folder, made unless it stands there already.

    Raises EdgespecError for a folder that was made from other inputs or is no stage, and whatever `make` raises.
    """
    folder, key = work / stage.name, inputs_hash(stage.inputs)
    if (folder / STAMP).is_file():
        if _read(folder / STAMP)["inputs"] == key:
            progress.say(f"{stage.name}: made already, kept")
            return folder
        raise EdgespecError(
            f"'{folder}' was made from another recipe or other inputs; delete it or choose another work folder"
        )
    started = time.perf_counter()
    if not stage.in_place:
        _require_free(folder)
        with staged_directory(folder, progress=progress) as building:
            _stamp(building, stage, key, stage.make(building), started)
        return folder
    if (folder / MAKING).is_file():
        if _read(folder / MAKING)["inputs"] != key:
            raise EdgespecError(
                f"'{folder}' was begun from another recipe or other inputs; delete it or choose another work folder"
            )
    else:
        _require_free(folder)
        folder.mkdir(parents=True)
        write_atomically(folder / MAKING, json.dumps({"stage": stage.name, "inputs": key}) + "\n")
    _stamp(folder, stage, key, stage.make(folder), started)
    (folder / MAKING).unlink()
    return folder


def which_are_made(work: Path, stages: Iterable[Stage]) -> list[tuple[str, bool]]:
    """(name, whether it would be skipped) of stages in order. One whose upstream would be made anew is not skipped,
    whatever lies there now."""
    keys: dict[Path, str] = {}
    found = []
    for stage in stages:
        folder = work / stage.name
        keys[folder] = inputs_hash(stage.inputs, keys)
        stamp = folder / STAMP
        found.append((stage.name, stamp.is_file() and _read(stamp)["inputs"] == keys[folder]))
    return found


def stage_facts(folder: Path) -> dict[str, Any]:
    """What a finished stage recorded of itself."""
    facts = _read(folder / STAMP)["facts"]
    assert isinstance(facts, dict)
    return facts


def inputs_hash(inputs: Sequence[Any], keys: Mapping[Path, str] | None = None) -> str:
    """Of everything that decides a stage's result. keys: of stages' folders by path, instead of what lies there."""
    found = [_identity(item, keys or {}) for item in inputs]
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def fingerprint(path: Path) -> str:
    """sha256 of a file's or folder's content, names below it included. Files above 64 MB count by their size and a
    megabyte out of every 64, head and tail among them: a checkpoint of another training differs everywhere."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.is_file())
    for file in files:
        name = file.name if file == path else file.relative_to(path).as_posix()
        size = file.stat().st_size
        digest.update(f"{name}\0{size}\0".encode())
        with file.open("rb") as content:
            if size <= _WHOLE_BYTES:
                digest.update(content.read())
                continue
            for start in [*range(0, size, _WHOLE_BYTES), size - _SAMPLE_BYTES]:
                content.seek(start)
                digest.update(content.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def _identity(item: Any, keys: Mapping[Path, str]) -> Any:
    if isinstance(item, BaseModel):
        return item.model_dump()
    if isinstance(item, Path):
        if item in keys:
            return keys[item]
        return _read(item / STAMP)["inputs"] if (item / STAMP).is_file() else fingerprint(item)
    if isinstance(item, (list, tuple)):
        return [_identity(part, keys) for part in item]
    return item


def _stamp(folder: Path, stage: Stage, key: str, facts: Mapping[str, Any], started: float) -> None:
    whole = {"seconds": time.perf_counter() - started, **facts}
    content = {"stage": stage.name, "inputs": key, "facts": whole}
    write_atomically(folder / STAMP, json.dumps(content, indent=2) + "\n")


def _require_free(folder: Path) -> None:
    if folder.exists():
        raise EdgespecError(f"'{folder}' exists and is no stage of a recipe; choose another work folder with --out")


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    except (OSError, ValueError) as error:
        raise EdgespecError(f"'{path}' cannot be read ({error}); delete its folder and run again") from error
