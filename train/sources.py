"""Where training text comes from: a hub id, parquet, jsonl, text files, a folder of source code. Streamed, in an order
that a seed decides, for ever, and from any position on.

A source is a function of (seed, position). Files that are documents are permuted whole. Tables come through `datasets`
as streams: their shards (files) are permuted, and within one the documents of a block are. A position names the block
and the place in it, so going on reads one block again and nothing else; `datasets`' own shuffle buffer would lose what
it holds.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgespec.errors import EdgespecError

from .batches import Position

BLOCK = 4096
"""Documents that are read, and permuted, together."""
MOST_BYTES = 64 << 20
"""A larger text file is refused: a document is read and tokenized in one piece."""

SOURCE_SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        *(
            "c",
            "cc",
            "cpp",
            "cs",
            "cu",
            "css",
            "go",
            "h",
            "hpp",
            "html",
            "java",
            "jl",
            "js",
            "json",
            "jsx",
            "kt",
            "lua",
        ),
        *("m", "md", "php", "pl", "py", "pyi", "r", "rb", "rs", "rst", "scala", "sh", "sql", "swift", "tex", "toml"),
        *("ts", "tsx", "txt", "vue", "yaml", "yml", "zig"),
    )
)
_TABLES = {"parquet": (".parquet",), "json": (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson")}
_NEVER = {"node_modules", "__pycache__", "site-packages", "venv"}
_KEYS = ("weight", "field", "subset", "split", "suffix")


class Source(Protocol):
    @property
    def name(self) -> str: ...

    def documents(self, seed: int, position: Position = None) -> Iterator[tuple[str, Position]]:
        """(text, position behind it), pass after pass. Raises EdgespecError when a pass has no text at all."""
        ...

    def passes(self, position: Position) -> int:
        """Whole passes before the one that the document in front of `position` belongs to."""
        ...

    def identity(self) -> str | None:
        """Changes when files come, go or change their size, which would give positions another meaning; None where
        that cannot be told."""
        ...


@dataclass(frozen=True)
class SourceSpec:
    """A source as it is asked for. weight: its share of the tokens, relative to the others'. field: a table's column.
    subset, split: of a hub dataset. suffix: of the files of a folder that are wanted (all known kinds when None)."""

    location: str
    weight: float = 1.0
    field: str = "text"
    subset: str | None = None
    split: str = "train"
    suffix: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.weight < float("inf"):
            raise EdgespecError(f"the weight of the source '{self.location}' is {self.weight}; it must be above 0")

    @classmethod
    def parse(cls, text: str) -> SourceSpec:
        """`LOCATION[,key=value...]`, as in `HuggingFaceFW/fineweb-edu,subset=sample-10BT,weight=2`."""
        location, *options = text.split(",")
        while options and options[0].partition("=")[0].strip() not in _KEYS:  # a comma of the path's own
            if "=" in options[0]:
                key = options[0].partition("=")[0].strip()
                raise EdgespecError(f"the source '{text}' has an unknown key '{key}'; known are {', '.join(_KEYS)}")
            location += "," + options.pop(0)
        values: dict[str, Any] = {}
        for option in options:
            key, _, value = option.partition("=")
            if key.strip() not in _KEYS:
                raise EdgespecError(f"the source '{text}' has an unknown key '{key}'; known are {', '.join(_KEYS)}")
            values[key.strip()] = value.strip()
        try:
            values |= {"weight": float(values["weight"])} if "weight" in values else {}
        except ValueError:
            raise EdgespecError(f"the weight of the source '{text}' is no number: '{values['weight']}'") from None
        return cls(location.strip(), **values)

    def open(self) -> Source:
        """The source, with its small files looked at. Raises EdgespecError when there is none or it has no files."""
        path = Path(self.location).expanduser()
        if path.is_dir():
            for kind, endings in _TABLES.items():
                if files := [file for file in _files(path) if file.name.endswith(endings)]:
                    return TableSource(self.location, kind, self.field, files=tuple(map(str, files)))
            wanted = {self.suffix} if self.suffix else SOURCE_SUFFIXES
            found = tuple(file for file in _files(path) if file.suffix.lower() in wanted)
            if not found:
                raise EdgespecError(
                    f"the folder '{self.location}' has no parquet, jsonl, text or source files"
                    + (f" ending in {self.suffix}" if self.suffix else "")
                )
            return FolderSource(self.location, path, found)
        if path.is_file():
            for kind, endings in _TABLES.items():
                if path.name.endswith(endings):
                    return TableSource(self.location, kind, self.field, files=(str(path),))
            return FolderSource(self.location, path.parent, (path,))
        endings = (*SOURCE_SUFFIXES, *itertools.chain(*_TABLES.values()))
        if (
            path.is_absolute()
            or self.location.count("/") > 1
            or self.location.startswith(".")
            or path.name.endswith(endings)
        ):
            raise EdgespecError(f"there is no file or folder '{self.location}'; check the path of the source")
        return TableSource(self.location, self.location, self.field, subset=self.subset, split=self.split)


@dataclass(frozen=True)
class FolderSource:
    """Each file is a document. Those that are not UTF-8 text, or empty, are passed over."""

    name: str
    root: Path
    files: tuple[Path, ...]

    def documents(self, seed: int, position: Position = None) -> Iterator[tuple[str, Position]]:
        count = len(self.files)
        number = position or 0
        silent = 0
        while True:
            epoch, index = divmod(number, count)
            for file in _permuted(self.files, f"{seed}/{epoch}")[index:]:
                number += 1
                text = self._text(file)
                silent = 0 if text else silent + 1
                if silent >= count:
                    raise _empty(self.name, f"none of its {count} files holds UTF-8 text")
                if text:
                    yield text, number

    def passes(self, position: Position) -> int:
        return max(0, (position or 0) - 1) // len(self.files)

    def identity(self) -> str | None:
        return _identity(self.files, self.root)

    def _text(self, file: Path) -> str:
        try:
            if file.stat().st_size > MOST_BYTES:
                raise EdgespecError(
                    f"'{file}' has {file.stat().st_size / 1e6:.0f} MB and a text file is one document of at most "
                    f"{MOST_BYTES >> 20} MB; split it, or make it jsonl with a document a line"
                )
            content = file.read_bytes()
        except OSError as error:
            raise _unreadable(self.name, error) from error
        if b"\0" in content:
            return ""
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            return ""
        return text.replace("\r\n", "\n") if text.strip() else ""


@dataclass(frozen=True)
class TableSource:
    """Rows of parquet, jsonl or a hub dataset, streamed through `datasets`; `field` holds the text."""

    name: str
    kind: str
    field: str
    files: tuple[str, ...] | None = None
    subset: str | None = None
    split: str = "train"

    def documents(self, seed: int, position: Position = None) -> Iterator[tuple[str, Position]]:
        at = position or {"epoch": 0, "shard": 0, "block": 0, "state": None, "index": 0}
        while True:
            found = False
            for text, after in self._pass(seed, at):
                found = True
                yield text, after
            if not found and not at["shard"] and not at["block"] and not at["index"]:
                raise _empty(self.name, f"no row has any text in its field '{self.field}'")
            at = {"epoch": at["epoch"] + 1, "shard": 0, "block": 0, "state": None, "index": 0}

    def passes(self, position: Position) -> int:
        return int(position["epoch"]) if position else 0

    def identity(self) -> str | None:
        if self.files is None:
            return None
        files = [Path(file) for file in self.files]
        return _identity(files, Path(os.path.commonpath([file.parent for file in files])))

    def _pass(self, seed: int, at: dict[str, Any]) -> Iterator[tuple[str, Position]]:
        stream = self._open()
        epoch, number, index = at["epoch"], at["block"], at["index"]
        for shard in range(at["shard"], stream.num_shards):
            chosen = _permuted(range(stream.num_shards), f"{seed}/{epoch}")[shard]
            part = stream.shard(stream.num_shards, chosen)
            state = at["state"] if shard == at["shard"] else None
            if state is not None:
                part.load_state_dict(state)
            rows = iter(part)
            while block := self._block(rows):
                order = _permuted(range(len(block)), f"{seed}/{epoch}/{shard}/{number}")
                for place in range(index, len(block)):
                    text = block[order[place]]
                    if text:
                        yield (
                            text,
                            {"epoch": epoch, "shard": shard, "block": number, "state": state, "index": place + 1},
                        )
                number, index, state = number + 1, 0, part.state_dict()
            number = index = 0

    def _block(self, rows: Iterator[dict[str, Any]]) -> list[str]:
        try:
            block = list(itertools.islice(rows, BLOCK))
        except Exception as error:  # datasets lets through whatever its readers raise
            raise _unreadable(self.name, error) from error
        for row in block[:1]:
            if self.field not in row:
                raise EdgespecError(
                    f"the source '{self.name}' has no field '{self.field}'; it has {', '.join(map(repr, row))}: "
                    f"give one as in '{self.name},field={next(iter(row), 'text')}'"
                )
        texts = [row[self.field] or "" for row in block]
        if texts and not all(isinstance(text, str) for text in texts):
            raise EdgespecError(
                f"the field '{self.field}' of the source '{self.name}' is no text; choose another field"
            )
        return [text if text.strip() else "" for text in texts]

    def _open(self) -> Any:
        import datasets

        if self.files is not None:
            try:
                return datasets.load_dataset(self.kind, data_files=list(self.files), split="train", streaming=True)
            except Exception as error:
                raise _unreadable(self.name, error) from error
        try:
            return datasets.load_dataset(self.kind, self.subset, split=self.split, streaming=True)
        except datasets.exceptions.DatasetNotFoundError as error:
            raise EdgespecError(
                f"there is no file or folder '{self.name}' and no dataset of that name on the Hugging Face hub; check "
                "the spelling, or log in with: hf auth login (if it is gated or private)"
            ) from error
        except ValueError as error:  # an unknown subset or split: datasets' sentence lists those there are
            raise EdgespecError(f"the dataset '{self.name}' cannot be opened: {error}") from error
        except Exception as error:
            raise _unreadable(self.name, error) from error


def _files(root: Path) -> list[Path]:
    """Regular files below `root` in a fixed order; hidden folders and those of packages left out."""
    found = []
    for path in root.rglob("*"):
        parts = path.relative_to(root).parts
        if not any(part.startswith(".") or part in _NEVER for part in parts) and path.is_file():
            found.append(path)
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def _identity(files: Sequence[Path], root: Path) -> str:
    listing = "".join(f"{file.relative_to(root).as_posix()} {file.stat().st_size}\n" for file in files)
    return hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _permuted(items: Sequence[Any], seed: str) -> list[Any]:
    shuffled = list(items)
    random.Random(seed).shuffle(shuffled)
    return shuffled


def _empty(name: str, why: str) -> EdgespecError:
    return EdgespecError(f"the source '{name}' is empty: {why}; give one with text")


def _unreadable(name: str, error: Exception) -> EdgespecError:
    return EdgespecError(
        f"the source '{name}' could not be read ({type(error).__name__}: {error}); checkpoints are kept: once it can "
        "be read again, the same command goes on from the last one"
    )
