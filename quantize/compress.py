"""One IR compressed by NNCF: weights only, as a recipe says, in little memory (lean.py).

NNCF (3.4) leaves the exporter's KV_CACHE_PRECISION=f16 in the model, so the plugin would keep a 16-bit KV cache beside
4-bit weights; it is removed here, as optimum-intel does when it quantizes, and the plugin's default (u8 on CPU) holds.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgespec.errors import EdgespecError
from edgespec.ir import check_ir, require_room_left, weight_precision

from .formats import WHOLE_ROW, Preset
from .lean import lean_compression
from .recipe import Recipe
from .scratch import scratch_folder

SCRATCH = "weights"
"""Name of the scratch folder beside a model while it is compressed."""


class GroupSizeError(EdgespecError):
    """Some matrix's rows are no multiple of the group size, and the preset allows no other."""


def require_packages() -> None:
    """Raise EdgespecError naming the extra to install when NNCF is missing."""
    if importlib.util.find_spec("nncf") is None:
        raise EdgespecError('quantize needs nncf, not installed here; run: pip install "edgespec[export]"')


def compress_ir(
    xml: Path,
    out: Path,
    recipe: Recipe,
    preset: Preset,
    group_size: int,
    samples: Sequence[Mapping[str, np.ndarray]] | None = None,
    dq_group: int | None = None,
) -> None:
    """Compress the IR at `xml` into the new IR at `out` and check what was written.

    group_size: of a grouped format; where it does not divide a matrix, the recipe's fallback holds; without one, a
    smaller power of two down to 32 is taken, then the backup. A strict preset raises GroupSizeError. samples:
    calibration inputs. dq_group: dynamic quantization group to store in the model. Raises EdgespecError when NNCF
    cannot do it or did something else.
    """
    with scratch_folder(out.parent, SCRATCH) as scratch, _quiet(), lean_compression(scratch):
        _compress_and_save(xml, out, recipe, preset, group_size, samples, dq_group)
    check_ir(out)
    precision = weight_precision(out)
    if not precision.startswith(recipe.format.precision):
        raise EdgespecError(
            f"'{xml.parent.name}' was to become {recipe.format.mode} and became {precision}: no matrix is wide enough "
            "for the groups; choose int8, or --group-size -1"
        )


def _compress_and_save(
    xml: Path,
    out: Path,
    recipe: Recipe,
    preset: Preset,
    group_size: int,
    samples: Sequence[Mapping[str, np.ndarray]] | None,
    dq_group: int | None,
) -> None:
    """A function of its own, so that the model is gone, with its hold on the scratch files, when it returns."""
    import nncf
    import openvino as ov

    model = ov.Core().read_model(xml)
    try:
        model = nncf.compress_weights(model, **_arguments(recipe, preset, group_size, samples))
    except nncf.InvalidGroupSizeError as error:
        who = "which this device needs" if preset.strict else "and the fallback is error"
        raise GroupSizeError(
            f"groups of {group_size} do not divide every matrix of '{xml.parent.name}', {who}; use --group-size -1"
        ) from error
    except OSError:
        raise
    except Exception as error:
        require_room_left(out.parent)
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise EdgespecError(f"nncf could not compress '{xml.parent.name}' to {recipe.format.mode}: {reason}") from error
    _drop_cache_precision(model)
    if dq_group is not None:
        model.set_rt_info(str(dq_group), ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"])
    try:
        ov.save_model(model, out, compress_to_fp16=False)
    except RuntimeError as error:
        require_room_left(out.parent)
        raise EdgespecError(f"the compressed model could not be written to '{out}': {error}") from error


def _arguments(
    recipe: Recipe, preset: Preset, group_size: int, samples: Sequence[Mapping[str, np.ndarray]] | None
) -> dict[str, Any]:
    import nncf

    chosen, options = recipe.format, recipe.options
    arguments: dict[str, Any] = {"mode": nncf.CompressWeightsMode(chosen.mode)}
    if not chosen.grouped:
        return arguments
    arguments |= {
        "group_size": group_size,
        "ratio": options.ratio if options.ratio is not None else 1.0,
        "all_layers": options.all_layers,
        "awq": options.awq,
        "scale_estimation": options.scale_estimation,
        "gptq": options.gptq,
        "lora_correction": options.lora_correction,
    }
    if options.backup is not None:
        arguments["backup_mode"] = nncf.BackupMode(options.backup)
    elif chosen.mode in ("int4_sym", "int4_asym", "nf4", "cb4"):
        arguments["backup_mode"] = nncf.BackupMode(preset.backup)
    if options.metric is not None:
        arguments["sensitivity_metric"] = nncf.SensitivityMetric(options.metric)
    if samples is not None:
        arguments |= {"dataset": nncf.Dataset(list(samples)), "subset_size": len(samples)}
    if group_size != WHOLE_ROW and chosen.fixed_group is None:
        fallback = options.fallback or ("error" if preset.strict else "adjust")
        arguments["advanced_parameters"] = nncf.AdvancedCompressionParameters(
            group_size_fallback_mode=nncf.GroupSizeFallbackMode(fallback)
        )
    return arguments


def _drop_cache_precision(model: Any) -> None:
    if model.has_rt_info(["runtime_options", "KV_CACHE_PRECISION"]):
        options = model.get_rt_info("runtime_options").value
        options.pop("KV_CACHE_PRECISION", None)
        model.set_rt_info(options, "runtime_options")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep NNCF's log and bar off stdout, which is the command's answer."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(level)
