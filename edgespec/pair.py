"""The pair directory: a target, perhaps a draft, and a manifest that says what they are and proves they are whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from .errors import EdgespecError
from .hashing import HashBeside, sha256_of
from .ir import IR_FILES
from .staging import files_below, remove_folder, write_atomically
from .verified import Verified, state

MANIFEST = "edgespec.json"
SCHEMA = 1
Role = Literal["target", "draft"]
Kind = Literal["model", "early_exit", "eagle3", "gguf"]
"""What one model of a pair is. model: a language model of its own. early_exit: the first layers of the target, its norm
and head. eagle3: an EAGLE-3 head, which reads the target's hidden states and so runs only beside it, through
openvino_genai, and has no tokenizer. gguf: one .gguf file that openvino_genai reads, tokenizer included."""

MODEL_FILES = (*IR_FILES, "config.json", "generation_config.json")
TOKENIZER_FILES = (
    "openvino_tokenizer.xml",
    "openvino_tokenizer.bin",
    "openvino_detokenizer.xml",
    "openvino_detokenizer.bin",
    "tokenizer.json",
    "tokenizer_config.json",
)
REQUIRED_FILES = (*MODEL_FILES, *TOKENIZER_FILES)
"""What openvino_genai and the vocabulary check read of a model that has a tokenizer."""
GGUF_FILE = "model.gguf"


_NEVER_IN_A_NAME = '\\:*?"<>|'
"""What parts a path or a drive on Windows, names a stream there, or cannot be in a name."""
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))}
"""Names that Windows takes for a device in any folder, whatever stands behind a dot."""


def _is_plain(part: str) -> bool:
    """Whether a part of a path means the same name everywhere. Windows drops dots and blanks at its end."""
    return part == part.rstrip(". ") != "" and part.split(".")[0].rstrip().lower() not in _DEVICES


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileRecord(_Record):
    bytes: int
    sha256: str


class Source(_Record):
    """Where a model came from: a hub id with the commit that was read, or a local directory (revision None)."""

    id: str
    revision: str | None = None


class ModelRecord(_Record):
    """One model of the pair. `parameters` counts weights; `vocab_size` counts rows of the embedding, padding included,
    and may differ between target and draft; `precision` names the weights' format, such as fp16, int8_asym or
    int4_sym_g128; `layers` counts those that an early exit kept."""

    source: Source
    architecture: str
    parameters: int
    vocab_size: int
    precision: str
    files: dict[str, FileRecord]
    kind: Kind = "model"
    layers: int | None = None

    @field_validator("files")
    @classmethod
    def _inside(cls, files: dict[str, FileRecord]) -> dict[str, FileRecord]:
        """A manifest may be somebody else's, and what it names is copied by name."""
        for name in files:
            if any(letter in _NEVER_IN_A_NAME or ord(letter) < 32 for letter in name) or not all(
                map(_is_plain, name.split("/"))
            ):
                raise ValueError(f"{name!r} is no file in the model's folder, on every system that may read the pair")
        return files

    @property
    def required_files(self) -> tuple[str, ...]:
        """The files without which a model of this kind cannot run."""
        return {"eagle3": MODEL_FILES, "gguf": (GGUF_FILE,)}.get(self.kind, REQUIRED_FILES)


class Made(_Record):
    """One command that shaped the pair, with the versions that did it and the UTC time (ISO 8601).

    checks: what it compared, by name, such as "tokenizer" and "verify". peak_anonymous_bytes: see resources.PeakMemory.
    """

    command: str
    versions: dict[str, str]
    at: str
    seconds: float | None = None
    peak_anonymous_bytes: int | None = None
    checks: dict[str, Any] = {}


class _Schema(BaseModel):
    schema_version: int


class Manifest(_Record):
    """The content of edgespec.json. `tokenizer` is the fingerprint that target and draft share."""

    schema_version: int
    tokenizer: str
    target: ModelRecord
    draft: ModelRecord | None
    made: list[Made]
    profiles: list[dict[str, Any]] = []


@dataclass(frozen=True)
class Pair:
    """A pair directory that was opened and found whole."""

    root: Path
    manifest: Manifest

    @property
    def target(self) -> Path:
        return self.root / "target"

    @property
    def loadable_target(self) -> Path:
        """What openvino_genai is given: the directory of an IR, or the .gguf file."""
        return self.target / GGUF_FILE if self.manifest.target.kind == "gguf" else self.target

    @property
    def draft(self) -> Path | None:
        return self.root / "draft" if self.manifest.draft else None

    @classmethod
    def open(cls, root: str | Path, verify: bool | None = None) -> Pair:
        """Read and check the pair at `root`.

        verify: None compares a file with its sha256 once (about a second per gigabyte) and again when its size or time
        of change differs from then; True compares every file now; False looks at sizes alone.
        Raises EdgespecError with the reason when anything is missing, truncated, altered or of another schema.
        """
        root = Path(root)
        manifest = read_manifest(root)
        pair = cls(root, manifest)
        verified = None if verify is False else Verified(root)
        for role, record in (("target", manifest.target), ("draft", manifest.draft)):
            if record is None:
                continue
            missing = [name for name in record.required_files if name not in record.files]
            if missing:
                raise EdgespecError(f"the {role} of '{root}' lacks {', '.join(missing)}; export it again")
            for name, expected in record.files.items():
                path = root / role / name
                _check_size(path, expected)
                if verified is not None and (verify or not verified.holds(path, expected.sha256)):
                    before = state(path)
                    _check_hash(path, expected)
                    verified.note(path, expected.sha256, before)
        if verified is not None:
            verified.keep()
        return pair

    def delete(self) -> None:
        """Remove the directory, the manifest first: what is left of an interrupted removal is no pair."""
        (self.root / MANIFEST).unlink(missing_ok=True)
        if not remove_folder(self.root):
            raise EdgespecError(
                f"'{self.root}' could not be removed whole: another program has a file in it open; it is no pair any "
                "more, delete what is left"
            )


def read_manifest(root: Path) -> Manifest:
    """The manifest of the pair at `root`, without a look at the models' files."""
    if not root.exists():
        raise EdgespecError(f"there is no directory '{root}'; make a pair with: edgespec export TARGET -o {root}")
    path = root / MANIFEST
    if not path.is_file():
        raise EdgespecError(f"'{root}' is not a pair directory: it has no {MANIFEST}; make one with: edgespec export")
    content = path.read_bytes()
    try:
        schema = _Schema.model_validate_json(content).schema_version
        if schema != SCHEMA:
            raise EdgespecError(f"'{path}' has schema {schema} and this edgespec reads {SCHEMA}; export the pair again")
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise EdgespecError(f"the manifest '{path}' cannot be read: {where}: {first['msg']}") from error
    return manifest


def fingerprint_of(manifest: Manifest) -> str:
    """A sha256 over both models' files and the tokenizer: the same wherever the pair is copied to and whatever is
    written into its manifest later."""
    models = [record.model_dump(mode="json")["files"] for record in (manifest.target, manifest.draft) if record]
    return hashlib.sha256(json.dumps([manifest.tokenizer, models], sort_keys=True).encode()).hexdigest()


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Write the manifest last of all, atomically: a directory without one is not a pair."""
    write_atomically(root / MANIFEST, manifest.model_dump_json(indent=2) + "\n")


def _check_size(path: Path, expected: FileRecord) -> None:
    if not path.is_file():
        raise EdgespecError(f"'{path}' is missing; the pair is incomplete, make it again")
    size = path.stat().st_size
    if size != expected.bytes:
        raise EdgespecError(
            f"'{path}' has {size:,} bytes where the manifest says {expected.bytes:,}: it is truncated or was altered; "
            "make the pair again"
        )


def _check_hash(path: Path, expected: FileRecord) -> None:
    if sha256_of(path) != expected.sha256:
        raise EdgespecError(f"'{path}' does not match its sha256 in the manifest; it was altered, make the pair again")


def record_files(folder: Path, known: Mapping[str, FileRecord] = MappingProxyType({})) -> dict[str, FileRecord]:
    """Size and sha256 of every file below `folder`, by path relative to it with forward slashes; what a run left in a
    scratch folder is no part of a model. known: records of files that were hashed as they were written."""
    found: dict[str, FileRecord] = {}
    for path in files_below(folder):
        name, size = path.relative_to(folder).as_posix(), path.stat().st_size
        record = known.get(name)
        same = record is not None and record.bytes == size
        found[name] = record if record is not None and same else FileRecord(bytes=size, sha256=sha256_of(path))
    return found


@contextlib.contextmanager
def recording(path: Path, known: dict[str, FileRecord]) -> Iterator[None]:
    """The block writes `path`, once and from its beginning to its end; `known` has its record afterwards, by its name,
    where it could be hashed meanwhile (see hashing.HashBeside)."""
    with HashBeside(path) as beside:
        yield
        if found := beside.result():
            known[path.name] = FileRecord(bytes=found[0], sha256=found[1])


def installed_versions(*packages: str) -> dict[str, str]:
    """Versions of edgespec and of the given distributions; one that is not installed is left out."""
    versions = {}
    for package in ("edgespec", "openvino", *packages):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
