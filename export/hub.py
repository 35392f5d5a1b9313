"""A checkpoint on the Hugging Face hub: its small files first, its weights once nothing speaks against it.

Everything is read at one commit, so that what is checked is what is exported (optimum-intel itself reads the tokenizer
at the default branch whatever revision it is given). Offline, what the cache holds is used.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgespec.errors import EdgespecError
from edgespec.pair import Source
from edgespec.progress import SILENT, Progress, Task
from edgespec.resources import DiskNeed, require_disk
from edgespec.training_index import INDEX_FILE

_TIMEOUT_S = 10
_SMALL = (".json", ".model", ".txt", ".jinja", ".tiktoken")
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")
READY = (".bin", ".xml")
"""The large files of a model that is OpenVINO's already."""
_GRAPH = "openvino_model.xml"  # small beside its weights, and says what the model is
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


@dataclass(frozen=True)
class Found:
    """A repository at one commit. weight_sizes: bytes of each large file, fetched or not; None when the hub was not
    asked and what the cache has must do. absent: those of them whose bytes are not in the cache yet."""

    folder: Path
    commit: str | None
    weight_sizes: dict[str, int] | None
    absent: Mapping[str, int] = field(default_factory=dict)


def is_id(name: str) -> bool:
    """Whether `name` can be a hub id."""
    return _HUB_ID.fullmatch(name) is not None


def find(name: str, revision: str | None, with_code: bool, weights: tuple[str, ...] = _WEIGHTS) -> Found:
    """Fetch the configuration and tokenizer of hub id `name`; with_code: its Python files too. weights: the endings of
    the files that are only listed.

    Raises EdgespecError when it is unknown, gated, or unreachable and not in the cache; one request, no retries.
    """
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        info = HfApi().model_info(name, revision=revision, files_metadata=True, timeout=_TIMEOUT_S)
    except GatedRepoError as error:
        raise EdgespecError(
            f"'{name}' is gated: accept its terms on its page, then log in with: hf auth login"
        ) from error
    except RepositoryNotFoundError as error:
        raise EdgespecError(
            f"there is no directory '{name}' and no model of that name on the Hugging Face hub; check the spelling, or "
            "log in with: hf auth login (if it is private)"
        ) from error
    except RevisionNotFoundError as error:
        raise EdgespecError(f"'{name}' has no revision '{revision}' on the Hugging Face hub; check it") from error
    except HFValidationError as error:
        raise EdgespecError(
            f"there is no directory '{name}', and that is no hub id either; check the spelling"
        ) from error
    except OfflineModeIsEnabled:
        return _cached(name, revision, "HF_HUB_OFFLINE is set")
    except (httpx.HTTPError, OSError) as error:
        return _cached(name, revision, f"the hub could not be reached ({type(error).__name__})")
    files = {file.rfilename: file.size or 0 for file in info.siblings or [] if "/" not in file.rfilename}
    suffixes = (*_SMALL, ".py") if with_code else _SMALL
    small = [file for file in files if file.endswith(suffixes) or file in (INDEX_FILE, _GRAPH)]
    folder = _download(name, info.sha, small)
    sizes = {file: size for file, size in files.items() if file.endswith(weights)}
    blobs = {file.rfilename: _blob(folder, file) for file in info.siblings or [] if file.rfilename in sizes}
    absent = {file: size for file, size in sizes.items() if not (folder / file).is_file() and not blobs[file].is_file()}
    return Found(folder, info.sha, sizes, absent)


def fetch(
    name: str,
    source: Source,
    folder: Path,
    files: Iterable[str],
    absent: Mapping[str, int],
    progress: Progress = SILENT,
) -> None:
    """Bring `files` into the snapshot `folder`. absent: bytes of those that are not in the cache under any commit.
    After an interruption a file that had come whole is not fetched again, one that had come in part is
    (huggingface_hub 1.21 keeps no part).

    Raises EdgespecError when the cache's disk is too small or the hub is lost on the way.
    """
    missing = [file for file in files if not (folder / file).is_file()]
    need = sum(absent.get(file, 0) for file in missing)
    require_disk(folder, need)
    with progress.task(f"fetching '{name}', {need / 1e9:.1f} GB", need) as task:
        _download(source.id, source.revision, missing, task)


def disk_need(name: str, folder: Path, absent: Mapping[str, int]) -> DiskNeed:
    """What fetching will put on the cache's disk."""
    return DiskNeed(folder, sum(absent.values()), f"what is still to be fetched of '{name}'")


def _blob(folder: Path, file: Any) -> Path:
    """Where the cache keeps the content of a file of the repository whose snapshot is `folder`, whichever commit
    brought it: blobs/<sha256 of a large file, git's hash of a small one>."""
    large = getattr(file, "lfs", None)
    name = getattr(large, "sha256", None) or getattr(file, "blob_id", None) or "unknown"
    return folder.parents[1] / "blobs" / name


def _download(name: str, commit: str | None, files: list[str], task: Task | None = None) -> Path:
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        bar = None if task is None else _bar_of(task)
        return Path(snapshot_download(name, revision=commit, allow_patterns=files, tqdm_class=bar))
    except (httpx.HTTPError, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise EdgespecError(
            f"fetching '{name}' from the Hugging Face hub stopped ({type(error).__name__}); run the command again: "
            "files that came whole are not fetched anew"
        ) from error
    finally:
        if shown:
            enable_progress_bars()


def _bar_of(task: Task) -> type[Any]:
    """A class that huggingface_hub takes for tqdm: it shows nothing, and tells `task` of every byte that came."""
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self._counts_bytes = options.get("unit") == "B"  # the other bar counts files
            super().__init__(*arguments, **(options | {"disable": True}))

        def update(self, n: float | None = 1) -> None:
            if self._counts_bytes:
                task.advance(n or 0)

    return Bar


def _cached(name: str, revision: str | None, why: str) -> Found:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError as error:
        raise EdgespecError(
            f"there is no directory '{name}', {why}, and the hub's cache on this machine does not hold "
            f"{'that revision' if revision else 'it'}; check the path, or fetch it while online"
        ) from error
    return Found(folder, folder.name, None)
