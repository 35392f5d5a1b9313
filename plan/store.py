"""Twins as OpenVINO models on disk: each built once, through export and compression, and kept in a bounded cache.

Built layer by layer: the checkpoint is written a block of rows at a time, the export maps it instead of loading it, and
compression goes matrix by matrix (export/, quantize/), so memory stays near one gigabyte whatever the size. Disk is
what it takes: the checkpoint and the IR made of it lie beside each other for a while, four bytes a weight.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edgespec.errors import EdgespecError
from edgespec.pair import Pair, Role, read_manifest, write_manifest
from edgespec.progress import SILENT, Progress
from edgespec.resources import require_disk, require_memory
from edgespec.staging import PARTIAL_MARK, remove_abandoned, staged_directory
from edgespec.twins import label_sources

from .layout import Layout, read_layout
from .twin import make_twin
from .walks import ALPHAS, SEED

VERSION = 1
"""Of what a twin of given arguments is: raise it when weights or maps change, and cached ones are built anew."""
LIMIT_BYTES = 24_000_000_000
"""What the cache keeps unless told otherwise: an 8 B target in int4 has 4.7 GB."""
UNCOMPRESSED = ("none", "fp16")
_BUILD_MEMORY_BYTES = 1_300_000_000
"""Export and compression of a model of any size (LOG.md, 2026-11-28: 1.02 GB for 8 B), with a little to spare."""


class Export(Protocol):
    def __call__(self, target: Path, draft: None, out: Path, *, progress: Progress) -> Pair: ...


class Quantize(Protocol):
    def __call__(self, pair_dir: Path, out: Path, *, target: str, device: str, progress: Progress) -> Any: ...


@dataclass(frozen=True)
class Makers:
    """What other stages do for this one; the command hands it in."""

    export: Export
    quantize: Quantize


@dataclass(frozen=True)
class TwinSpec:
    """One twin. config: of its shape. vocab: tokens, the target's. precision: a format of `edgespec quantize`, or
    fp16. device: whose kind of compression it gets (cpu, gpu, npu)."""

    role: Role
    name: str
    config: Mapping[str, Any] = field(repr=False)
    vocab: int
    precision: str
    device: str = "cpu"
    alphas: Sequence[float] = ALPHAS
    seed: int = SEED

    @property
    def layout(self) -> Layout:
        return read_layout({**self.config, "vocab_size": self.vocab}, self.name)

    @property
    def folder_name(self) -> str:
        """Its name in the cache: shape, precision, and a hash of all that its files depend on."""
        facts: list[Any] = [VERSION, self.role, self.config, self.vocab, self.precision, self.device, self.seed]
        facts += [list(self.alphas)] if self.role == "draft" else []
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=dict).encode()).hexdigest()[:12]
        safe = "".join(character if character.isalnum() or character in ".-" else "-" for character in self.name)
        return f"{safe}-{self.precision}-{digest}"

    @property
    def bytes(self) -> int:
        """About what it takes on disk: embedding and head keep 8 bits in a 4-bit format, groups of 128 their scales."""
        layout = self.layout
        ends = layout.vocab * layout.hidden * (1 if layout.tied else 2)
        if self.precision in UNCOMPRESSED:
            return 2 * layout.parameters + 50 * layout.vocab
        inner = 0.52 if "4" in self.precision else 1.02
        return round((layout.parameters - ends) * inner + 1.02 * ends) + 50 * layout.vocab

    @property
    def building_bytes(self) -> int:
        """Disk that building takes at most: the checkpoint beside its IR."""
        return 4 * self.layout.parameters + self.bytes


@dataclass(frozen=True)
class TwinPair(Pair):
    """A target and a draft that lie in the cache apart, so that one target serves many drafts."""

    draft_root: Path | None = None

    @property
    def draft(self) -> Path | None:
        return self.draft_root / "target" if self.draft_root else None


class Store:
    """Twins by spec in one folder. What was used longest ago goes when it grows past `limit_bytes`."""

    def __init__(self, folder: Path, limit_bytes: int = LIMIT_BYTES) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes

    def has(self, spec: TwinSpec) -> bool:
        try:
            Pair.open(self.folder / spec.folder_name, verify=False)
        except EdgespecError:
            return False
        return True

    @property
    def bytes(self) -> int:
        """What the twins that are kept take."""
        return sum(_bytes_of(entry) for entry in self._entries())

    def require_room(self, specs: Sequence[TwinSpec]) -> None:
        """Refuse what disk or memory has no room for, before anything is written; not even the cache folder is."""
        missing = [spec for spec in specs if not self.has(spec)]
        if not missing:
            return
        kept = sum(spec.bytes for spec in specs)
        if kept > self.limit_bytes:
            raise EdgespecError(
                f"the twins of this plan take about {kept / 1e9:.1f} GB and the cache keeps at most "
                f"{self.limit_bytes / 1e9:.1f} GB; raise --cache-limit, or plan a smaller target"
            )
        largest = max(missing, key=lambda spec: spec.building_bytes)
        need = largest.building_bytes + sum(spec.bytes for spec in missing if spec is not largest)
        place = next(folder for folder in (self.folder, *self.folder.parents) if folder.is_dir())
        require_disk(place, need)
        require_memory(_BUILD_MEMORY_BYTES, f"building the twin of '{largest.name}'")

    def get(self, spec: TwinSpec, makers: Makers, progress: Progress = SILENT) -> Path:
        """The twin's directory, a pair that has a target alone; built when it is not there."""
        root = self.folder / spec.folder_name
        if not self.has(spec):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._sweep(progress)
            if root.exists():
                shutil.rmtree(root)
            with staged_directory(root, spec.building_bytes, progress) as staged:
                self._build(spec, staged, makers, progress)
        os.utime(root)  # used now
        return root

    def pair(self, target: Path, draft: Path) -> TwinPair:
        """A cached target with a cached draft."""
        manifest = read_manifest(target).model_copy(update={"draft": read_manifest(draft).target})
        return TwinPair(target, manifest, draft)

    def trim(self, keep: Sequence[TwinSpec], progress: Progress = SILENT) -> None:
        """Delete what was used longest ago, never `keep`, until the cache is within its limit."""
        names = {spec.folder_name for spec in keep}
        entries = sorted(self._entries(), key=lambda entry: entry.stat().st_mtime)
        total = sum(_bytes_of(entry) for entry in entries)
        for entry in entries:
            if total <= self.limit_bytes:
                return
            if entry.name not in names:
                size = _bytes_of(entry)
                Pair(entry, read_manifest(entry)).delete()
                total -= size
                progress.say(
                    f"removed the twin '{entry.name}' ({size / 1e9:.2f} GB) to keep the cache within its limit"
                )

    def _build(self, spec: TwinSpec, staged: Path, makers: Makers, progress: Progress) -> None:
        checkpoint, exported, made = (staged / name for name in ("checkpoint", "exported", "made"))
        make_twin(
            spec.config,
            spec.role,
            spec.alphas,
            checkpoint,
            vocab=spec.vocab,
            seed=spec.seed,
            name=spec.name,
            progress=progress,
        )
        label_sources(makers.export(checkpoint, None, exported, progress=progress))
        _remove(checkpoint)
        if spec.precision in UNCOMPRESSED:
            made = exported
        else:
            makers.quantize(exported, made, target=spec.precision, device=spec.device, progress=progress)
            _remove(exported)
        manifest = read_manifest(made)
        (made / "target").replace(staged / "target")
        shutil.rmtree(made)
        write_manifest(staged, manifest)

    def _entries(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return [entry for entry in self.folder.iterdir() if (entry / "edgespec.json").is_file()]

    def _sweep(self, progress: Progress) -> None:
        """Remove what builds that were killed left, of any twin."""
        for entry in list(self.folder.iterdir()):
            name, mark, _ = entry.name.partition(PARTIAL_MARK)
            if mark and name.startswith("."):
                remove_abandoned(self.folder / name[1:], progress)


def _remove(folder: Path) -> None:
    """Files that an object still maps cannot be deleted on Windows."""
    gc.collect()
    shutil.rmtree(folder)


def _bytes_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
