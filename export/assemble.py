"""Two checkpoints to one pair directory: refuse early, convert each, check that they fit, write the manifest last."""

from __future__ import annotations

import shlex
import shutil
from datetime import datetime, timezone
from pathlib import Path

from edgespec.errors import EdgespecError
from edgespec.ir import count_parameters, weight_precision
from edgespec.pair import SCHEMA, Made, Manifest, ModelRecord, Pair, installed_versions, record_files, write_manifest
from edgespec.progress import SILENT, Progress
from edgespec.staging import require_absent, staged_directory
from edgespec.training_index import INDEX_FILE
from edgespec.vocabulary import fingerprint, require_shared, vocab_size

from . import convert as conversion
from . import hub
from .checkpoint import DTYPE_BYTES, Checkpoint, open_checkpoint


def export_pair(
    target: str | Path,
    draft: str | Path | None,
    out: str | Path,
    *,
    dtype: str = "fp16",
    revision: str | None = None,
    draft_revision: str | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    progress: Progress = SILENT,
) -> Pair:
    """Export a target, and a draft if there is one, into the new pair directory `out`.

    target, draft: the directory of a Hugging Face checkpoint, or a hub id.
    dtype: of the weights in the IR, fp16, bf16 or fp32; obeyed whatever the checkpoint's own is.
    revision, draft_revision: branch, tag or commit of a hub id. trust_remote_code: run the checkpoint's own Python
    code, for a hub id only at a full commit hash. allow_pickle: read pickled weights where there are no safetensors.
    Raises EdgespecError for whatever cannot be exported, most of it before anything heavy loads. `out` appears whole
    or not at all.
    """
    out = Path(out)
    if dtype not in DTYPE_BYTES:
        raise EdgespecError(f"'{dtype}' is not a dtype to export in; choose {', '.join(DTYPE_BYTES)}")
    if draft is None and draft_revision is not None:
        raise EdgespecError("a draft's revision was given and no draft; name the draft, or leave the revision out")
    require_absent(out)
    conversion.require_packages()

    models: dict[str, Checkpoint] = {}
    for role, name, wanted in (("target", target, revision), ("draft", draft, draft_revision)):
        if name is not None:
            with progress.task(f"reading the {role} '{name}'"):
                models[role] = open_checkpoint(
                    str(name), revision=wanted, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle
                )
    if all(model.has_tokenizer_json for model in models.values()):
        _require_shared(models, {role: model.folder for role, model in models.items()})

    need_bytes = sum(model.exported_bytes(dtype) for model in models.values())
    with staged_directory(out, need_bytes, progress) as staged:
        records = {}
        for role, model in models.items():
            _fetch(model, progress)
            with progress.task(f"converting the {role} '{model.name}' to OpenVINO, {dtype}"):
                conversion.convert(model, staged / role, dtype, trust_remote_code)
                _copy_index(model.folder, staged / role)
                records[role] = _record(model, staged / role)
        _require_shared(models, {role: staged / role for role in models})
        manifest = Manifest(
            schema_version=SCHEMA,
            tokenizer=fingerprint(staged / "target"),
            target=records["target"],
            draft=records.get("draft"),
            made=[_made(target, draft, dtype, revision, draft_revision, trust_remote_code, allow_pickle)],
        )
        write_manifest(staged, manifest)
    return Pair(out, manifest)


def _require_shared(models: dict[str, Checkpoint], folders: dict[str, Path]) -> None:
    if "draft" in models:
        require_shared(folders["target"], folders["draft"], models["target"].name, models["draft"].name)


def _fetch(model: Checkpoint, progress: Progress) -> None:
    """Bring the weights of a hub id here; a local checkpoint has them."""
    if not all((model.folder / name).is_file() for name in model.weights):
        with progress.task(f"fetching '{model.name}', {sum(model.weights.values()) / 1e9:.1f} GB"):
            hub.fetch_weights(model.source.id, model.source.revision, model.folder, model.weights)


def _copy_index(source: Path, folder: Path) -> None:
    """What a model was trained on travels with it, so that a bench can leave out prompts it has seen."""
    if (source / INDEX_FILE).is_file():
        shutil.copyfile(source / INDEX_FILE, folder / INDEX_FILE)


def _record(model: Checkpoint, folder: Path) -> ModelRecord:
    xml = folder / "openvino_model.xml"
    return ModelRecord(
        source=model.source,
        architecture=model.architecture,
        parameters=count_parameters(xml),
        vocab_size=vocab_size(model.config),
        precision=weight_precision(xml),
        files=record_files(folder),
    )


def _made(
    target: str | Path,
    draft: str | Path | None,
    dtype: str,
    revision: str | None,
    draft_revision: str | None,
    trust_remote_code: bool,
    allow_pickle: bool,
) -> Made:
    words = ["edgespec", "export", str(target), "--dtype", dtype]
    for flag, value in (("--draft", draft), ("--revision", revision), ("--draft-revision", draft_revision)):
        words += [flag, str(value)] if value is not None else []
    words += ["--trust-remote-code"] if trust_remote_code else []
    words += ["--allow-pickle"] if allow_pickle else []
    packages = ("openvino-tokenizers", "optimum-intel", "optimum", "transformers", "torch")
    return Made(
        command=shlex.join(words),
        versions=installed_versions(*packages),
        at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
