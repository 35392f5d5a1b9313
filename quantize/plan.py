"""What is asked for, and what comes of it for each model: a recipe, its memory and its disk, before a model loads.

All of it works from a model's record, so that `export --weights` can ask about models that do not exist yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgespec import resources
from edgespec.errors import EdgespecError
from edgespec.ir import IR_FILES, input_names
from edgespec.pair import ModelRecord, Role
from edgespec.progress import SILENT, Progress

from .calibration import SAMPLES, SELF, TOKENS
from .compress import require_packages
from .formats import FORMATS, Preset
from .recipe import (
    FLAGS,
    NO_OPTIONS,
    Options,
    Recipe,
    applied,
    check,
    format_named,
    npu_group_size,
    preset_of,
    require_taken,
)
from .texts import FEWEST_TOKENS, read_texts
from .upstream import Tuned, tuned_setting

_WORKING_BYTES = 1_200_000_000
"""NNCF itself, and a slice of a matrix in f32 (measured: 0.24 GB beside 0.19 GB of imports for a 3.8 GB checkpoint)."""


@dataclass(frozen=True)
class Request:
    """What is asked for. target, draft: a name in FORMATS; None takes what the preset for `device` says, or, for a
    target that optimum-intel has a tuned int4 setting for, that setting. both: options for every model whose format
    takes them; own: those of one model, which win. dataset: a file of text, or "self".

    upstream: whether tuned settings are used: True insists and is refused where one cannot be followed, None uses them
    where there is the text and the memory, False never does. seed: of the text that is drawn, whoever wrote it.
    """

    device: str = "cpu"
    target: str | None = None
    draft: str | None = None
    both: Options = NO_OPTIONS
    own: Mapping[Role, Options] = field(default_factory=dict)
    dataset: str | None = None
    samples: int = SAMPLES
    sample_tokens: int = TOKENS
    upstream: bool | None = None
    seed: int = 0


def check_request(request: Request) -> Preset:
    """Refuse what needs no look at a model to be refused; the preset of the device that is asked for."""
    preset = preset_of(request.device)
    named = {"target": request.target or preset.target, "draft": request.draft or preset.draft}
    formats = {role: format_named(name, role, preset) for role, name in named.items()}
    require_taken(request.both, formats)
    if request.samples < 1:
        raise EdgespecError(f"--num-samples must be at least 1, not {request.samples}")
    if request.sample_tokens < FEWEST_TOKENS:
        raise EdgespecError(
            f"--sample-tokens must be at least {FEWEST_TOKENS}, not {request.sample_tokens}: shorter "
            "samples show the model too little of what it will see"
        )
    if request.dataset not in (None, SELF):
        read_texts(Path(str(request.dataset)))
    for role, chosen in formats.items():
        own = request.own.get(role, Options())  # type: ignore[call-overload]
        check(
            role,
            request.device,
            Recipe(chosen, applied(role, chosen, request.both, own)),
            request.dataset is not None,
        )
    require_packages()
    return preset


def foresee(models: Mapping[Role, tuple[ModelRecord, Path]], request: Request) -> int:
    """Refuse what `quantize` would refuse of models that are still to be exported, and say how many bytes of disk it
    will want for them.

    models: the record that each will have, as far as it decides anything (kind, parameters, bytes of its files), and
    the folder that holds its config.json. There will be no prompts to calibrate with.
    """
    preset = check_request(request)
    recipes = {
        role: recipe_for(role, record, folder, request, preset, can_ask=False)
        for role, (record, folder) in models.items()
    }
    require_work(recipes, request.dataset)
    for role, recipe in recipes.items():
        require_memory_for(role, models[role][0], recipe, request)
    return sum(estimate(models[role][0], recipe) for role, recipe in recipes.items())


def recipe_for(
    role: Role,
    record: ModelRecord,
    folder: Path,
    request: Request,
    preset: Preset,
    *,
    can_ask: bool,
    progress: Progress = SILENT,
) -> Recipe:
    """What is asked for one model: the user's words, else upstream's tuned setting, else the preset.

    folder: of its config.json, and of its IR where there is one. can_ask: whether there are prompts for the target, so
    that it can write calibration text. Raises EdgespecError for what cannot be done.
    """
    name = (request.target if role == "target" else request.draft) or (
        preset.target if role == "target" else preset.draft
    )
    chosen = format_named(name, role, preset)
    own = request.own.get(role, Options())
    options = applied(role, chosen, request.both, own)
    recipe = Recipe(chosen, options)
    if name == "int4" or (preset.strict and chosen.mode == "int4_sym" and not options.given):
        tuned = tuned_setting(record.source.id, folder)
        if isinstance(tuned, str):
            progress.say(f"{tuned}; the {role} gets {recipe.name}")
        elif tuned is not None:
            recipe = _tuned_or_not(role, record, recipe, tuned, request, preset, can_ask, progress)
    has_text = request.dataset is not None or (recipe.source is not None and recipe.needs_text)
    check(role, request.device, recipe, has_text)
    if recipe.uses_text and (has_text or recipe.needs_text) and _reads_hidden_states(record, folder):
        raise EdgespecError(
            f"the {role} is an EAGLE draft: it reads the target's hidden states, which calibration text lacks, and "
            f"{recipe.name} would rest on zeros; compress it without text, for example with --{role} int8"
        )
    if chosen.grouped and preset.strict and recipe.options.group_size is None:
        size = npu_group_size(chosen, record.parameters)
        recipe = replace(recipe, format=replace(chosen, default_group=size))
    return recipe


def require_work(recipes: Mapping[Role, Recipe], dataset: str | None) -> None:
    """Refuse to compress nothing, and text that nothing uses."""
    if all(recipe.format.mode is None for recipe in recipes.values()):
        raise EdgespecError("there is nothing to compress when every model is to be kept; choose a format for one")
    if dataset is not None and not any(recipe.uses_text for recipe in recipes.values()):
        raise EdgespecError(
            f"--dataset {dataset} was given and nothing uses it: rounding to nearest looks at weights only; add --awq, "
            "--scale-estimation, --gptq, --lora-correction or --ratio below 1, or leave the dataset out"
        )


def _reads_hidden_states(record: ModelRecord, folder: Path) -> bool:
    xml = folder / IR_FILES[0]
    return record.kind == "eagle3" or (xml.is_file() and "hidden_states" in input_names(xml))


def _tuned_or_not(
    role: Role,
    record: ModelRecord,
    recipe: Recipe,
    tuned: Tuned,
    request: Request,
    preset: Preset,
    can_ask: bool,
    progress: Progress,
) -> Recipe:
    if request.upstream is False:
        return recipe
    where = f"optimum-intel's tuned setting for {tuned.name}"
    as_tuned = Recipe(
        FORMATS["int4_sym" if tuned.symmetric else "int4_asym"], tuned.options, where, dq_group=tuned.dq_group
    )
    as_tuned = replace(as_tuned, calibrated=tuned.dataset is not None and as_tuned.uses_text)
    aside = f"{where} ({as_tuned.name}) is left aside"
    against = (
        "an NPU runs symmetric int4 only, in one group size"
        if preset.strict
        else f"{FLAGS[next(iter(recipe.options.given))]} was given"
        if recipe.options.given
        else None
    )
    if against is not None and request.upstream:
        raise EdgespecError(f"--upstream-defaults asks for {where} ({as_tuned.name}), and {against}; drop one of them")
    if against is not None:
        progress.say(f"{aside}, because {against}")
        return recipe
    lacks_text = as_tuned.needs_text and request.dataset is None and not can_ask
    need, free = memory_need(record, as_tuned, request.dataset is not None), resources.available_memory_bytes()
    if request.upstream is None and request.dataset is None and (lacks_text or need > free):
        why = (
            "it needs calibration text and there is none here"
            if lacks_text
            else f"it needs about {need / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free"
        )
        progress.say(
            f"{aside}, because {why}; the {role} gets round-to-nearest {recipe.name} (edgespec quantize "
            "--upstream-defaults insists on the tuned one)"
        )
        return recipe
    if lacks_text:
        raise EdgespecError(
            f"{where} ({as_tuned.name}) needs calibration text and there is none; give --dataset FILE, or "
            "--no-upstream-defaults for round-to-nearest int4"
        )
    progress.say(f"the {role} gets {where}: {as_tuned.name}")
    if tuned.dataset and request.dataset is None:
        progress.say(
            f"upstream calibrates it with {tuned.dataset}; here the target writes the text itself "
            "(--dataset FILE for yours, --no-upstream-defaults for round-to-nearest int4)"
        )
    return as_tuned


def memory_need(record: ModelRecord, recipe: Recipe, has_text: bool) -> int:
    """Bytes: rounding to nearest works in slices; AWQ rewrites weights in memory; statistics run the model in f32."""
    if recipe.format.mode is None:
        return 0
    weights = record.files[IR_FILES[1]].bytes
    need = min(_WORKING_BYTES, 300_000_000 + weights)
    if recipe.needs_text or (recipe.uses_text and has_text):
        need += round(2.2 * weights)
    elif recipe.uses_text:
        need += weights
    return need


def require_memory_for(role: Role, record: ModelRecord, recipe: Recipe, request: Request) -> None:
    """Refuse what does not fit. A tuned setting that was insisted on names the way round it."""
    doing = f"compressing the {role} to {recipe.name}"
    try:
        resources.require_memory(memory_need(record, recipe, request.dataset is not None), doing)
    except EdgespecError as error:
        if recipe.source is None:
            raise
        raise EdgespecError(f"{error}; or take --no-upstream-defaults, for round-to-nearest int4") from error


def estimate(record: ModelRecord, recipe: Recipe) -> int:
    """Bytes the model will take at most, twice for what is compressed: once in the scratch file, once when saved. 8
    bits a weight and a tenth, whatever the format (embeddings keep 8 bits)."""
    total = sum(file.bytes for file in record.files.values())
    if recipe.format.mode is None:
        return total
    weights = record.files[IR_FILES[1]].bytes
    small = recipe.format.bits == 4 and recipe.options.ratio in (None, 1.0)
    most = record.parameters * (8 if small else 11) // 10
    return total - weights + 2 * min(weights, most)
