"""One checkpoint to one directory that openvino_genai loads: optimum-intel does the work, nothing it says is believed.

Upstream (optimum-intel 2.1) reports a tokenizer that could not be converted at DEBUG and goes on, turns models above
1 B weights to int8 unless a dtype is given, and stamps KV_CACHE_PRECISION=f16 into an unquantized model. The stamp
stays here: an uncompressed pair is the reference that others are compared with, and should not have its cache
quantized by a plugin's default; an explicit KV_CACHE_PRECISION at load time overrides it. `quantize` removes it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

from edgespec.errors import EdgespecError
from edgespec.ir import check_ir, require_room_left, weight_precision
from edgespec.pair import REQUIRED_FILES, installed_versions

from .checkpoint import Checkpoint

_TASK = "text-generation-with-past"
_TORCH = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}


def require_packages() -> None:
    """Raise EdgespecError naming the extra to install when a package of this stage is missing."""
    missing = []
    for package in ("torch", "transformers", "huggingface_hub", "optimum.intel", "openvino_tokenizers"):
        try:
            found = importlib.util.find_spec(package) is not None
        except ModuleNotFoundError:  # the parent package is missing
            found = False
        if not found:
            missing.append(package)
    if missing:
        raise EdgespecError(f'export needs {", ".join(missing)}; install them with: pip install "edgespec[export]"')


def convert(checkpoint: Checkpoint, out: Path, dtype: str, trust_remote_code: bool = False) -> None:
    """Write the model, tokenizer and configuration of `checkpoint` into the new directory `out`, and check them.

    Raises EdgespecError when upstream cannot convert it or what it wrote is incomplete or in another dtype; an OSError
    that names a full disk or a forbidden place passes through.
    """
    name = checkpoint.name
    out.mkdir()
    try:
        with _quiet():
            _require_supported(checkpoint, trust_remote_code)
            _require_convertible_tokenizer(checkpoint, trust_remote_code)
            _export(checkpoint, out, dtype, trust_remote_code)
    except EdgespecError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        require_room_left(out)
        raise EdgespecError(f"optimum-intel {_optimum()} could not convert '{name}': {_first_line(error)}") from error
    _complete_generation_config(checkpoint, out)
    check_converted(name, out, dtype)


def check_converted(name: str, out: Path, dtype: str) -> None:
    """Refuse a converted model that lacks a file, is truncated, keeps no state, or has weights in another dtype."""
    missing = [file for file in REQUIRED_FILES if not (out / file).is_file()]
    if missing:
        raise EdgespecError(
            f"the conversion of '{name}' ended without {', '.join(missing)} and gave no reason; check the versions of "
            "optimum-intel, openvino and openvino-tokenizers against constraints.txt"
        )
    for part in ("model", "tokenizer", "detokenizer"):
        check_ir(out / f"openvino_{part}.xml")
    model = out / "openvino_model.xml"
    if b'type="ReadValue"' not in model.read_bytes():
        raise EdgespecError(f"'{name}' came out without a KV cache inside, which openvino_genai needs; choose another")
    precision = weight_precision(model)
    if precision != dtype:
        raise EdgespecError(f"'{name}' was to have {dtype} weights and upstream wrote {precision}; choose that dtype")


def _export(checkpoint: Checkpoint, out: Path, dtype: str, trust_remote_code: bool) -> None:
    from optimum.exporters.openvino import main_export
    from optimum.intel import OVConfig

    loading = {"torch_dtype": _TORCH[dtype]} if dtype == "bf16" else {}  # fp16 and fp32 follow from OVConfig
    main_export(
        str(checkpoint.folder),
        str(out),
        task=_TASK,
        ov_config=OVConfig(dtype=dtype),
        stateful=True,
        convert_tokenizer=True,
        trust_remote_code=trust_remote_code,
        local_files_only=True,
        model_loading_kwargs=loading,
    )


def _require_supported(checkpoint: Checkpoint, trust_remote_code: bool) -> None:
    from optimum.exporters.openvino import main_export  # noqa: F401  (registers the exporters)
    from optimum.exporters.tasks import TasksManager
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    model_type = str(checkpoint.config.get("model_type"))
    if model_type not in CONFIG_MAPPING_NAMES and not trust_remote_code:
        if checkpoint.config.get("auto_map"):
            raise EdgespecError(
                f"'{checkpoint.name}' needs the code it brings along (model type '{model_type}'); read that code, then "
                "pass --trust-remote-code, for a hub id together with --revision COMMIT"
            )
        raise EdgespecError(f"transformers here does not know the model type '{model_type}' of '{checkpoint.name}'")
    try:
        tasks = TasksManager.get_supported_tasks_for_model_type(
            model_type, exporter="openvino", library_name="transformers"
        )
    except (KeyError, ValueError):
        tasks = {}
    if _TASK not in tasks:
        raise EdgespecError(
            f"optimum-intel {_optimum()} cannot export the model type '{model_type}' of '{checkpoint.name}' as a "
            "causal language model; choose another model or another release"
        )


def _require_convertible_tokenizer(checkpoint: Checkpoint, trust_remote_code: bool) -> None:
    """Convert the tokenizer once for the reason why it cannot be: upstream hides it, and only after the long part."""
    from openvino_tokenizers import convert_tokenizer
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            checkpoint.folder, trust_remote_code=trust_remote_code, local_files_only=True
        )
        convert_tokenizer(tokenizer, with_detokenizer=True)
    except Exception as error:
        raise EdgespecError(
            f"the tokenizer of '{checkpoint.name}' cannot be converted to OpenVINO: {_first_line(error)}; a model "
            "without one cannot run in openvino_genai"
        ) from error


def _complete_generation_config(checkpoint: Checkpoint, out: Path) -> None:
    """Write generation_config.json when upstream did not: the checkpoint's own, else the ids in its config.json."""
    path = out / "generation_config.json"
    if path.is_file():
        return
    own = checkpoint.folder / path.name
    if own.is_file():
        shutil.copyfile(own, path)
        return
    keys = ("bos_token_id", "eos_token_id", "pad_token_id")
    known = {key: checkpoint.config[key] for key in keys if checkpoint.config.get(key) is not None}
    path.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep upstream's logs, warnings, prints and bars off the user's terminal, and put everything back afterwards.

    By the loggers' levels: optimum ends its own use of logging.disable in the middle of an export.
    """
    from optimum.utils import logging as optimum_logging
    from transformers.utils import logging as transformers_logging

    optimum_logging.get_verbosity()  # sets its logger's level at first use
    bars = transformers_logging.is_progress_bar_enabled()
    loggers = [logging.getLogger(name) for name in (None, "transformers", "optimum", "openvino", "nncf")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()


def _optimum() -> str:
    return installed_versions("optimum-intel").get("optimum-intel", "")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
