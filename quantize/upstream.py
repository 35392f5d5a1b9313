"""Optimum-intel's tuned int4 settings, looked up by a model's id: read from its source, never imported.

Importing that module takes seconds and 400 MB. It is a table of literals (`_DEFAULT_4BIT_WQ_CONFIGS`), so the syntax
tree has all of it; a test holds the reading against the imported table.
"""

from __future__ import annotations

import ast
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .recipe import Options

TABLE, ALIASES = "_DEFAULT_4BIT_WQ_CONFIGS", "model_id_aliases"
_SIMPLE = {"bits", "sym", "group_size", "ratio", "dataset", "quant_method", "scale_estimation", "all_layers", "gptq"}
_MORE = {"group_size_fallback", "dq_group_size", "backup_precision", "sensitivity_metric", "lora_correction"}


@dataclass(frozen=True)
class Tuned:
    """An entry of upstream's table. dataset: what upstream calibrates with, None for nothing. dq_group: the dynamic
    quantization group it stores in the model."""

    name: str
    symmetric: bool
    options: Options
    dataset: str | None
    dq_group: int | None


def tuned_setting(source_id: str, folder: Path) -> Tuned | str | None:
    """Upstream's setting for a model, by the id it was exported from, `_name_or_path` of its config.json, or, as
    upstream does, the last part of either (the name of a local directory).

    A sentence instead of a setting: there is an entry, and this program cannot follow it. None: there is none.
    """
    table = upstream_table()
    names = [name for name in (source_id, _name_or_path(folder)) if name]
    for name in names:
        if name in table:
            return _read(name, table[name])
    for name in names:
        for known, entry in table.items():
            if Path(name).name == known.rpartition("/")[2]:
                return _read(known, entry)
    return None


@cache
def upstream_table() -> Mapping[str, Mapping[str, Any]]:
    """The table as it stands in the installed optimum-intel; empty when it is not installed or has no such table."""
    try:
        spec = importlib.util.find_spec("optimum")
    except (ImportError, ValueError):
        spec = None
    for place in (spec.submodule_search_locations or []) if spec else []:
        path = Path(place) / "intel" / "openvino" / "configuration.py"
        if path.is_file():
            return _table_in(ast.parse(path.read_text(encoding="utf-8")))
    return {}


def _table_in(module: ast.Module) -> dict[str, Mapping[str, Any]]:
    """The table, with the second names that a list of pairs (`model_id_aliases`) gives some of its entries."""
    named = {
        target.id: node.value
        for node in module.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    if TABLE not in named:
        return {}
    found: dict[str, Mapping[str, Any]] = _value(named[TABLE])
    for first, second in _value(named[ALIASES]) if ALIASES in named else ():
        if first in found:
            found[second] = found[first]
    return found


def _value(node: ast.expr) -> Any:
    """A literal; a name such as OVQuantizationMethod.AWQ becomes "awq"."""
    if isinstance(node, ast.Dict):
        return {_value(key): _value(value) for key, value in zip(node.keys, node.values, strict=True) if key}
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Attribute):
        return node.attr.lower()
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def _name_or_path(folder: Path) -> str:
    try:
        return str(json.loads((folder / "config.json").read_bytes()).get("_name_or_path") or "")
    except (OSError, ValueError, AttributeError):
        return ""


def _read(name: str, entry: Mapping[str, Any]) -> Tuned | str:
    strange = set(entry) - _SIMPLE - _MORE
    if strange or entry.get("bits") != 4:
        what = ", ".join(sorted(strange)) or f"bits {entry.get('bits')}"
        return f"optimum-intel's setting for {name} has parts that are not followed here ({what})"
    backup = entry.get("backup_precision")
    options = Options(
        group_size=entry.get("group_size"),
        fallback=entry.get("group_size_fallback"),
        ratio=entry.get("ratio"),
        all_layers=entry.get("all_layers"),
        backup=backup,
        awq=True if entry.get("quant_method") == "awq" else None,
        scale_estimation=entry.get("scale_estimation"),
        gptq=entry.get("gptq"),
        lora_correction=entry.get("lora_correction"),
        metric=entry.get("sensitivity_metric"),
    )
    return Tuned(name, bool(entry.get("sym")), options, entry.get("dataset"), entry.get("dq_group_size"))
