"""`edgespec quantize --sweep`: compress every candidate, judge all combinations, keep the winner as a pair."""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from edgespec.errors import EdgespecError
from edgespec.ir import input_names, weight_precision
from edgespec.pair import Made, ModelRecord, Pair, Role, installed_versions, record_files, write_manifest
from edgespec.progress import SILENT, Progress
from edgespec.resources import PeakMemory, require_memory
from edgespec.staging import require_absent, staged_directory, write_atomically

from . import sweep
from .assemble import compress_model, copy_files, described_command, records_of, require_floating
from .calibration import Ask
from .compress import require_packages
from .cost import NEW_TOKENS
from .formats import FORMATS, Preset
from .front import drawing
from .plan import MODEL_FILES, Request, estimate
from .recipe import Recipe, npu_group_size, preset_of
from .sweep import CANDIDATES, MIN_AGREEMENT, Combination, Models

_DECODED = 4
"""Combinations of the front that are decoded with for real."""
_DECODE_PROMPTS = 6


def sweep_pair(
    pair_dir: str | Path,
    out: str | Path,
    request: Request,
    *,
    asks: Sequence[Ask],
    max_new_tokens: int = NEW_TOKENS,
    min_agreement: float = MIN_AGREEMENT,
    progress: Progress = SILENT,
) -> tuple[Pair, list[Combination], Path, Made]:
    """Try the formats that make sense on `request.device`, and keep the best combination as the new pair `out`.

    asks: held-out text. min_agreement: share of top-1 tokens in which the winner's target must agree with the
    uncompressed one. Returns the pair, all combinations (fastest first), the drawing's path (beside the pair), and what
    the manifest says. Raises EdgespecError; `out` appears whole or not at all.
    """
    out = Path(out)
    started = time.perf_counter()
    preset = preset_of(request.device)
    _require_plain(request, min_agreement)
    plot = out.with_name(f"{out.name}-sweep.svg")
    for path in (out, plot):
        require_absent(path)
    require_packages()
    device = measuring_device(request.device, progress)
    with PeakMemory() as peak:
        with progress.task(f"checking '{pair_dir}'"):
            pair = Pair.open(pair_dir)
        records = records_of(pair, request)
        require_floating(pair, dict.fromkeys(records, FORMATS["int8"]))
        if "draft" in records and "hidden_states" in input_names(pair.root / "draft" / MODEL_FILES[0]):
            raise EdgespecError(
                "the draft is an EAGLE head, whose acceptance cannot be computed without its target's hidden states; "
                "quantize the formats one by one and compare them with edgespec bench"
            )
        wanted: list[tuple[Role, str, Recipe]] = [
            (role, name, _candidate(name, preset, records[role]))
            for role in records
            for name in CANDIDATES[request.device][role]
        ]
        _require_memory(records, wanted)
        need = sum(estimate(records[role], recipe) for role, _, recipe in wanted)
        with staged_directory(out, need, progress) as staged:
            tried = staged / ".sweep"
            tried.mkdir()
            models = Models({"none": pair.target}, {})
            with progress.task("compressing the candidates", total=len(wanted)) as task:
                for role, name, recipe in wanted:
                    folder = pair.root / role
                    if recipe.format.mode is not None:
                        task.describe(f"compressing the {role} to {name}")
                        folder = tried / f"{role}-{name}"
                        copy_files(records[role], pair.root / role, folder, with_model=False)
                        compress_model(records[role], pair.root / role, folder, recipe, preset, None, progress)
                    getattr(models, role)[name] = folder
                    task.advance()
            scratch = tried / "logits"
            scratch.mkdir()
            found = sweep.judge(
                pair,
                models,
                asks,
                device,
                progress,
                max_new_tokens=max_new_tokens,
                min_agreement=min_agreement,
                scratch=scratch,
            )
            found = _decoded(pair, models, found, asks, device, max_new_tokens, progress)
            winner = next(one for one in found if one.winner)
            made = _keep(pair, models, winner, records, staged, tried, progress)
            this = Made(
                command=f"{described_command(pair_dir, request)} --sweep",
                versions=installed_versions("nncf"),
                at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
                seconds=round(time.perf_counter() - started, 1),
                peak_anonymous_bytes=peak.anonymous_bytes,
                checks={
                    "sweep": {"device": device, "min_agreement": min_agreement, "combinations": sweep.document(found)}
                },
            )
            manifest = pair.manifest.model_copy(
                update={
                    "target": made["target"],
                    "draft": made.get("draft"),
                    "made": [*pair.manifest.made, this],
                    "profiles": [],
                }
            )
            write_manifest(staged, manifest)
        write_atomically(plot, drawing(sweep.points(found), f"{pair.root.name} on {device}: weight formats"))
    return Pair(out, manifest), found, plot, this


def _candidate(name: str, preset: Preset, record: ModelRecord) -> Recipe:
    chosen = FORMATS[name]
    if preset.strict and chosen.grouped:
        chosen = replace(chosen, default_group=npu_group_size(chosen, record.parameters))
    return Recipe(chosen)


def measuring_device(name: str, progress: Progress) -> str:
    """Where passes are timed: the device itself, where it is here and takes one token at a time; else the CPU."""
    import openvino

    if name == "cpu":
        return "CPU"
    if name == "gpu" and any(device.startswith("GPU") for device in openvino.Core().available_devices):
        return "GPU"
    why = "an NPU runs whole pipelines only" if name == "npu" else "there is no GPU here"
    progress.say(f"passes are timed on the CPU, because {why}: formats are those for {name}, speeds are not")
    return "CPU"


def _require_plain(request: Request, min_agreement: float) -> None:
    own = any(options.given for options in request.own.values())
    if request.target is not None or request.draft is not None or request.both.given or own or request.dataset:
        raise EdgespecError(
            "--sweep chooses the formats itself; leave out --target, --draft, their options and --dataset, or leave "
            "out --sweep"
        )
    plain = Request(device=request.device)
    if (request.samples, request.sample_tokens, request.seed) != (plain.samples, plain.sample_tokens, plain.seed):
        raise EdgespecError(
            "--num-samples, --sample-tokens and --seed are for calibration text, and --sweep uses none; leave them out"
        )
    if request.upstream is not None:
        raise EdgespecError(
            "--upstream-defaults and --no-upstream-defaults choose a setting for int4, and --sweep compares round-to-"
            "nearest formats; leave them out"
        )
    if not 0 <= min_agreement <= 1:
        raise EdgespecError(f"--min-agreement is a share of tokens, from 0 to 1, not {min_agreement:g}")


def _require_memory(records: dict[Role, ModelRecord], wanted: Sequence[tuple[Role, str, Recipe]]) -> None:
    """All candidates are open at once, so that their times can be compared."""
    need = 800_000_000
    need += 2 * records["target"].files[MODEL_FILES[1]].bytes  # uncompressed, it runs in f32
    need += sum(records[role].parameters * recipe.format.bits // 8 * 13 // 10 for role, _, recipe in wanted)
    require_memory(need, f"a sweep over {len(wanted)} candidates, all open at once so that times can be compared,")


def _decoded(
    pair: Pair,
    models: Models,
    found: Sequence[Combination],
    asks: Sequence[Ask],
    device: str,
    max_new_tokens: int,
    progress: Progress,
) -> list[Combination]:
    some = [one for one in found if one.on_front or one.winner][:_DECODED]
    some += [one for one in found if one.winner and one not in some]
    times = sweep.decode(pair, models, some, asks[:_DECODE_PROMPTS], device, max_new_tokens, progress)
    return [replace(one, decoded_ms_per_token=times.get(one.label)) for one in found]


def _keep(
    pair: Pair,
    models: Models,
    winner: Combination,
    records: dict[Role, ModelRecord],
    staged: Path,
    tried: Path,
    progress: Progress,
) -> dict[Role, ModelRecord]:
    """The winner's models as the pair's own; the others go."""
    gc.collect()  # models that are still mapped cannot be moved on Windows
    made: dict[Role, ModelRecord] = {}
    for role, record in records.items():
        source = getattr(models, role)[getattr(winner, role)]
        folder = staged / role
        if source == pair.root / role:
            copy_files(record, source, folder, with_model=True)
        else:
            source.rename(folder)
        with progress.task(f"checking the {role} that is kept"):
            precision = weight_precision(folder / MODEL_FILES[0])
            made[role] = record.model_copy(update={"precision": precision, "files": record_files(folder)})
    shutil.rmtree(tried)
    return made
