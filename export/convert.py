"""One checkpoint to one directory that openvino_genai loads: optimum-intel does the work, nothing it says is believed.

Its `main_export` (2.1) loads a model in the type it is exported in, which takes the whole model into memory, fills
weights that the files lack with random numbers, reports a tokenizer that could not be converted at DEBUG, and turns
models above 1 B weights to int8 unless a dtype is given. So loading.py loads, and only its `export_from_model` is used.
That stamps KV_CACHE_PRECISION=f16 into the model. The stamp stays here: an uncompressed pair is the reference that
others are compared with, and should not have its cache quantized by a plugin's default; an explicit KV_CACHE_PRECISION
at load time overrides it. `quantize` removes it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import io
import json
import logging
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgespec.errors import EdgespecError
from edgespec.ir import IR_FILES, check_ir, require_room_left, weight_precision
from edgespec.pair import MODEL_FILES, REQUIRED_FILES, FileRecord, installed_versions, recording

from .checkpoint import Checkpoint
from .dtypes import Route, route
from .loading import load_model
from .recast import recast

_TASK = "text-generation-with-past"


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


def convert(checkpoint: Checkpoint, out: Path, dtype: str, trust_remote_code: bool = False) -> Mapping[str, FileRecord]:
    """Write the model, tokenizer and configuration of `checkpoint` into the new directory `out`, and check them.

    Returns the records of files that were hashed as they were written. Raises EdgespecError when upstream cannot
    convert it or what it wrote is incomplete or in another dtype; an OSError that names a full disk or a forbidden
    place passes through.
    """
    name = checkpoint.name
    way = route(checkpoint.stored, dtype)
    out.mkdir()
    known: dict[str, FileRecord] = {}
    try:
        with quiet():
            _require_supported(checkpoint, trust_remote_code)
            if checkpoint.kind != "eagle3":
                _require_convertible_tokenizer(checkpoint, trust_remote_code)
            with contextlib.nullcontext() if way.recast else recording(out / IR_FILES[1], known):
                _export(checkpoint, out, way, trust_remote_code)
            gc.collect()  # what upstream made refers to itself, and Windows writes to no file that it still maps
            if way.recast:
                recast(out / "openvino_model.xml", name, way.written, way.exported)
    except EdgespecError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        require_room_left(out)
        raise EdgespecError(f"optimum-intel {_optimum()} could not convert '{name}': {_first_line(error)}") from error
    complete_generation_config(checkpoint.config, checkpoint.folder, out)
    check_converted(name, out, dtype, with_tokenizer=checkpoint.kind != "eagle3")
    return known


def check_converted(name: str, out: Path, dtype: str, with_tokenizer: bool = True) -> None:
    """Refuse a converted model that lacks a file, is truncated, keeps no state, or has weights in another dtype."""
    missing = [file for file in (REQUIRED_FILES if with_tokenizer else MODEL_FILES) if not (out / file).is_file()]
    if missing:
        raise EdgespecError(
            f"the conversion of '{name}' ended without {', '.join(missing)} and gave no reason; check the versions of "
            "optimum-intel, openvino and openvino-tokenizers against constraints.txt"
        )
    for part in ("model", "tokenizer", "detokenizer") if with_tokenizer else ("model",):
        check_ir(out / f"openvino_{part}.xml")
    model = out / "openvino_model.xml"
    if b'type="ReadValue"' not in model.read_bytes():
        raise EdgespecError(f"'{name}' came out without a KV cache inside, which openvino_genai needs; choose another")
    precision = weight_precision(model)
    if precision != dtype:
        raise EdgespecError(f"'{name}' was to have {dtype} weights and upstream wrote {precision}; choose that dtype")


def _export(checkpoint: Checkpoint, out: Path, way: Route, trust_remote_code: bool) -> None:
    from optimum.exporters.openvino import export_from_model
    from optimum.exporters.openvino.convert import export_tokenizer
    from optimum.intel import OVConfig

    tokenizer = None if checkpoint.kind == "eagle3" else _tokenizer(checkpoint, trust_remote_code)
    model = load_model(checkpoint, way.load, trust_remote_code)
    export_from_model(
        model=model,
        output=out,
        task=_TASK,
        ov_config=OVConfig(dtype=way.written),
        stateful=True,
        preprocessors=[] if tokenizer is None else [tokenizer],  # with None it would make a tokenizer up
        trust_remote_code=trust_remote_code,
        patch_16bit_model=way.load != "fp32",
    )
    del model  # its weights are mapped from the checkpoint's files
    if tokenizer is not None:
        export_tokenizer(tokenizer, out, task=_TASK)


def _require_supported(checkpoint: Checkpoint, trust_remote_code: bool) -> None:
    from optimum.exporters.openvino import main_export  # noqa: F401  (registers the exporters)
    from optimum.exporters.tasks import TasksManager
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    model_type = str(checkpoint.config.get("model_type"))
    if model_type not in CONFIG_MAPPING_NAMES and not trust_remote_code:
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

    try:
        convert_tokenizer(_tokenizer(checkpoint, trust_remote_code), with_detokenizer=True)
    except Exception as error:
        raise EdgespecError(
            f"the tokenizer of '{checkpoint.name}' cannot be converted to OpenVINO: {_first_line(error)}; a model "
            "without one cannot run in openvino_genai"
        ) from error


def _tokenizer(checkpoint: Checkpoint, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(checkpoint.folder, trust_remote_code=trust_remote_code, local_files_only=True)


def complete_generation_config(config: dict[str, Any], folder: Path, out: Path) -> None:
    """Write generation_config.json into `out` when upstream did not: that of the model in `folder`, else the ids in its
    config.json."""
    path = out / "generation_config.json"
    if path.is_file():
        return
    own = folder / path.name
    if own.is_file():
        shutil.copyfile(own, path)
        return
    keys = ("bos_token_id", "eos_token_id", "pad_token_id")
    known = {key: config[key] for key in keys if config.get(key) is not None}
    path.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
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
