"""Two checkpoints to one pair directory: refuse early, convert each, check that they fit, write the manifest last."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgespec.errors import EdgespecError
from edgespec.ir import count_parameters, weight_precision
from edgespec.pair import (
    SCHEMA,
    FileRecord,
    Made,
    Manifest,
    ModelRecord,
    Pair,
    Role,
    installed_versions,
    record_files,
    write_manifest,
)
from edgespec.progress import SILENT, Progress
from edgespec.resources import PeakMemory, require_disk, require_memory
from edgespec.staging import require_absent, staged_directory
from edgespec.training_index import INDEX_FILE
from edgespec.vocabulary import fingerprint, require_shared, vocab_size

from . import convert as conversion
from . import dtypes, eagle, hub
from .checkpoint import Checkpoint, fetch, open_checkpoint
from .parity import compare_tokenizers, say_differences
from .verify import Reference, hold, reference_of

BASE_BYTES = 1_100_000_000
"""Anonymous memory of an export beside converted weights: torch, transformers, OpenVINO, and the graph. A model of 8 B
took 1.02 GB."""
VERIFY_SHARE = 0.4
"""Bytes a weight that --verify takes beside the copy of the weights that OpenVINO arranges for the CPU: torch's f32
copy of its largest module. A bf16 model of 1.5 B took 1.7 bytes a weight in OpenVINO."""


Foresee = Callable[[Mapping[Role, tuple[ModelRecord, Path]]], int]
"""What is to be done with the pair afterwards, asked before anything is converted or fetched: it refuses what could not
be done, and returns the bytes of disk that it wants. It gets each model's record as far as that is known, and the
folder of its config.json."""


def export_pair(
    target: str | Path,
    draft: str | Path | None,
    out: str | Path,
    *,
    dtype: str = dtypes.AUTO,
    early_exit: int | None = None,
    revision: str | None = None,
    draft_revision: str | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    verify: bool = False,
    foresee: Foresee | None = None,
    references: MutableMapping[Role, Reference] | None = None,
    progress: Progress = SILENT,
) -> Pair:
    """Export a target, and a draft if there is one, into the new pair directory `out`.

    target, draft: the directory of a Hugging Face checkpoint, or a hub id; a draft may be an EAGLE-3 head.
    dtype: of the weights in the IR: fp16, bf16 or fp32, obeyed whatever the checkpoint's own is; "auto" keeps bf16 and
    makes all else fp16. early_exit: instead of a draft, the target's own first layers, so many, with its norm and head.
    revision, draft_revision: branch, tag or commit of a hub id. trust_remote_code: run the checkpoint's own Python
    code, for a hub id only at a full commit hash. allow_pickle: read pickled weights where there are no safetensors.
    verify: hold each IR against PyTorch on probe prompts, and refuse one beyond the bounds of verify.py; references is
    then filled with what PyTorch computed, for whoever compresses the pair and holds that against it too. foresee: see
    Foresee.
    What was compared, tokenizers always, and the peak of anonymous memory are in the manifest's last `made`.
    Raises EdgespecError for whatever cannot be exported, most of it before anything heavy loads. `out` appears whole
    or not at all.
    """
    out = Path(out)
    if dtype != dtypes.AUTO:
        dtypes.resolve(dtype, "fp32")
    if draft is not None and early_exit is not None:
        raise EdgespecError(
            "a draft and an early exit were both given, and a pair has one draft; leave one of them out"
        )
    if draft is None and draft_revision is not None:
        raise EdgespecError("a draft's revision was given and no draft; name the draft, or leave the revision out")
    require_absent(out)
    conversion.require_packages()
    started = time.perf_counter()

    models: dict[Role, Checkpoint] = {}
    asked: tuple[tuple[Role, str | Path | None, str | None], ...] = (
        ("target", target, revision),
        ("draft", draft, draft_revision),
    )
    for role, name, wanted in asked:
        if name is not None:
            with progress.task(f"reading the {role} '{name}'"):
                models[role] = open_checkpoint(
                    str(name),
                    role=role,
                    revision=wanted,
                    trust_remote_code=trust_remote_code,
                    allow_pickle=allow_pickle,
                )
    if early_exit is not None:
        models["draft"] = models["target"].early_exit(early_exit)
    _require_fitting(models, {role: model.folder for role, model in models.items()}, early=True)
    for role, model in models.items():
        if model.long_beyond is not None and model.kind != "early_exit":
            progress.say(
                f"the {role} '{model.name}' turns to its long rotary factors (longrope) in a pass that ends beyond "
                f"{model.long_beyond} tokens, as in PyTorch; keys that are in the KV cache by then keep the short "
                "ones, where transformers' generate computes them anew: what goes on across that length, or is fed in "
                "chunks across it, differs from transformers' answer"
            )
    types, need_bytes = _plan(models, dtype, verify, foresee)
    downloads = [
        hub.disk_need(model.name, model.folder, model.absent) for model in models.values() if model.kind != "early_exit"
    ]
    with PeakMemory() as peak, staged_directory(out, need_bytes, progress, downloads) as staged:
        fetched: dict[Role, Checkpoint] = {
            role: fetch(
                model, role=role, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle, progress=progress
            )
            for role, model in models.items()
            if model.kind != "early_exit"
        }
        if early_exit is not None:
            fetched["draft"] = fetched["target"].early_exit(early_exit)
        if fetched != models:  # the headers, now here, tell more than config.json did
            models = fetched
            types, need_bytes = _plan(models, dtype, verify, foresee)
            require_disk(staged, need_bytes)
        records: dict[Role, ModelRecord] = {}
        checks: dict[str, Any] = {}
        for role, model in models.items():
            with progress.task(f"converting the {role} '{model.name}' to OpenVINO, {types[role]}"):
                known = conversion.convert(model, staged / role, types[role], trust_remote_code)
            _copy_index(model, staged / role)
            if model.kind == "model":
                with progress.task(f"comparing the tokenizer of the {role} with transformers'"), conversion.quiet():
                    parity = compare_tokenizers(model.folder, staged / role, trust_remote_code)
                checks.setdefault("tokenizer", {})[role] = {
                    "asked": parity.asked,
                    "differences": list(parity.differences),
                }
                say_differences(parity.differences, role, progress)
            if verify and model.kind == "eagle3":
                progress.say("the EAGLE-3 head is not held against PyTorch: it computes nothing without its target")
            elif verify:
                with progress.task(f"comparing the {role} with PyTorch"), conversion.quiet():
                    reference = reference_of(model, staged / role, types[role], trust_remote_code)
                    verified = hold(reference, staged / role, types[role])
                checks.setdefault("verify", {})[role] = asdict(verified)
                if references is not None:
                    references[role] = reference
            records[role] = _record(model, staged / role, known)
        _require_fitting(models, {role: staged / role for role in models}, early=False)
        options = {"dtype": dtype, "draft": draft, "early-exit": early_exit, "revision": revision}
        options |= {"draft-revision": draft_revision}
        flags = {"trust-remote-code": trust_remote_code, "allow-pickle": allow_pickle, "verify": verify}
        manifest = Manifest(
            schema_version=SCHEMA,
            tokenizer=fingerprint(staged / "target"),
            target=records["target"],
            draft=records.get("draft"),
            made=[
                Made(
                    command=_command(target, options, flags),
                    versions=installed_versions(
                        "openvino-tokenizers", "optimum-intel", "optimum", "transformers", "torch"
                    ),
                    at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
                    seconds=round(time.perf_counter() - started, 1),
                    peak_anonymous_bytes=peak.anonymous_bytes,
                    checks=checks,
                )
            ],
        )
        write_manifest(staged, manifest)
    return Pair(out, manifest)


def _plan(
    models: Mapping[Role, Checkpoint], dtype: str, verify: bool, foresee: Foresee | None
) -> tuple[dict[Role, str], int]:
    """The type of each model, and the bytes of disk that the pair wants. Refuses what does not fit into memory."""
    types = {role: dtypes.resolve(dtype, model.stored) for role, model in models.items()}
    for role, model in models.items():
        doing = f"exporting the {role} '{model.name}' from {model.stored} to {types[role]}"
        anonymous, committed = _memory_bytes(model, types[role], verify)
        require_memory(BASE_BYTES + anonymous, doing, BASE_BYTES + committed)
    need_bytes = sum(model.exported_bytes(types[role]) for role, model in models.items())
    if foresee is not None:
        need_bytes += foresee({role: (_foreseen(model, types[role]), model.folder) for role, model in models.items()})
    return types, need_bytes


def _require_fitting(models: dict[Role, Checkpoint], folders: dict[Role, Path], early: bool) -> None:
    """Target and draft speak the same tokens. early: compare only what a look at the checkpoints' files can tell."""
    draft = models.get("draft")
    if draft is None or draft.kind == "early_exit":
        return
    target = models["target"]
    if draft.kind == "eagle3":
        eagle.require_fits(target.name, target.config, draft.name, draft.config)
    elif not early or (target.has_tokenizer_json and draft.has_tokenizer_json):
        require_shared(folders["target"], folders["draft"], target.name, draft.name)


def _memory_bytes(model: Checkpoint, dtype: str, verify: bool) -> tuple[int, int]:
    """(bytes of weights that will be in memory rather than in a mapped file; those with what Windows counts beside
    them, because torch maps every safetensors file copy-on-write: see commit_limit.py).

    PyTorch's model is gone when OpenVINO's is made, so of the two that --verify runs the larger counts.
    """
    way = dtypes.route(model.stored, dtype)
    loaded = 0 if way.mapped and not model.pickled else model.weight_count * dtypes.BYTES[way.load]
    widened = round(model.weight_count * VERIFY_SHARE) if verify else 0
    arranged = model.weight_count * dtypes.BYTES[dtype] if verify else 0
    mapped = 0 if model.pickled else sum(model.weights.values())
    return max(loaded, arranged + widened), max(mapped + max(loaded, widened), arranged + widened)


def _copy_index(model: Checkpoint, folder: Path) -> None:
    """What a model was trained on travels with it, so that a bench can leave out prompts it has seen."""
    source = model.folder / INDEX_FILE
    if source.is_file() and model.kind != "early_exit":
        shutil.copyfile(source, folder / INDEX_FILE)


def _foreseen(model: Checkpoint, dtype: str) -> ModelRecord:
    """The record that a model will have; one file stands for all that are small, and no hash is known."""
    weights = model.weight_count * dtypes.BYTES[dtype]
    sizes = {"openvino_model.bin": weights, "openvino_model.xml": model.exported_bytes(dtype) - weights}
    return ModelRecord(
        source=model.source,
        architecture=model.architecture,
        parameters=model.weight_count,
        vocab_size=vocab_size(model.config),
        precision=dtype,
        files={name: FileRecord(bytes=size, sha256="") for name, size in sizes.items()},
        kind=model.kind,
        layers=model.layers,
    )


def _record(model: Checkpoint, folder: Path, known: Mapping[str, FileRecord]) -> ModelRecord:
    xml = folder / "openvino_model.xml"
    return ModelRecord(
        source=model.source,
        architecture=model.architecture,
        parameters=count_parameters(xml),
        vocab_size=vocab_size(model.config),
        precision=weight_precision(xml),
        files=record_files(folder, known),
        kind=model.kind,
        layers=model.layers,
    )


def _command(target: str | Path, options: dict[str, Any], flags: dict[str, bool]) -> str:
    words = ["edgespec", "export", str(target)]
    for name, value in options.items():
        words += [f"--{name}", str(value)] if value is not None else []
    return shlex.join([*words, *(f"--{name}" for name, given in flags.items() if given)])
