"""One IR compressed by NNCF: weights only, round to nearest, no data needed.

NNCF (3.4) leaves the exporter's KV_CACHE_PRECISION=f16 in the model, so the plugin would keep a 16-bit KV cache beside
4-bit weights; it is removed here, as optimum-intel does when it quantizes, and the plugin's default (u8 on CPU) holds.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgespec.errors import EdgespecError
from edgespec.ir import check_ir, require_room_left, weight_precision

from .formats import WHOLE_ROW, Format, Preset


class GroupSizeError(EdgespecError):
    """Some matrix's rows are no multiple of the group size, and the preset allows no other."""


def require_packages() -> None:
    """Raise EdgespecError naming the extra to install when NNCF is missing."""
    if importlib.util.find_spec("nncf") is None:
        raise EdgespecError('quantize needs nncf, not installed here; run: pip install "edgespec[export]"')


def compress_ir(xml: Path, out: Path, chosen: Format, preset: Preset, group_size: int) -> None:
    """Compress the IR at `xml` into the new IR at `out` and check what was written.

    group_size: of a 4-bit format; where it does not divide a matrix, a smaller power of two down to 32 is taken, then
    8 bits. A strict preset raises GroupSizeError. Raises EdgespecError when NNCF cannot do it or did something else.
    """
    import nncf
    import openvino as ov

    with _quiet():
        model = ov.Core().read_model(xml)
        try:
            model = nncf.compress_weights(model, **_arguments(chosen, preset, group_size))
        except nncf.InvalidGroupSizeError as error:
            raise GroupSizeError(
                f"groups of {group_size} do not divide every matrix of '{xml.parent.name}', which this device needs; "
                "use --group-size -1"
            ) from error
        except OSError:
            raise
        except Exception as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise EdgespecError(f"nncf could not compress '{xml.parent.name}' to {chosen.mode}: {reason}") from error
        _drop_cache_precision(model)
        try:
            ov.save_model(model, out, compress_to_fp16=False)
        except RuntimeError as error:
            require_room_left(out.parent)
            raise EdgespecError(f"the compressed model could not be written to '{out}': {error}") from error
    check_ir(out)
    precision = weight_precision(out)
    if not precision.startswith(str(chosen.mode)):
        raise EdgespecError(
            f"'{xml.parent.name}' was to become {chosen.mode} and became {precision}: no matrix is wide enough for the "
            "groups; choose int8, or --group-size -1"
        )


def _arguments(chosen: Format, preset: Preset, group_size: int) -> dict[str, Any]:
    import nncf

    arguments: dict[str, Any] = {"mode": nncf.CompressWeightsMode(chosen.mode)}
    if chosen.grouped:
        fallback = nncf.GroupSizeFallbackMode.ERROR if preset.strict else nncf.GroupSizeFallbackMode.ADJUST
        arguments |= {
            "group_size": group_size,
            "ratio": 1.0,
            "backup_mode": nncf.BackupMode(preset.backup),
        }
        if group_size != WHOLE_ROW:
            arguments["advanced_parameters"] = nncf.AdvancedCompressionParameters(group_size_fallback_mode=fallback)
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
