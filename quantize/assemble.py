"""A pair to a compressed pair: refuse early, compress or copy each model, say what it cost, write the manifest last."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgespec import resources
from edgespec.errors import EdgespecError
from edgespec.ir import FLOATING, IR_FILES, weight_precision, weights_by_precision
from edgespec.pair import (
    FileRecord,
    Made,
    ModelRecord,
    Pair,
    Role,
    installed_versions,
    record_files,
    recording,
    write_manifest,
)
from edgespec.progress import SILENT, Progress
from edgespec.resources import PeakMemory
from edgespec.staging import require_absent, staged_directory

from . import calibration
from .calibration import SELF, CalibrationText
from .compress import GroupSizeError, compress_ir
from .cost import logits_bytes
from .footprint import measuring_bytes
from .formats import GROUP_SIZE, WHOLE_ROW, Format, Preset
from .plan import Request, check_request, estimate, recipe_for, require_memory_for, require_work
from .recipe import FLAGS, Options, Recipe
from .texts import Ask


@dataclass(frozen=True)
class SizeRow:
    """What compression did to one model. Bytes are of openvino_model.bin, scales and zero points included.

    matrices, shares: number of weight matrices and share of their weights (0 to 1) by precision afterwards. recipe:
    what was asked of NNCF. source: the upstream setting it is, None where it is none.
    """

    role: Role
    precision_before: str
    precision_after: str
    bytes_before: int
    bytes_after: int
    bits_per_weight: float
    matrices: dict[str, int]
    shares: dict[str, float]
    recipe: str
    source: str | None


Measure = Callable[[Pair, Pair, Progress], Mapping[str, Any]]
"""Called with the pair that was read and the compressed one, before that appears: what compression cost."""


def quantize_pair(
    pair_dir: str | Path,
    out: str | Path,
    *,
    target: str | None = None,
    draft: str | None = None,
    group_size: int | None = None,
    device: str = "cpu",
    whole: bool = False,
    progress: Progress = SILENT,
) -> tuple[Pair, list[SizeRow]]:
    """`quantize` with formats and a group size alone: the pair and one row a model."""
    request = Request(device=device, target=target, draft=draft, both=Options(group_size=group_size))
    pair, rows, _ = quantize(pair_dir, out, request, whole=whole, progress=progress)
    return pair, rows


def quantize(
    pair_dir: str | Path,
    out: str | Path,
    request: Request,
    *,
    asks: Sequence[Ask] = (),
    measure: Measure | None = None,
    measure_asked: bool = True,
    require_text: Callable[[Pair], None] = lambda _: None,
    whole: bool = False,
    progress: Progress = SILENT,
) -> tuple[Pair, list[SizeRow], Made]:
    """Compress the pair at `pair_dir` into the new pair directory `out`.

    asks: what the target is asked for its own calibration text. measure: tells what it cost; measure_asked: whether a
    user insists on it, else a lack of memory leaves it out and says so; require_text: refuses, of the pair that was
    read, a text that cannot be measured on; whole: the pair was written a moment ago by who calls, and its files need
    not be held against their hashes. Returns the pair, one row a model, and what the
    manifest says of this run. Tuned profiles are dropped: they were measured with other weights. Raises EdgespecError
    for whatever cannot be done, before a model loads; `out` appears whole or not at all.
    """
    out = Path(out)
    started = time.perf_counter()
    preset = check_request(request)
    require_absent(out)
    with PeakMemory() as peak:
        pair, records, recipes = _planned(pair_dir, request, preset, bool(asks), progress)
        if measure is not None and not _measurable(records, recipes, measure_asked, progress):
            measure = None
        if measure is not None:
            require_text(pair)
        if not whole:
            with progress.task(f"checking '{pair_dir}'"):
                Pair.open(pair_dir)
        need_bytes = sum(estimate(records[role], recipes[role]) for role in records)
        need_bytes += logits_bytes(pair.manifest.target.vocab_size) if measure is not None else 0
        cost: Mapping[str, Any] = {}
        with staged_directory(out, need_bytes, progress) as staged:
            text = _text(pair, request, recipes, asks, progress)
            made, rows = _compressed(pair, records, recipes, preset, text, staged, progress)
            compressing_bytes = peak.anonymous_bytes
            now: dict[str, Any] = {"target": made["target"], "draft": made.get("draft"), "profiles": []}
            manifest = pair.manifest.model_copy(update=now)
            if measure is not None:
                with PeakMemory() as measuring:
                    cost = measure(pair, Pair(staged, manifest), progress)
                cost = {**cost, "measuring_peak_anonymous_bytes": measuring.anonymous_bytes}
                peak.include(measuring)
            this = Made(
                command=described_command(pair_dir, request),
                versions=installed_versions("nncf", "optimum-intel"),
                at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
                seconds=round(time.perf_counter() - started, 1),
                peak_anonymous_bytes=peak.anonymous_bytes,
                checks={
                    "weights": [asdict(row) for row in rows],
                    "calibration": text.described if text is not None else None,
                    "compressing_peak_anonymous_bytes": compressing_bytes,
                    **cost,
                },
            )
            manifest = manifest.model_copy(update={"made": [*pair.manifest.made, this]})
            write_manifest(staged, manifest)
    return Pair(out, manifest), rows, this


def _planned(
    pair_dir: str | Path, request: Request, preset: Preset, can_ask: bool, progress: Progress
) -> tuple[Pair, dict[Role, ModelRecord], dict[Role, Recipe]]:
    """What is there and what becomes of it. Raises EdgespecError for what cannot be done; no hash is looked at yet."""
    pair = Pair.open(pair_dir, verify=False)
    records = records_of(pair, request)
    recipes = {
        role: recipe_for(role, record, pair.root / role, request, preset, can_ask=can_ask, progress=progress)
        for role, record in records.items()
    }
    require_work(recipes, request.dataset)
    require_floating(pair, {role: recipe.format for role, recipe in recipes.items()})
    for role in records:
        require_memory_for(role, records[role], recipes[role], request)
    return pair, records, recipes


def _measurable(
    records: Mapping[Role, ModelRecord], recipes: Mapping[Role, Recipe], asked: bool, progress: Progress
) -> bool:
    """Whether there is the memory to measure what it costs. Raises EdgespecError where there is not and it was asked
    for."""
    doing = "measuring what compression costs, for which the uncompressed models run here,"
    try:
        resources.require_memory(measuring_bytes(records, recipes), doing)
    except EdgespecError as error:
        if asked:
            raise EdgespecError(f"{error}; or leave it out with --no-cost") from error
        progress.say(f"what it costs is not measured: {error}")
        return False
    return True


def _compressed(
    pair: Pair,
    records: Mapping[Role, ModelRecord],
    recipes: Mapping[Role, Recipe],
    preset: Preset,
    text: CalibrationText | None,
    staged: Path,
    progress: Progress,
) -> tuple[dict[Role, ModelRecord], list[SizeRow]]:
    """Each model compressed or copied into `staged`: its new record, and a row that says what became of it."""
    made: dict[Role, ModelRecord] = {}
    rows: list[SizeRow] = []
    for role, recipe in recipes.items():
        source, folder = pair.root / role, staged / role
        copy_files(records[role], source, folder, with_model=recipe.format.mode is None)
        known: dict[str, FileRecord] = {}
        if recipe.format.mode is not None:
            compressing = progress.task(f"compressing the {role} to {recipe.name}")
            with compressing, recording(folder / IR_FILES[1], known):
                recipe = compress_model(records[role], source, folder, recipe, preset, text, progress)
        precision = weight_precision(folder / IR_FILES[0])
        with progress.task(f"checking the {role} that was written"):
            files = record_files(folder, known)
        made[role] = records[role].model_copy(update={"precision": precision, "files": files})
        rows.append(_row(role, records[role], made[role], folder, recipe))
    return made, rows


def records_of(pair: Pair, request: Request) -> dict[Role, ModelRecord]:
    records: dict[Role, ModelRecord] = {"target": pair.manifest.target}
    if pair.manifest.draft is not None:
        records["draft"] = pair.manifest.draft
    elif request.draft is not None:
        raise EdgespecError(f"'{pair.root}' has no draft to compress to {request.draft}; leave the draft's format out")
    elif request.own.get("draft", Options()).given:
        raise EdgespecError(f"'{pair.root}' has no draft for the draft's options; leave them out")
    for role, record in records.items():
        if IR_FILES[0] not in record.files:
            raise EdgespecError(
                f"the {role} of '{pair.root}' is no OpenVINO IR ({record.precision}), and NNCF compresses no other; "
                "a GGUF file is compressed already"
            )
    return records


def require_floating(pair: Pair, formats: Mapping[Role, Format]) -> None:
    """Refuse to compress a model a second time."""
    for role, chosen in formats.items():
        if chosen.mode is not None:
            precision = weight_precision(pair.root / role / IR_FILES[0])
            if precision not in FLOATING:
                raise EdgespecError(
                    f"the {role} of '{pair.root}' is compressed already ({precision}), and compressing it again would "
                    f"add to its error; start from the exported pair, or keep it as it is with --{role} none"
                )


def _text(
    pair: Pair, request: Request, recipes: Mapping[Role, Recipe], asks: Sequence[Ask], progress: Progress
) -> CalibrationText | None:
    """The calibration text, when a recipe uses one and it was given or is needed."""
    wanted = request.dataset
    if not any(recipe.uses_text for recipe in recipes.values()):
        return None
    if wanted is None and any(recipe.needs_text for recipe in recipes.values()):
        wanted = SELF
    if wanted is None:
        return None
    if wanted == SELF:
        return calibration.text_of_target(pair, asks, request.samples, request.sample_tokens, request.seed, progress)
    return calibration.text_of_file(pair, Path(wanted), request.samples, request.sample_tokens, request.seed)


def copy_files(record: ModelRecord, source: Path, folder: Path, with_model: bool) -> None:
    for name in record.files:
        if with_model or name not in IR_FILES:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, folder / name)


def compress_model(
    record: ModelRecord,
    source: Path,
    folder: Path,
    recipe: Recipe,
    preset: Preset,
    text: CalibrationText | None,
    progress: Progress,
) -> Recipe:
    """Compress, in whole rows where the preset's groups do not fit and none were asked for; the recipe as it was."""
    xml, out = source / IR_FILES[0], folder / IR_FILES[0]
    samples = calibration.samples_for(xml, text) if text is not None and recipe.uses_text else None
    size = recipe.group_size
    try:
        compress_ir(xml, out, recipe, preset, size, samples, recipe.dq_group)
    except GroupSizeError:
        if recipe.options.group_size is not None or recipe.options.fallback is not None:
            raise
        size = WHOLE_ROW
        progress.say(f"groups of {GROUP_SIZE} do not fit {record.architecture} at its width; one scale a row instead")
        compress_ir(xml, out, recipe, preset, size, samples, recipe.dq_group)
    if recipe.format.bits == 4 and size != WHOLE_ROW and recipe.format.fixed_group is None:
        found = weights_by_precision(out)
        name = recipe.format.precision
        other = sum(n for kind, (n, _) in found.items() if kind.startswith(name) and not kind.endswith(f"_g{size}"))
        if other:
            progress.say(
                f"{folder.name}: {other} matrices took smaller groups, because {size} does not divide their rows"
            )
    return replace(recipe, format=replace(recipe.format, default_group=size))


def _row(role: Role, before: ModelRecord, after: ModelRecord, folder: Path, recipe: Recipe) -> SizeRow:
    found = weights_by_precision(folder / IR_FILES[0])
    weights = sum(count for _, count in found.values())
    size = after.files[IR_FILES[1]].bytes
    return SizeRow(
        role=role,
        precision_before=before.precision,
        precision_after=after.precision,
        bytes_before=before.files[IR_FILES[1]].bytes,
        bytes_after=size,
        bits_per_weight=8 * size / weights,
        matrices={name: matrices for name, (matrices, _) in found.items()},
        shares={name: count / weights for name, (_, count) in found.items()},
        recipe=recipe.name,
        source=recipe.source,
    )


_UPSTREAM: Mapping[bool | None, tuple[str, ...]] = {
    None: (),
    True: ("--upstream-defaults",),
    False: ("--no-upstream-defaults",),
}


def described_command(pair_dir: str | Path, request: Request) -> str:
    words = ["edgespec", "quantize", str(pair_dir), "--for", request.device]
    for flag, value in (("--target", request.target), ("--draft", request.draft)):
        words += [flag, value] if value is not None else []
    for prefix, options in (("--", request.both), *((f"--{role}-", own) for role, own in request.own.items())):
        for name, value in options.given.items():
            flag = FLAGS[name].replace("--", prefix, 1)
            if isinstance(value, bool):
                words.append(flag if value else flag.replace("--", "--no-", 1))
            else:
                words += [flag, str(value)]
    if request.dataset is not None:
        words += [
            "--dataset",
            request.dataset,
            "--num-samples",
            str(request.samples),
            "--sample-tokens",
            str(request.sample_tokens),
        ]
    words += ["--seed", str(request.seed)] if request.seed else []
    return shlex.join([*words, *_UPSTREAM[request.upstream]])
