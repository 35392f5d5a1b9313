"""`edgespec pair`: models that are OpenVINO's already, or a GGUF file that openvino_genai reads, become a pair as is.

They are copied, not converted: opened once, checked for what fails only later elsewhere, hashed, and compared.
"""

from __future__ import annotations

import importlib.util
import json
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgespec.errors import EdgespecError, last_line
from edgespec.gguf import GgufHead, read_gguf
from edgespec.ir import check_ir, count_parameters, weight_precision
from edgespec.pair import (
    GGUF_FILE,
    MANIFEST,
    SCHEMA,
    Kind,
    Made,
    Manifest,
    ModelRecord,
    Pair,
    Role,
    Source,
    installed_versions,
    record_files,
    write_manifest,
)
from edgespec.progress import SILENT, Progress
from edgespec.resources import PeakMemory
from edgespec.signals import keeping_signal_stack
from edgespec.staging import require_absent, staged_directory
from edgespec.training_index import INDEX_FILE
from edgespec.vocabulary import fingerprint, require_shared, require_shared_gguf, vocab_size

from . import eagle, hub
from .convert import complete_generation_config
from .parity import compare_tokenizers, say_differences

_CARRIED = (".json", ".jinja", ".model", ".txt", ".tiktoken")
_PARTS = ("model", "tokenizer", "detokenizer")
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Ready:
    """A model that is there already. files: what is taken of it, name -> bytes. absent: those of them that have to be
    fetched still. head: of a GGUF file."""

    name: str
    folder: Path
    source: Source
    files: Mapping[str, int]
    kind: Kind
    config: Mapping[str, Any]
    head: GgufHead | None = None
    absent: Mapping[str, int] = field(default_factory=dict)


def adopt_pair(
    target: str | Path,
    draft: str | Path | None,
    out: str | Path,
    *,
    revision: str | None = None,
    draft_revision: str | None = None,
    progress: Progress = SILENT,
) -> Pair:
    """Make the new pair directory `out` of models that need no conversion.

    target, draft: a directory with an OpenVINO model and its tokenizer, a hub id of such a repository, or, for the
    target, a .gguf file. A draft may be an exported EAGLE-3 head. revision, draft_revision: branch, tag or commit of a
    hub id; without one the newest commit is taken, and recorded. After an interruption, files that had come whole
    are not fetched again.
    Raises EdgespecError when something is missing, truncated, of the wrong kind or of another vocabulary. `out`
    appears whole or not at all.
    """
    out = Path(out)
    if draft is None and draft_revision is not None:
        raise EdgespecError("a draft's revision was given and no draft; name the draft, or leave the revision out")
    require_absent(out)
    started = time.perf_counter()
    models: dict[Role, Ready] = {"target": open_ready(str(target), "target", revision)}
    if draft is not None:
        models["draft"] = open_ready(str(draft), "draft", draft_revision)
    _require_fitting(models, {role: model.folder for role, model in models.items()})
    need_bytes = sum(sum(model.files.values()) for model in models.values())
    downloads = [hub.disk_need(model.name, model.folder, model.absent) for model in models.values()]
    with PeakMemory() as peak, staged_directory(out, need_bytes, progress, downloads) as staged:
        records: dict[Role, ModelRecord] = {}
        checks: dict[str, Any] = {}
        for role, model in models.items():
            if not all((model.folder / name).is_file() for name in model.files):
                hub.fetch(model.name, model.source, model.folder, model.files, model.absent, progress)
            _copy(model, role, staged / role, progress)
            with progress.task(f"checking the {role}"):
                _check(model, staged / role)
                records[role] = _record(model, staged / role)
            if model.kind == "model":
                _compare_tokenizer(role, staged / role, checks, progress)
            if model.head is not None:
                checks["vocabulary"] = (
                    f"the pre-tokenizer is only named in '{model.name}' "
                    f"('{model.head.metadata.get('tokenizer.ggml.pre')}') and was not compared"
                )
        _require_fitting(models, {role: staged / role for role in models})
        head = models["target"].head
        manifest = Manifest(
            schema_version=SCHEMA,
            tokenizer=fingerprint(staged / "target") if head is None else head.fingerprint(),
            target=records["target"],
            draft=records.get("draft"),
            made=[
                Made(
                    command=_command(target, draft, revision, draft_revision),
                    versions=installed_versions("openvino-genai", "openvino-tokenizers"),
                    at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
                    seconds=round(time.perf_counter() - started, 1),
                    peak_anonymous_bytes=peak.anonymous_bytes,
                    checks=checks,
                )
            ],
        )
        write_manifest(staged, manifest)
    return Pair(out, manifest)


def open_ready(name: str, role: Role, revision: str | None) -> Ready:
    """Find a model that needs no conversion, and read its small files. Raises EdgespecError when it does need one."""
    path = Path(name)
    if path.exists() and revision is not None:
        raise EdgespecError(f"'{name}' is on this machine, and a revision names a commit of a hub id; leave one out")
    if path.is_file():
        return _open_gguf(name, path, role)
    if path.is_dir():
        present = {file.name: file.stat().st_size for file in path.iterdir() if file.is_file()}
        return _open_ir(name, path, Source(id=name), present)
    if not hub.is_id(name):
        raise EdgespecError(
            f"there is no directory or file '{name}'; give an OpenVINO model's directory, a .gguf file or a hub id"
        )
    found = hub.find(name, revision, with_code=False, weights=hub.READY)
    present = {file.name: file.stat().st_size for file in found.folder.iterdir() if file.is_file()}
    present |= found.weight_sizes or {}
    model = _open_ir(name, found.folder, Source(id=name, revision=found.commit), present)
    return replace(model, absent={file: size for file, size in found.absent.items() if file in model.files})


def _open_gguf(name: str, path: Path, role: Role) -> Ready:
    if path.suffix.lower() != ".gguf":
        raise EdgespecError(
            f"'{name}' is a file and no .gguf; give an OpenVINO model's directory, a .gguf file or a hub id"
        )
    if role == "draft":
        raise EdgespecError(
            f"the draft '{name}' is a GGUF file, which edgespec takes as a target only; export the draft"
        )
    head = read_gguf(path)
    return Ready(name, path.parent, Source(id=name), {path.name: path.stat().st_size}, "gguf", {}, head)


def _open_ir(name: str, folder: Path, source: Source, present: Mapping[str, int]) -> Ready:
    if "openvino_model.xml" not in present:
        hint = "give the directory that holds openvino_model.xml"
        if MANIFEST in present:
            hint = f"it is a pair; to take a model out of it, name {name}/target or {name}/draft"
        elif any(file.endswith((".safetensors", ".gguf")) for file in present) or "pytorch_model.bin" in present:
            hint = "convert it with: edgespec export"
        raise EdgespecError(f"'{name}' holds no OpenVINO model (openvino_model.xml); {hint}")
    parts = {f"openvino_{part}{end}" for part in _PARTS for end in (".xml", ".bin")}
    files = {
        file: size
        for file, size in present.items()
        if file in parts or file == INDEX_FILE or (file.endswith(_CARRIED) and file != MANIFEST)
    }
    xml = folder / "openvino_model.xml"
    head = xml.is_file() and b"eagle3_mode" in xml.read_bytes()
    config = _config(name, folder)
    needed = {"openvino_model.xml", "openvino_model.bin"} | (
        set() if head else parts | {"tokenizer.json", "tokenizer_config.json"}
    )
    missing = sorted(needed - set(files))
    if missing:
        raise EdgespecError(
            f"'{name}' lacks {', '.join(missing)}; openvino_genai needs the converted tokenizer, and the vocabulary is "
            "compared by tokenizer.json: fetch the whole model, or export its checkpoint with: edgespec export"
        )
    return Ready(name, folder, source, files, "eagle3" if head else "model", config)


def _config(name: str, folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise EdgespecError(
            f"'{name}' has no config.json, from which openvino_genai and edgespec read the model's shape"
        )
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise EdgespecError(f"the config.json of '{name}' is not valid JSON ({error}); fetch it again") from error
    if not isinstance(config, dict):
        raise EdgespecError(f"the config.json of '{name}' does not hold a JSON object; fetch it again")
    return config


def _require_fitting(models: Mapping[Role, Ready], folders: Mapping[Role, Path]) -> None:
    target, draft = models["target"], models.get("draft")
    if target.kind == "eagle3":
        raise EdgespecError(
            f"'{target.name}' is an EAGLE-3 head, which drafts for a model and is none; give it as the draft"
        )
    if draft is None:
        return
    if draft.kind == "eagle3":
        if target.head is not None:
            raise EdgespecError(
                "an EAGLE-3 head needs its target as an OpenVINO model, not as a GGUF file; export the target"
            )
        eagle.require_fits(target.name, dict(target.config), draft.name, dict(draft.config))
    elif target.head is not None:
        require_shared_gguf(target.head, folders["draft"], target.name, draft.name)
    else:
        require_shared(folders["target"], folders["draft"], target.name, draft.name)


def _copy(model: Ready, role: Role, folder: Path, progress: Progress) -> None:
    folder.mkdir()
    total = sum(model.files.values())
    with progress.task(f"copying the {role}, {total / 1e9:.2f} GB", total) as task:
        for name in model.files:
            to = folder / (GGUF_FILE if model.head is not None else name)
            with (model.folder / name).open("rb") as source, to.open("wb") as copy:
                while block := source.read(_BLOCK):
                    copy.write(block)
                    task.advance(len(block))
    if model.head is None:
        complete_generation_config(dict(model.config), model.folder, folder)


@keeping_signal_stack()
def _check(model: Ready, folder: Path) -> None:
    """Open every part once: a release of OpenVINO or of its tokenizers that does not know an operation says so here."""
    if model.head is not None:
        return
    import openvino as ov
    import openvino_genai

    parts = ("model",) if model.kind == "eagle3" else _PARTS
    for part in parts:
        check_ir(folder / f"openvino_{part}.xml")
    xml = folder / "openvino_model.xml"
    try:
        read = ov.Core().read_model(xml)
        inputs = {name for port in read.inputs for name in port.names}
    except RuntimeError as error:
        raise EdgespecError(f"OpenVINO here cannot read '{model.name}': {last_line(error)}") from error
    if b'type="ReadValue"' not in xml.read_bytes() or "beam_idx" not in inputs:
        raise EdgespecError(
            f"'{model.name}' keeps no KV cache inside, which openvino_genai needs; export its checkpoint with: "
            "edgespec export"
        )
    if "input_ids" not in inputs:
        raise EdgespecError(f"'{model.name}' takes {', '.join(sorted(inputs))} and no input_ids; give a text model")
    if model.kind == "eagle3":
        return
    try:
        tokenizer = openvino_genai.Tokenizer(str(folder))
        ids = tokenizer.encode("a b").input_ids.data.reshape(-1)
        tokenizer.decode([int(token) for token in ids])
    except RuntimeError as error:
        raise EdgespecError(
            f"openvino_genai here cannot run the tokenizer of '{model.name}': {last_line(error)}; "
            "it may have been converted with another release of openvino-tokenizers"
        ) from error


def _compare_tokenizer(role: Role, folder: Path, checks: dict[str, Any], progress: Progress) -> None:
    """Hold the OpenVINO tokenizer against the tokenizer.json beside it, where transformers is installed and can."""
    if importlib.util.find_spec("transformers") is None:
        progress.say(
            f"the tokenizer of the {role} was not compared with its tokenizer.json: transformers is not installed"
        )
        return
    with progress.task(f"comparing the tokenizer of the {role} with transformers'"):
        try:
            parity = compare_tokenizers(folder, folder)
        except (OSError, ValueError, KeyError, ImportError) as error:  # one that needs code of its own, for instance
            progress.say(f"the tokenizer of the {role} was not compared: transformers cannot load it ({error!r})")
            return
    checks.setdefault("tokenizer", {})[role] = {"asked": parity.asked, "differences": list(parity.differences)}
    say_differences(parity.differences, role, progress)


def _record(model: Ready, folder: Path) -> ModelRecord:
    files = record_files(folder)
    if model.head is not None:
        return ModelRecord(
            source=model.source,
            architecture=model.head.architecture,
            parameters=model.head.parameters,
            vocab_size=len(model.head.tokens),
            precision=f"gguf_{model.head.precision.lower()}",
            files=files,
            kind="gguf",
        )
    xml = folder / "openvino_model.xml"
    return ModelRecord(
        source=model.source,
        architecture=str((model.config.get("architectures") or [model.config.get("model_type", "unknown")])[0]),
        parameters=count_parameters(xml),
        vocab_size=vocab_size(dict(model.config)),
        precision=weight_precision(xml),
        files=files,
        kind=model.kind,
    )


def _command(target: str | Path, draft: str | Path | None, revision: str | None, draft_revision: str | None) -> str:
    words = ["edgespec", "pair", str(target), *([str(draft)] if draft is not None else [])]
    for flag, value in (("--revision", revision), ("--draft-revision", draft_revision)):
        words += [flag, value] if value is not None else []
    return shlex.join(words)
