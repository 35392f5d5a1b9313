"""Optimum-intel's tuned settings are read from its source as its own import has them, found by id, used and named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgespec.pair import read_manifest, record_files, write_manifest
from edgespec.progress import SILENT
from edgespec.quantize import Options, Request, quantize
from edgespec.quantize.upstream import Tuned, tuned_setting, upstream_table


class Listener(type(SILENT)):  # type: ignore[misc]
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def named(tiny_pair: Path, out: Path, name: str) -> Path:
    """The pair as if its target came from `name`."""
    pair = Path(shutil.copytree(tiny_pair, out))
    config = json.loads((pair / "target" / "config.json").read_text())
    (pair / "target" / "config.json").write_text(json.dumps({**config, "_name_or_path": name}))
    manifest = read_manifest(pair)
    target = manifest.target.model_copy(update={"files": record_files(pair / "target")})
    write_manifest(pair, manifest.model_copy(update={"target": target}))
    return pair


def test_the_table_is_what_optimum_imports() -> None:
    from optimum.intel.openvino.configuration import _DEFAULT_4BIT_WQ_CONFIGS

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        return getattr(value, "value", value)

    assert upstream_table() == plain(_DEFAULT_4BIT_WQ_CONFIGS)
    assert len(upstream_table()) > 60


@pytest.mark.parametrize(
    ("name", "symmetric", "options"),
    [
        ("Qwen/Qwen3-4B", True, Options(group_size=128, ratio=1.0, awq=True)),
        ("meta-llama/Llama-3.1-8B-Instruct", False, Options(group_size=64, ratio=0.8, awq=True)),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", False, Options(group_size=64, ratio=0.8, awq=True)),
    ],
)
def test_settings_are_found_by_id(tmp_path: Path, name: str, symmetric: bool, options: Options) -> None:
    found = tuned_setting(name, tmp_path)
    assert isinstance(found, Tuned)
    assert (found.symmetric, found.options) == (symmetric, options)


def test_an_entry_that_cannot_be_followed_says_so(tmp_path: Path) -> None:
    assert tuned_setting("nobody/nothing", tmp_path) is None
    says = tuned_setting("openai/gpt-oss-20b", tmp_path)
    assert isinstance(says, str)
    assert "has parts that are not followed here (quantization_config1, quantization_config2)" in says


def test_a_tuned_setting_is_used_and_named(tmp_path: Path, tiny_pair: Path) -> None:
    progress = Listener()
    pair = named(tiny_pair, tmp_path / "in", "TinyLlama/TinyLlama-1.1B-Chat-v1.0")
    _, rows, made = quantize(pair, tmp_path / "out", Request(), progress=progress)
    assert rows[0].recipe == "int4_asym group 64, AWQ"
    assert rows[0].source == "optimum-intel's tuned setting for TinyLlama/TinyLlama-1.1B-Chat-v1.0"
    assert made.checks["weights"][0]["source"] == rows[0].source
    assert progress.said[0] == f"the target gets {rows[0].source}: int4_asym group 64, AWQ"


@pytest.mark.parametrize(
    ("request_", "precision", "says"),
    [
        (Request(device="npu"), "int4_sym", "is left aside: an NPU runs symmetric int4 only"),
        (Request(both=Options(group_size=32)), "int4_sym_g32", "is left aside, because --group-size was given"),
        (Request(upstream=False), "int4_sym_g64", None),
        (Request(target="int4_sym"), "int4_sym_g64", None),
    ],
)
def test_when_it_is_left_aside(
    tmp_path: Path, tiny_pair: Path, request_: Request, precision: str, says: str | None
) -> None:
    progress = Listener()
    pair = named(tiny_pair, tmp_path / "in", "TinyLlama/TinyLlama-1.1B-Chat-v1.0")
    _, rows, _ = quantize(pair, tmp_path / "out", request_, progress=progress)
    assert (rows[0].precision_after, rows[0].source) == (precision, None)
    tuned = [line for line in progress.said if "tuned setting" in line]
    assert (tuned == []) if says is None else (says in tuned[0])
