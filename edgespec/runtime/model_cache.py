"""Compiled models on disk, so that the next start is faster: OpenVINO's own cache in one folder, shown and bounded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..cache import cache_folder

DEFAULT = "default"
LIMIT_BYTES = 8_000_000_000


@dataclass(frozen=True)
class ModelCache:
    """A folder of blobs. limit_bytes: `prune` deletes those used longest ago until the rest is no larger."""

    folder: Path
    limit_bytes: int = LIMIT_BYTES

    @classmethod
    def at(cls, where: str | Path | None, limit_bytes: int = LIMIT_BYTES) -> ModelCache | None:
        """DEFAULT: in the user's cache folder; None: no cache."""
        if where is None:
            return None
        return cls(cache_folder() / "models" if where == DEFAULT else Path(where), limit_bytes)

    @property
    def size_bytes(self) -> int:
        return sum(size for _, size, _ in self._blobs())

    def prune(self) -> int:
        """Bytes that were freed. A blob that another program holds open stays."""
        blobs = sorted(self._blobs(), key=lambda blob: blob[2])
        total, freed = sum(size for _, size, _ in blobs), 0
        for path, size, _ in blobs[:-1]:  # the one used last is this start's: deleting it would serve nobody
            if total - freed <= self.limit_bytes:
                break
            try:
                path.unlink()
            except OSError:
                continue
            freed += size
        return freed

    def _blobs(self) -> Iterator[tuple[Path, int, float]]:
        """(path, bytes, when it was last written or read)."""
        for path in self.folder.glob("*.blob") if self.folder.is_dir() else ():
            with suppress(OSError):  # deleted meanwhile
                found = path.stat()
                yield path, found.st_size, max(found.st_mtime, found.st_atime)

    def sentence(self) -> str:
        return (
            f"compiled models are kept in '{self.folder}': {self.size_bytes / 1e6:,.0f} MB of at most "
            f"{self.limit_bytes / 1e6:,.0f} MB"
        )
