"""Prompt suites of others: fetched once, at a pinned commit with a pinned hash, into the user's cache; never vendored.

A download goes to a file of its own beside its destination, is resumed after an interruption, and gets its name only
once its sha256 is the pinned one. It is checked again whenever it is read.
"""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgespec.cache import cache_folder
from edgespec.errors import EdgespecError
from edgespec.hashing import sha256_of
from edgespec.progress import SILENT, Progress, Task
from edgespec.resources import require_disk

from .suite import Suite, parse

_TIMEOUT_S = 20
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Download:
    """One JSONL file somewhere else. `bytes` and `sha256` are of the file at `url`; `licence` is a sentence."""

    description: str
    url: str
    bytes: int
    sha256: str
    licence: str


_SPEC_BENCH_COMMIT = "fd2c1cd7d2201ef71db4c5f4e455008f017967bf"

DOWNLOADS = {
    "spec-bench": Download(
        description="Spec-Bench (Xia et al. 2024, arXiv:2401.07851): 480 questions of 13 categories.",
        url=f"https://raw.githubusercontent.com/hemingkx/Spec-Bench/{_SPEC_BENCH_COMMIT}/data/spec_bench/question.jsonl",
        bytes=698_768,
        sha256="4b6d33e79484f9841c487ee87d1cf6aa8c6066f61d5d482ff09e5a007fafdf04",
        licence="Spec-Bench is published under Apache-2.0. Its questions are taken from MT-Bench, WMT14 DE-EN, "
        "CNN/Daily Mail, Natural Questions, GSM8K and a Wikipedia passage set, whose own terms apply to them.",
    )
}


def stored_at(name: str) -> Path:
    """Where the download `name` lies once it was fetched."""
    return cache_folder() / "prompts" / f"{name}.jsonl"


def is_fetched(name: str) -> bool:
    """Whether it lies there; reading it checks it."""
    return stored_at(name).is_file()


def fetch(name: str, progress: Progress = SILENT) -> Path:
    """Fetch the download `name`, a key of DOWNLOADS, and return its path; one that is there and whole is kept.

    The licence is said first. Raises EdgespecError when the server cannot be reached (what arrived is kept, and the
    next call goes on from there) or sends something else than what was pinned (nothing is kept).
    """
    if name not in DOWNLOADS:
        raise EdgespecError(f"there is nothing to fetch under the name '{name}'; choose {', '.join(DOWNLOADS)}")
    wanted, path = DOWNLOADS[name], stored_at(name)
    progress.say(wanted.licence)
    if path.is_file() and sha256_of(path) == wanted.sha256:
        progress.say(f"{name} is here already: {path}")
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    require_disk(path.parent, wanted.bytes)
    part = path.with_name(f"{path.name}.part")
    with progress.task(f"fetching {name}, {wanted.bytes / 1e6:.1f} MB, from {wanted.url}", wanted.bytes) as task:
        resumed = _receive(wanted, part, path, task)
        if resumed and sha256_of(part) != wanted.sha256:  # the first half was of something else: once more, whole
            part.unlink()
            _receive(wanted, part, path, task)
    found = sha256_of(part)
    if found != wanted.sha256:
        part.unlink()
        raise EdgespecError(
            f"'{wanted.url}' sent something else than what was pinned (sha256 {found}, expected {wanted.sha256}); "
            "nothing was kept"
        )
    part.replace(path)
    return path


def downloaded_suite(name: str) -> Suite:
    """The suite `name` out of the cache. Raises EdgespecError when it was not fetched or was altered."""
    path, wanted = stored_at(name), DOWNLOADS[name]
    if not path.is_file():
        raise EdgespecError(
            f"the prompts '{name}' are not on this machine; fetch them with: edgespec prompts fetch {name}"
        )
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != wanted.sha256:
        raise EdgespecError(
            f"'{path}' is not what was pinned as '{name}' (its sha256 differs); fetch it again with: edgespec prompts "
            f"fetch {name}"
        )
    return Suite(name, parse(content.decode("utf-8"), path.name))


def _receive(wanted: Download, part: Path, path: Path, task: Task) -> bool:
    """Bring `part` to its full length; whether some of it was there before."""
    have = part.stat().st_size if part.is_file() else 0
    if have >= wanted.bytes:
        part.unlink()
        have = 0
    headers = {"User-Agent": "edgespec"} | ({"Range": f"bytes={have}-"} if have else {})
    with _network(wanted, path):
        response = urllib.request.urlopen(urllib.request.Request(wanted.url, headers=headers), timeout=_TIMEOUT_S)
    with response:
        resumed = bool(response.status == 206 and have)
        size = have if resumed else 0
        task.advance(size)
        with part.open("ab" if resumed else "wb") as file:
            while size <= wanted.bytes:  # one block too many tells of a longer file; no server fills the disk
                with _network(wanted, path):
                    block = response.read(_BLOCK)
                if not block:
                    break
                file.write(block)
                size += len(block)
                task.advance(len(block))
    if size < wanted.bytes:
        raise EdgespecError(
            f"'{wanted.url}' stopped after {size:,} of {wanted.bytes:,} bytes; run the command again, it resumes"
        )
    return resumed


@contextmanager
def _network(wanted: Download, path: Path) -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as error:
        raise EdgespecError(f"'{wanted.url}' answered {error.code} {error.reason}; try again later") from error
    except (http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise EdgespecError(
            f"'{wanted.url}' could not be reached ({reason}); run the command again when online, it resumes, or bring "
            f"the file from there to '{path}' yourself"
        ) from error
