"""`edgespec quantize --sweep`: compress every candidate, judge all combinations, keep the winner as a pair."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgespec import resources
from edgespec.errors import EdgespecError
from edgespec.ir import IR_FILES, input_names, weight_precision
from edgespec.pair import Made, ModelRecord, Pair, Role, installed_versions, record_files, write_manifest
from edgespec.progress import SILENT, Progress
from edgespec.resources import PeakMemory
from edgespec.staging import replace as move
from edgespec.staging import require_absent, staged_directory, write_atomically

from . import sweep
from .assemble import compress_model, copy_files, described_command, records_of, require_floating
from .compress import require_packages
from .cost import NEW_TOKENS, held_out, logits_bytes, require_held_out, shared_vocabulary
from .footprint import PROCESS_BYTES, open_bytes
from .formats import FORMATS, Preset
from .front import drawing
from .heats import plan_heats
from .plan import Request, estimate
from .recipe import Recipe, npu_group_size, preset_of
from .scratch import scratch_folder
from .sweep import CANDIDATES, MIN_AGREEMENT, Combination
from .texts import Ask, Windows
from .timing import Candidate, Models, decode

UNCOMPRESSED: Candidate = ("target", "none")
_DECODED = 4
"""Combinations of the front that are decoded with for real."""
_DECODE_PROMPTS = 6


@dataclass(frozen=True)
class _Plan:
    """What is compressed, and what each model is expected to hold of memory when it is open, by candidate."""

    recipes: Mapping[Candidate, Recipe]
    needs: Mapping[Candidate, int]

    @property
    def reference(self) -> Candidate:
        """The target in every heat: the smallest, so that most fits beside it."""
        return min((one for one in self.recipes if one[0] == "target"), key=lambda one: self.needs[one])

    def heats(self) -> list[tuple[Candidate, ...]]:
        """For the memory that is free now. The uncompressed target is left out where it does not fit beside the
        reference: it is there to be compared with, and never kept."""
        free = resources.available_memory_bytes() - PROCESS_BYTES
        needs = dict(self.needs)
        if needs[UNCOMPRESSED] + needs[self.reference] > free:
            del needs[UNCOMPRESSED]
        return plan_heats(needs, self.reference, free)

    def told(self, heats: Sequence[Sequence[Candidate]]) -> str:
        free = resources.available_memory_bytes()
        targets = sum(role == "target" for role, _ in self.recipes)
        what = f"{targets} formats of the target and {len(self.recipes) - targets} of the draft"
        timed = {one for heat in heats for one in heat}
        need = sum(self.needs[one] for one in timed) + PROCESS_BYTES
        if len(heats) == 1:
            how = f"all {len(timed)} models at once (about {need / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free)"
        else:
            how = (
                f"{len(timed)} models in {len(heats)} heats of at most {max(map(len, heats))}, the target as "
                f"{self.reference[1]} in each (all at once would take about {need / 1e9:.1f} GB of memory and "
                f"{free / 1e9:.1f} GB are free)"
            )
        left = "" if UNCOMPRESSED in timed else "; the uncompressed target is too large to be timed beside another"
        return f"the sweep compresses {what}, then times passes of {how}{left}"


def sweep_pair(
    pair_dir: str | Path,
    out: str | Path,
    request: Request,
    *,
    asks: Sequence[Ask],
    source: Path | None = None,
    max_new_tokens: int = NEW_TOKENS,
    min_agreement: float = MIN_AGREEMENT,
    progress: Progress = SILENT,
) -> tuple[Pair, list[Combination], Path, Made]:
    """Try the formats that make sense on `request.device`, and keep the best combination as the new pair `out`.

    asks: held-out text; source: the user's file that it is from. min_agreement: share of top-1 tokens in which the
    winner's target must agree with the uncompressed one. Returns the pair, all combinations (fastest first), the
    drawing's path (beside the pair), and what the manifest says. Raises EdgespecError; `out` appears whole or not at
    all.
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
        pair, records = _opened(pair_dir, request)
        plan = _planned(records, request.device, preset)
        _require_memory(plan)
        progress.say(plan.told(heats := plan.heats()))
        require_held_out(pair, asks, source)
        with progress.task(f"checking '{pair_dir}'"):
            Pair.open(pair_dir)
        text = held_out(pair, asks, request.seed)
        progress.say(f"formats are compared on {text.described}, held out")
        need = sum(estimate(records[role], recipe) for (role, _), recipe in plan.recipes.items())
        with staged_directory(out, need + logits_bytes(shared_vocabulary(pair)), progress) as staged:
            with scratch_folder(staged, "sweep") as tried:
                models = _compressed(pair, records, plan, preset, tried, progress)
                if len(now := plan.heats()) != len(heats):
                    progress.say(f"free memory has changed since: {plan.told(now)}")
                found = _judged(pair, models, plan, now, text, device, max_new_tokens, min_agreement, tried, progress)
                made = _keep(pair, models, next(one for one in found if one.winner), records, staged, progress)
            this = Made(
                command=f"{described_command(pair_dir, request)} --sweep",
                versions=installed_versions("nncf"),
                at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
                seconds=round(time.perf_counter() - started, 1),
                peak_anonymous_bytes=peak.anonymous_bytes,
                checks={"sweep": _document(found, device, min_agreement, now, text)},
            )
            after: dict[str, Any] = {"target": made["target"], "draft": made.get("draft"), "profiles": []}
            manifest = pair.manifest.model_copy(update={**after, "made": [*pair.manifest.made, this]})
            write_manifest(staged, manifest)
        write_atomically(plot, drawing(sweep.points(found), f"{pair.root.name} on {device}: weight formats"))
    return Pair(out, manifest), found, plot, this


def _opened(pair_dir: str | Path, request: Request) -> tuple[Pair, dict[Role, ModelRecord]]:
    """The uncompressed pair; no hash is looked at yet. Raises EdgespecError also for a draft whose acceptance cannot be
    computed."""
    pair = Pair.open(pair_dir, verify=False)
    records = records_of(pair, request)
    require_floating(pair, dict.fromkeys(records, FORMATS["int8"]))
    if "draft" in records and "hidden_states" in input_names(pair.root / "draft" / IR_FILES[0]):
        raise EdgespecError(
            "the draft is an EAGLE head, whose acceptance cannot be computed without its target's hidden states; "
            "quantize the formats one by one and compare them with edgespec bench"
        )
    return pair, records


def _planned(records: Mapping[Role, ModelRecord], device: str, preset: Preset) -> _Plan:
    recipes = {
        (role, name): _candidate(name, preset, records[role]) for role in records for name in CANDIDATES[device][role]
    }
    kept = {UNCOMPRESSED: open_bytes(records["target"], FORMATS["none"])}
    return _Plan(recipes, kept | {one: open_bytes(records[one[0]], recipe.format) for one, recipe in recipes.items()})


def _candidate(name: str, preset: Preset, record: ModelRecord) -> Recipe:
    chosen = FORMATS[name]
    if preset.strict and chosen.grouped:
        chosen = replace(chosen, default_group=npu_group_size(chosen, record.parameters))
    return Recipe(chosen)


def _require_memory(plan: _Plan) -> None:
    doing = "a sweep runs the uncompressed target, with which every format is compared, and"
    resources.require_memory(plan.needs[UNCOMPRESSED] + PROCESS_BYTES, doing)


def _compressed(
    pair: Pair, records: Mapping[Role, ModelRecord], plan: _Plan, preset: Preset, tried: Path, progress: Progress
) -> Models:
    """Every candidate in a folder of its own below `tried`; one that is kept as it is stays where it is."""
    folders: dict[Role, dict[str, Path]] = {"target": {"none": pair.target}, "draft": {}}
    with progress.task("compressing the candidates", total=len(plan.recipes)) as task:
        for (role, name), recipe in plan.recipes.items():
            folder = pair.root / role
            if recipe.format.mode is not None:
                task.describe(f"compressing the {role} to {name}")
                folder = tried / f"{role}-{name}"
                copy_files(records[role], pair.root / role, folder, with_model=False)
                compress_model(records[role], pair.root / role, folder, recipe, preset, None, progress)
            folders[role][name] = folder
            task.advance()
    return Models(folders["target"], folders["draft"])


def _judged(
    pair: Pair,
    models: Models,
    plan: _Plan,
    heats: Sequence[Sequence[Candidate]],
    text: Windows,
    device: str,
    max_new_tokens: int,
    min_agreement: float,
    tried: Path,
    progress: Progress,
) -> list[Combination]:
    """All combinations, with what real decoding takes of the best."""
    with scratch_folder(tried, "logits") as scratch:
        found = sweep.judge(
            pair,
            models,
            heats,
            text.ids,
            device,
            progress,
            max_new_tokens=max_new_tokens,
            min_agreement=min_agreement,
            scratch=scratch,
        )
    some = [one for one in found if one.on_front and not one.winner][:_DECODED]
    winner = next(one for one in found if one.winner)
    engines = {one.label: (one.target, one.draft, one.gamma) for one in (winner, *some)}
    needs = {
        label: plan.needs["target", target] + (plan.needs["draft", draft] if gamma else 0)
        for label, (target, draft, gamma) in engines.items()
    }
    try:
        turns = plan_heats(needs, winner.label, resources.available_memory_bytes() - PROCESS_BYTES)
    except EdgespecError as error:  # the passes have told which is best, and that is not to be lost
        progress.say(f"the best are not decoded with for real: {error}")
        return found
    named = [[engines[label] for label in heat] for heat in turns]
    times = decode(pair, models, named, text.ids[:_DECODE_PROMPTS], device, max_new_tokens, progress)
    return [replace(one, decoded_ms_per_token=times.get((one.target, one.draft))) for one in found]


def _document(
    found: Sequence[Combination],
    device: str,
    min_agreement: float,
    heats: Sequence[Sequence[Candidate]],
    text: Windows,
) -> dict[str, Any]:
    return {
        "device": device,
        "min_agreement": min_agreement,
        "heats": [[" ".join(one) for one in heat] for heat in heats],
        "texts": {"prompts": len(text.ids), "tokens": sum(map(len, text.ids)), "found": text.found},
        "combinations": sweep.document(found),
    }


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
    if (request.samples, request.sample_tokens) != (plain.samples, plain.sample_tokens):
        raise EdgespecError(
            "--num-samples and --sample-tokens are for calibration text, and --sweep uses none; leave them out"
        )
    if request.upstream is not None:
        raise EdgespecError(
            "--upstream-defaults and --no-upstream-defaults choose a setting for int4, and --sweep compares round-to-"
            "nearest formats; leave them out"
        )
    if not 0 <= min_agreement <= 1:
        raise EdgespecError(f"--min-agreement is a share of tokens, from 0 to 1, not {min_agreement:g}")


def _keep(
    pair: Pair,
    models: Models,
    winner: Combination,
    records: Mapping[Role, ModelRecord],
    staged: Path,
    progress: Progress,
) -> dict[Role, ModelRecord]:
    """The winner's models as the pair's own."""
    gc.collect()  # models that are still mapped cannot be moved on Windows
    made: dict[Role, ModelRecord] = {}
    for role, record in records.items():
        source = getattr(models, role)[getattr(winner, role)]
        folder = staged / role
        if source == pair.root / role:
            copy_files(record, source, folder, with_model=True)
        else:
            move(source, folder)
        with progress.task(f"checking the {role} that is kept"):
            precision = weight_precision(folder / IR_FILES[0])
            made[role] = record.model_copy(update={"precision": precision, "files": record_files(folder)})
    return made
