"""What is done to one model: a format with its options. Whatever cannot be done is refused here, before a model loads.

The rules are nncf 3.4's own (quantize_model.py, weight_compression/algorithm.py: check_user_compression_configuration)
and each device's; two of them are stricter than upstream, which obeys neither: a ratio of 0, which it takes for 1, and
a sensitivity metric where the ratio is 1 and nothing is chosen.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from edgespec.errors import EdgespecError

from .formats import FORMATS, GROUP_SIZE, NPU_WHOLE_ROW_ABOVE, PRESETS, WHOLE_ROW, Format, Preset

FALLBACKS = ("error", "ignore", "adjust")
BACKUPS = ("none", "int8_sym", "int8_asym", "fp8_e4m3", "mxfp8_e4m3")
WITHOUT_DATA = "weight_quantization_error"
METRICS = (
    WITHOUT_DATA,
    "hessian_input_activation",
    "mean_activation_variance",
    "max_activation_variance",
    "mean_activation_magnitude",
)
_CORRECTIONS = {
    "awq": "AWQ",
    "scale_estimation": "scale estimation",
    "gptq": "GPTQ",
    "lora_correction": "LoRA correction",
}


@dataclass(frozen=True)
class Options:
    """NNCF's choices beside the format; None is not asked for. group_size: weights that share a scale, -1 for a whole
    row. fallback: where a group size does not divide a matrix: error, ignore (keep it as it is) or adjust (a smaller
    power of two down to 32, else the backup). ratio: share of the weights in the format, the others in the backup.
    metric: which matrices those are."""

    group_size: int | None = None
    fallback: str | None = None
    ratio: float | None = None
    all_layers: bool | None = None
    backup: str | None = None
    awq: bool | None = None
    scale_estimation: bool | None = None
    gptq: bool | None = None
    lora_correction: bool | None = None
    metric: str | None = None

    @property
    def given(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}

    def over(self, other: Options) -> Options:
        """These, and `other`'s where nothing is asked for here."""
        return replace(other, **self.given)


NO_OPTIONS = Options()
FLAGS = {
    field.name: {"fallback": "--group-size-fallback", "metric": "--sensitivity-metric"}.get(
        field.name, f"--{field.name.replace('_', '-')}"
    )
    for field in fields(Options)
}


@dataclass(frozen=True)
class Recipe:
    """A format with its options. source: the upstream setting it is, when it is one.

    calibrated: upstream gives it calibration text, though NNCF would do without. dq_group: the dynamic quantization
    group that upstream stores in the model.
    """

    format: Format
    options: Options = NO_OPTIONS
    source: str | None = None
    calibrated: bool = False
    dq_group: int | None = None

    @property
    def group_size(self) -> int:
        return self.options.group_size if self.options.group_size is not None else self.format.default_group

    @property
    def needs_text(self) -> bool:
        """Whether it cannot be done, or not as upstream does it, without calibration text."""
        chosen = self.options
        metric = chosen.metric not in (None, WITHOUT_DATA)
        return bool(self.calibrated or chosen.scale_estimation or chosen.gptq or chosen.lora_correction or metric)

    @property
    def uses_text(self) -> bool:
        """Whether calibration text changes the result: AWQ and a ratio below 1 do without, and better with."""
        partly = self.options.ratio is not None and self.options.ratio < 1 and self.options.metric != WITHOUT_DATA
        return self.needs_text or bool(self.options.awq) or partly

    @property
    def name(self) -> str:
        """Such as `int4_sym group 128, ratio 0.8, AWQ`."""
        if self.format.mode is None:
            return "kept"
        words = [self.format.mode]
        if self.format.grouped:
            words[0] += " whole rows" if self.group_size == WHOLE_ROW else f" group {self.group_size}"
        chosen = self.options
        words += [f"ratio {chosen.ratio:g}"] if chosen.ratio is not None and chosen.ratio < 1 else []
        words += ["all layers"] if chosen.all_layers else []
        words += [word for name, word in _CORRECTIONS.items() if getattr(chosen, name)]
        return ", ".join(words)


def preset_of(device: str) -> Preset:
    if device not in PRESETS:
        raise EdgespecError(f"there is no preset for '{device}'; choose {', '.join(PRESETS)}")
    return PRESETS[device]


def format_named(name: str, role: str, preset: Preset) -> Format:
    """The format `name`. Raises EdgespecError naming the choices, those of an NPU where it is one."""
    if name not in FORMATS:
        raise EdgespecError(f"'{name}' is not a weight format for the {role}; choose {', '.join(FORMATS)}")
    chosen = FORMATS[name]
    if preset.strict and chosen.mode not in (None, "int4_sym", "nf4"):
        raise EdgespecError(
            f"'{name}' for the {role} does not run on an NPU; choose int4_sym, nf4 (Core Ultra series 2 and later), or "
            "none to keep it: its compiler takes symmetric 4-bit weights only, and fails late and obscurely on others"
        )
    return chosen


def require_taken(both: Options, formats: dict[str, Format]) -> None:
    """Refuse an option for all models that no model's format can take."""
    if both.given and not any(chosen.grouped for chosen in formats.values()):
        name = next(iter(both.given))
        if name == "group_size":
            raise EdgespecError(
                "a group size belongs to int4, and int8 has one scale a row; leave it out or choose int4"
            )
        raise EdgespecError(f"{FLAGS[name]} belongs to the 4-bit and fp8 formats, and no model is to get one")


def applied(role: str, chosen: Format, both: Options, own: Options) -> Options:
    """The options of one model: its own over those for all. Raises EdgespecError when its format takes none."""
    if chosen.grouped:
        return own.over(both)
    if own.given:
        name = next(iter(own.given))
        flag = FLAGS[name].replace("--", f"--{role}-", 1)
        what = "to be kept as it is" if chosen.mode is None else f"to become {chosen.mode}, which has no such choice"
        raise EdgespecError(f"{flag} was given and the {role} is {what}; leave it out or choose another format")
    return Options()


def check(role: str, device: str, recipe: Recipe, has_text: bool) -> None:
    """Refuse what NNCF or the device cannot do. has_text: whether there will be calibration text."""
    chosen, options = recipe.format, recipe.options
    if not chosen.grouped:
        return
    if options.ratio is not None and not 0 < options.ratio <= 1:
        raise EdgespecError(
            f"--ratio {options.ratio:g} for the {role} is no share of the weights; choose above 0 and at most 1"
        )
    for value, choices, flag in (
        (options.fallback, FALLBACKS, "--group-size-fallback"),
        (options.backup, BACKUPS, "--backup"),
        (options.metric, METRICS, "--sensitivity-metric"),
    ):
        if value is not None and value not in choices:
            raise EdgespecError(f"{flag} {value} is not known; choose {', '.join(choices)}")
    if device == "npu":  # its sentence is the more useful one
        _check_npu(role, recipe)
    _check_groups(role, recipe)
    if not chosen.corrected:
        for name, word in _CORRECTIONS.items():
            if getattr(options, name):
                raise EdgespecError(
                    f"{word} works on int4, nf4 and cb4, not on {chosen.mode} as the {role} is to get; leave it out"
                )
    if options.gptq and options.lora_correction:
        raise EdgespecError("GPTQ and LoRA correction exclude one another in NNCF; choose one of them")
    if options.metric is not None and (options.ratio is None or options.ratio == 1):
        raise EdgespecError(
            "a sensitivity metric chooses which matrices stay in the backup format, and at ratio 1 none do; give "
            "--ratio below 1, or leave the metric out"
        )
    if recipe.needs_text and not has_text:
        what = next((word for name, word in _CORRECTIONS.items() if name != "awq" and getattr(options, name)), None)
        raise EdgespecError(
            f"{what or f'the metric {options.metric}'} for the {role} needs calibration text; give --dataset FILE, or "
            "--dataset self for text that the target writes"
        )


def _check_groups(role: str, recipe: Recipe) -> None:
    chosen, size = recipe.format, recipe.options.group_size
    if chosen.fixed_group is not None:
        if size not in (None, chosen.fixed_group):
            raise EdgespecError(f"{chosen.mode} has groups of {chosen.fixed_group}, not {size}; leave the size out")
        if recipe.options.fallback == "adjust":
            raise EdgespecError(f"{chosen.mode} has one group size, so the fallback cannot adjust it; choose error")
    if size is not None and size != WHOLE_ROW and (size < 16 or size & (size - 1)):
        raise EdgespecError(f"there are no groups of {size}; choose a power of two from 16, or -1 (a whole row)")


def _check_npu(role: str, recipe: Recipe) -> None:
    options, size = recipe.options, recipe.options.group_size
    if size not in (None, GROUP_SIZE, WHOLE_ROW):
        raise EdgespecError(
            f"an NPU runs groups of 128 or whole rows (-1), not {size}; choose one of these: its compiler "
            "fails on others"
        )
    if recipe.format.mode == "nf4" and size == GROUP_SIZE:
        raise EdgespecError("an NPU runs nf4 with whole rows only; give --group-size -1, or choose int4_sym")
    if options.ratio not in (None, 1.0):
        raise EdgespecError(
            f"an NPU wants ratio 1.0, not {options.ratio:g}: it runs one weight format in all layers; leave it out"
        )
    if options.fallback not in (None, "error"):
        raise EdgespecError(
            f"an NPU wants one group size in all layers, and --group-size-fallback {options.fallback} mixes them; "
            "choose error, or --group-size -1"
        )
    if options.backup not in (None, "int8_sym", "int8_asym"):
        raise EdgespecError(f"an NPU wants embedding and head in 8-bit integers, not {options.backup}; choose int8_sym")


def npu_group_size(chosen: Format, parameters: int) -> int:
    """Whole rows for large models and nf4, groups of 128 otherwise."""
    return WHOLE_ROW if parameters > NPU_WHOLE_ROW_ABOVE or chosen.mode == "nf4" else GROUP_SIZE
