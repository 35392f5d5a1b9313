"""A pair to a compressed pair: refuse early, compress or copy each model, write the manifest last."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from edgespec.errors import EdgespecError
from edgespec.ir import FLOATING, weight_precision, weights_by_precision
from edgespec.pair import Made, ModelRecord, Pair, Role, installed_versions, record_files, write_manifest
from edgespec.progress import SILENT, Progress
from edgespec.staging import require_absent, staged_directory

from .compress import GroupSizeError, compress_ir, require_packages
from .formats import GROUP_SIZE, NPU_WHOLE_ROW_ABOVE, WHOLE_ROW, Format, Preset, resolve

_MODEL = ("openvino_model.xml", "openvino_model.bin")


@dataclass(frozen=True)
class SizeRow:
    """What compression did to one model. Bytes are of openvino_model.bin, scales and zero points included.

    matrices, shares: number of weight matrices and share of their weights (0 to 1) by precision afterwards.
    """

    role: Role
    precision_before: str
    precision_after: str
    bytes_before: int
    bytes_after: int
    bits_per_weight: float
    matrices: dict[str, int]
    shares: dict[str, float]


def quantize_pair(
    pair_dir: str | Path,
    out: str | Path,
    *,
    target: str | None = None,
    draft: str | None = None,
    group_size: int | None = None,
    device: str = "cpu",
    progress: Progress = SILENT,
) -> tuple[Pair, list[SizeRow]]:
    """Compress the pair at `pair_dir` into the new pair directory `out`.

    target, draft: a name in FORMATS; None takes what the preset for `device` (cpu, gpu or npu) says: int4 and int8, on
    an NPU int4_sym for both. "none" keeps a model as it is. group_size: weights that share a scale in int4, default
    128; -1 for whole rows. Returns the pair and one row a model. Tuned profiles are dropped: they were measured with
    other weights. Raises EdgespecError for an unknown format, one the device cannot run, a model already compressed,
    or a pair that is not whole; `out` appears whole or not at all.
    """
    out = Path(out)
    preset, *chosen = resolve(device, target, draft, group_size)
    require_absent(out)
    require_packages()
    with progress.task(f"checking '{pair_dir}'"):
        pair = Pair.open(pair_dir)
    formats: dict[Role, Format] = {"target": chosen[0]}
    if pair.manifest.draft is not None:
        formats["draft"] = chosen[1]
    elif draft is not None:
        raise EdgespecError(f"'{pair_dir}' has no draft to compress to {draft}; leave the draft's format out")
    records = _records(pair)
    _require_work(pair, formats, records)

    need_bytes = sum(_estimate(records[role], chosen_format) for role, chosen_format in formats.items())
    rows: list[SizeRow] = []
    made: dict[Role, ModelRecord] = {}
    with staged_directory(out, need_bytes, progress) as staged:
        for role, chosen_format in formats.items():
            source, folder = pair.root / role, staged / role
            _copy(records[role], source, folder, with_model=chosen_format.mode is None)
            if chosen_format.mode is not None:
                with progress.task(f"compressing the {role} to {chosen_format.mode}"):
                    _compress(records[role], source, folder, chosen_format, preset, group_size, progress)
            precision = weight_precision(folder / _MODEL[0])
            made[role] = records[role].model_copy(update={"precision": precision, "files": record_files(folder)})
            rows.append(_row(role, records[role], made[role], folder))
        manifest = pair.manifest.model_copy(
            update={
                "target": made["target"],
                "draft": made.get("draft"),
                "made": [*pair.manifest.made, _made(pair_dir, device, target, draft, group_size)],
                "profiles": [],
            }
        )
        write_manifest(staged, manifest)
    return Pair(out, manifest), rows


def _records(pair: Pair) -> dict[Role, ModelRecord]:
    records: dict[Role, ModelRecord] = {"target": pair.manifest.target}
    if pair.manifest.draft is not None:
        records["draft"] = pair.manifest.draft
    return records


def _require_work(pair: Pair, formats: dict[Role, Format], records: dict[Role, ModelRecord]) -> None:
    if all(chosen.mode is None for chosen in formats.values()):
        raise EdgespecError("there is nothing to compress when every model is to be kept; choose a format for one")
    for role, chosen in formats.items():
        if chosen.mode is not None:
            precision = weight_precision(pair.root / role / _MODEL[0])
            if precision not in FLOATING:
                raise EdgespecError(
                    f"the {role} of '{pair.root}' is compressed already ({precision}), and compressing it again would "
                    f"add to its error; start from the exported pair, or keep it as it is with --{role} none"
                )


def _estimate(record: ModelRecord, chosen: Format) -> int:
    """Bytes the model will take at most: 8 bits a weight and a tenth, whatever the format (embeddings keep 8 bits)."""
    total = sum(file.bytes for file in record.files.values())
    if chosen.mode is None:
        return total
    weights = record.files[_MODEL[1]].bytes
    return total - weights + min(weights, record.parameters * 11 // 10)


def _copy(record: ModelRecord, source: Path, folder: Path, with_model: bool) -> None:
    for name in record.files:
        if with_model or name not in _MODEL:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, folder / name)


def _compress(
    record: ModelRecord,
    source: Path,
    folder: Path,
    chosen: Format,
    preset: Preset,
    group_size: int | None,
    progress: Progress,
) -> None:
    xml, out = source / _MODEL[0], folder / _MODEL[0]
    size = group_size or GROUP_SIZE
    if group_size is None and preset.strict and record.parameters > NPU_WHOLE_ROW_ABOVE:
        size = WHOLE_ROW
    try:
        compress_ir(xml, out, chosen, preset, size)
    except GroupSizeError:
        if group_size is not None:
            raise
        size = WHOLE_ROW
        progress.say(f"groups of {GROUP_SIZE} do not fit {record.architecture} at its width; one scale a row instead")
        compress_ir(xml, out, chosen, preset, size)
    if chosen.grouped and size != WHOLE_ROW:
        found = weights_by_precision(out)
        other = sum(n for name, (n, _) in found.items() if name.startswith("int4") and not name.endswith(f"_g{size}"))
        if other:
            progress.say(f"{other} matrices took smaller groups, because {size} does not divide their rows")


def _row(role: Role, before: ModelRecord, after: ModelRecord, folder: Path) -> SizeRow:
    found = weights_by_precision(folder / _MODEL[0])
    weights = sum(count for _, count in found.values())
    size = after.files[_MODEL[1]].bytes
    return SizeRow(
        role=role,
        precision_before=before.precision,
        precision_after=after.precision,
        bytes_before=before.files[_MODEL[1]].bytes,
        bytes_after=size,
        bits_per_weight=8 * size / weights,
        matrices={name: matrices for name, (matrices, _) in found.items()},
        shares={name: count / weights for name, (_, count) in found.items()},
    )


def _made(pair_dir: str | Path, device: str, target: str | None, draft: str | None, group_size: int | None) -> Made:
    words = ["edgespec", "quantize", str(pair_dir), "--for", device]
    for flag, value in (("--target", target), ("--draft", draft), ("--group-size", group_size)):
        words += [flag, str(value)] if value is not None else []
    return Made(
        command=shlex.join(words),
        versions=installed_versions("nncf"),
        at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
