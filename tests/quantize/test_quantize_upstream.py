"""Optimum-intel's tuned settings are read from its source as its own import has them, found by id, used and named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import openvino as ov
import pytest

from edgespec import resources
from edgespec.errors import EdgespecError
from edgespec.pair import Source, read_manifest, record_files, write_manifest
from edgespec.progress import SILENT
from edgespec.quantize import Ask, Options, Request, quantize, quantize_pair
from edgespec.quantize.formats import FORMATS
from edgespec.quantize.plan import memory_need
from edgespec.quantize.recipe import Recipe
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
        (Request(device="npu"), "int4_sym", "is left aside, because an NPU runs symmetric int4 only"),
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


def as_from(tiny_pair: Path, out: Path, source: str) -> Path:
    """The pair with a target whose manifest says that it was exported from `source`."""
    pair = Path(shutil.copytree(tiny_pair, out))
    manifest = read_manifest(pair)
    target = manifest.target.model_copy(update={"source": Source(id=source)})
    write_manifest(pair, manifest.model_copy(update={"target": target}))
    return pair


def test_without_text_round_to_nearest_is_taken_and_said(tmp_path: Path, tiny_pair: Path) -> None:
    """As after `export --weights int4`: nothing is there that the target could be asked."""
    progress = Listener()
    pair = as_from(tiny_pair, tmp_path / "in", "Qwen/Qwen3-8B")
    _, rows = quantize_pair(pair, tmp_path / "out", target="int4", progress=progress)
    assert (rows[0].precision_after, rows[0].source) == ("int4_sym_g64", None)
    assert (
        "optimum-intel's tuned setting for Qwen/Qwen3-8B (int4_asym group 128, scale estimation) is left aside, "
        "because it needs calibration text and there is none here; the target gets round-to-nearest int4_sym group 128 "
        "(edgespec quantize --upstream-defaults insists on the tuned one)"
    ) in progress.said
    says = "needs calibration text and there is none; give --dataset FILE, or --no-upstream-defaults for round-to"
    with pytest.raises(EdgespecError, match=says):
        quantize(pair, tmp_path / "insisted", Request(upstream=True))


def test_without_memory_round_to_nearest_is_taken_and_said(
    tmp_path: Path, tiny_pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = Listener()
    pair = as_from(tiny_pair, tmp_path / "in", "meta-llama/Llama-3.1-8B-Instruct")
    manifest = read_manifest(pair)
    record = manifest.target
    rounded = memory_need(record, Recipe(FORMATS["int4"]), False)
    monkeypatch.setattr(resources, "available_memory_bytes", lambda: rounded)
    _, rows, _ = quantize(pair, tmp_path / "out", Request(draft="none"), progress=progress)
    assert (rows[0].precision_after, rows[0].source) == ("int4_sym_g64", None)
    assert any(
        "is left aside, because it needs about 0.3 GB of memory and 0.3 GB are free" in one for one in progress.said
    )
    with pytest.raises(EdgespecError, match="or take --no-upstream-defaults, for round-to-nearest int4"):
        quantize(pair, tmp_path / "insisted", Request(draft="none", upstream=True))


def test_a_setting_that_is_insisted_on_is_not_dropped(tmp_path: Path, tiny_pair: Path) -> None:
    pair = as_from(tiny_pair, tmp_path / "in", "meta-llama/Llama-3.1-8B-Instruct")
    says = r"--upstream-defaults asks for optimum-intel.s tuned setting for .*8B-Instruct \(int4_asym group 64, ratio "
    with pytest.raises(EdgespecError, match=rf"{says}0.8, AWQ\), and --group-size was given; drop one of them"):
        quantize(pair, tmp_path / "out", Request(upstream=True, both=Options(group_size=32)))
    with pytest.raises(EdgespecError, match="and an NPU runs symmetric int4 only, in one group size; drop one"):
        quantize(pair, tmp_path / "out", Request(upstream=True, device="npu"))


def test_a_local_folder_is_known_by_its_name_as_upstream_does_it(tmp_path: Path) -> None:
    found = tuned_setting(str(tmp_path / "models" / "Qwen3-8B"), tmp_path)
    assert isinstance(found, Tuned)
    assert found.name == "Qwen/Qwen3-8B"


def test_what_upstream_calibrates_gets_text_and_its_dynamic_group(tmp_path: Path, tiny_pair: Path) -> None:
    asks = [Ask("def add(a, b):", chat=False)]
    small = Request(draft="none", samples=1, sample_tokens=32)
    pair = as_from(tiny_pair, tmp_path / "awq", "openlm-research/open_llama_3b_v2")
    _, rows, made = quantize(pair, tmp_path / "out", small, asks=asks)
    assert rows[0].recipe.endswith("AWQ")  # NNCF could do that without text, and upstream does not
    assert made.checks["calibration"].startswith("self: 1 window, ")
    pair = as_from(tiny_pair, tmp_path / "dq", "Qwen/Qwen2.5-Coder-3B-Instruct")
    grouped, _, _ = quantize(pair, tmp_path / "out2", small, asks=asks)
    model = ov.Core().read_model(grouped.target / "openvino_model.xml")
    assert model.get_rt_info(["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"]).value == "128"
