"""Freely licensed Python source for training: gathered, cleaned, de-duplicated, split by content.

The corpus is what any installation already holds: the running interpreter's standard library (PSF licence) and
packages pinned in constraints.txt whose licences allow it. Nothing is downloaded. A file is a document; whether it is
held out is decided by the hash of its text, so the split does not depend on where or in which order files were found.
"""

from __future__ import annotations

import hashlib
import importlib.util
import random
import re
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgespec.errors import EdgespecError

WINDOW_LINES = 4
"""Lines in a window: two texts that share one are taken to share content."""

_LICENCE = re.compile(r"licen[sc]e|copyright|all rights reserved", re.IGNORECASE)
_SKIPPED_PARTS = {
    "test", "tests", "testing", "idle_test", "__pycache__", "site-packages", "lib2to3", "turtledemo", "_vendor",
    "deprecated", "third_party",
}  # fmt: skip


@dataclass(frozen=True)
class Document:
    """One source file: `name` as package-relative path, cleaned `text`, and the sha256 of that text."""

    name: str
    text: str
    sha256: str


@dataclass(frozen=True)
class Corpus:
    """Training and held-out documents, and what was left out (reason -> files)."""

    train: list[Document]
    heldout: list[Document]
    dropped: dict[str, int]

    def characters(self) -> int:
        return sum(len(document.text) for document in self.train)


def source_roots(packages: Iterable[str]) -> dict[str, Path]:
    """Folder of each source: `stdlib` for the running interpreter's library, else an importable package's folder.

    Raises EdgespecError when a package is not installed: a corpus silently smaller than its recipe is another corpus.
    """
    roots: dict[str, Path] = {}
    for package in packages:
        if package == "stdlib":
            roots[package] = Path(sysconfig.get_paths()["stdlib"])
            continue
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise EdgespecError(
                f"the recipe's corpus needs the package '{package}', which is not installed here; "
                'install edgespec with its training extra: pip install -c constraints.txt -e ".[all]"'
            )
        roots[package] = Path(next(iter(spec.submodule_search_locations)))
    return roots


def gather(packages: Mapping[str, int], heldout_share: float, seed: int) -> Corpus:
    """Read every Python file below the named sources; clean, de-duplicate and split them.

    `packages` maps a source to the most characters of training text taken from it.

    A document half of whose line windows were seen before is dropped (generated model files repeat one another), and
    so is a held-out document of which more than a twentieth stands in the training text.
    """
    documents: list[Document] = []
    dropped: dict[str, int] = {}

    def drop(reason: str) -> None:
        dropped[reason] = dropped.get(reason, 0) + 1

    for package, root in source_roots(packages).items():
        for path in sorted(root.rglob("*.py")):
            relative = path.relative_to(root)
            if _SKIPPED_PARTS & set(relative.parts[:-1]):
                continue
            try:
                text = clean(path.read_text(encoding="utf-8"))
            except (UnicodeDecodeError, OSError):
                drop("unreadable")
                continue
            reason = _unfit(text)
            if reason:
                drop(reason)
                continue
            digest = hashlib.sha256(text.encode()).hexdigest()
            documents.append(Document(f"{package}/{relative.as_posix()}", text, digest))

    random.Random(seed).shuffle(documents)
    seen: set[bytes] = set()
    train: list[Document] = []
    candidates: list[Document] = []
    room = dict(packages)
    for document in documents:
        if int(document.sha256[:8], 16) / 0xFFFFFFFF < heldout_share:
            candidates.append(document)
            continue
        windows = line_windows(document.text)
        if len(windows & seen) > len(windows) / 2:
            drop("repeats other files")
            continue
        package = document.name.split("/")[0]
        if room[package] < len(document.text):
            drop("over its source's share")
            continue
        room[package] -= len(document.text)
        seen |= windows
        train.append(document)

    heldout: list[Document] = []
    for document in candidates:
        windows = line_windows(document.text)
        if len(windows & seen) > len(windows) / 20:
            drop("held out, but partly in the training text")
        else:
            heldout.append(document)
    return Corpus(train, heldout, dropped)


def clean(text: str) -> str:
    """The text without a leading licence block, trailing blanks and runs of empty lines; tabs become four spaces."""
    lines = [line.rstrip().replace("\t", "    ") for line in text.replace("\r\n", "\n").split("\n")]
    start = 0
    while start < len(lines) and (not lines[start] or lines[start].startswith("#")):
        start += 1
    if _LICENCE.search("\n".join(lines[:start])):
        lines = lines[start:]
    return re.sub(r"\n{4,}", "\n\n\n", "\n".join(lines)).strip("\n") + "\n"


def _unfit(text: str) -> str | None:
    if len(text) < 400:
        return "too short"
    if len(text) > 120_000:
        return "too long"
    lines = text.split("\n")
    if max(map(len, lines)) > 400 or len(text) / len(lines) > 90:
        return "data tables"
    if sum(character > "\x7f" for character in text) > len(text) / 100:
        return "not mostly ASCII"
    return None


def line_windows(text: str) -> set[bytes]:
    """Hashes of every run of `WINDOW_LINES` non-empty lines, white space folded: the unit of the overlap tests."""
    lines = [" ".join(line.split()) for line in text.split("\n")]
    lines = [line for line in lines if len(line) > 3]
    return set(_hashes(lines))


def _hashes(lines: list[str]) -> Iterator[bytes]:
    for index in range(max(1, len(lines) - WINDOW_LINES + 1)):
        yield hashlib.blake2b("\n".join(lines[index : index + WINDOW_LINES]).encode(), digest_size=8).digest()
