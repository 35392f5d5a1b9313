"""A compressed pair is what it says: element types, sizes, provenance; it runs, and its text is near the original's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import openvino as ov
import openvino_genai
import pytest

from edgespec.commands.quantize import run
from edgespec.ir import check_ir, read_constants, weight_precision
from edgespec.pair import Pair, read_manifest, write_manifest
from edgespec.progress import SILENT
from edgespec.quantize import SizeRow, quantize_pair
from edgespec.quantize.reading import Reader

MODEL = "openvino_model.xml"


@pytest.fixture(scope="module")
def tuned_pair(tmp_path_factory: pytest.TempPathFactory, tiny_pair: Path) -> Path:
    """The pair with a profile, as `edgespec tune` leaves one."""
    root = Path(shutil.copytree(tiny_pair, tmp_path_factory.mktemp("tuned") / "pair"))
    write_manifest(root, read_manifest(root).model_copy(update={"profiles": [{"device": "CPU"}]}))
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tuned_pair: Path) -> tuple[Pair, list[SizeRow]]:
    """Default formats: target int4, draft int8."""
    return quantize_pair(tuned_pair, tmp_path_factory.mktemp("quantized") / "pair")


def element_types(folder: Path) -> dict[str, set[str]]:
    """Element types of the weight matrices: of embedding and head, and of the layers in between."""
    types: dict[str, set[str]] = {"outer": set(), "layers": set()}
    for constant in read_constants(folder / MODEL):
        if constant.is_weight:
            types["layers" if ".layers." in constant.name else "outer"].add(constant.element_type)
    return types


def test_int4_is_int4_and_int8_is_int8(made: tuple[Pair, list[SizeRow]]) -> None:
    pair, _ = made
    assert pair.draft is not None
    assert element_types(pair.target) == {"layers": {"i4"}, "outer": {"u8"}}
    assert element_types(pair.draft) == {"layers": {"u8"}, "outer": {"u8"}}


def test_manifest_says_what_was_done(made: tuple[Pair, list[SizeRow]], tuned_pair: Path) -> None:
    before, after = read_manifest(tuned_pair), Pair.open(made[0].root).manifest
    assert after.draft is not None
    assert before.draft is not None
    assert (after.target.precision, after.draft.precision) == (
        "int4_sym_g64",
        "int8_asym",
    )  # rows of 64: no group of 128
    assert (after.target.parameters, after.tokenizer) == (before.target.parameters, before.tokenizer)
    assert (before.profiles, after.profiles) == ([{"device": "CPU"}], [])
    assert [made.command.split()[1] for made in after.made] == ["export", "quantize"]
    assert "nncf" in after.made[-1].versions
    for name, record in before.target.files.items():
        if not name.startswith("openvino_model"):
            assert after.target.files[name] == record
    assert [path.name for path in made[0].root.parent.iterdir()] == ["pair"]


def test_sizes_are_those_of_the_files(made: tuple[Pair, list[SizeRow]], tuned_pair: Path) -> None:
    pair, rows = made
    assert [row.role for row in rows] == ["target", "draft"]
    for row in rows:
        assert row.bytes_before == (tuned_pair / row.role / "openvino_model.bin").stat().st_size
        assert row.bytes_after == (pair.root / row.role / "openvino_model.bin").stat().st_size < row.bytes_before
        assert sum(row.shares.values()) == pytest.approx(1)
    target, draft = rows
    assert 4 < target.bits_per_weight < draft.bits_per_weight < 10
    assert target.matrices == {"int4_sym_g64": 12, "int4_sym_g128": 2, "int8_asym": 1}
    assert draft.matrices == {"int8_asym": 8}


def test_the_cache_stamp_is_gone_and_the_rest_of_rt_info_stays(made: tuple[Pair, list[SizeRow]]) -> None:
    assert made[0].draft is not None
    for folder in (made[0].target, made[0].draft):
        model = ov.Core().read_model(folder / MODEL)
        assert not model.has_rt_info(["runtime_options", "KV_CACHE_PRECISION"])
        assert model.has_rt_info(["runtime_options", "ACTIVATIONS_SCALE_FACTOR"])
        assert model.has_rt_info(["optimum", "optimum_intel_version"])
        assert ov.Core().compile_model(model, "CPU").get_property("KV_CACHE_PRECISION") == ov.Type.u8


def test_every_hash_holds(made: tuple[Pair, list[SizeRow]]) -> None:
    Pair.open(made[0].root, verify=True)


def test_compressed_pair_generates_in_genai(made: tuple[Pair, list[SizeRow]]) -> None:
    pair, _ = made
    draft = openvino_genai.draft_model(pair.draft, "CPU")
    scheduler = openvino_genai.SchedulerConfig()
    pipeline = openvino_genai.LLMPipeline(pair.target, "CPU", draft_model=draft, scheduler_config=scheduler)
    result = pipeline.generate(["def add"], max_new_tokens=8, num_assistant_tokens=3, ignore_eos=True, do_sample=False)
    assert result.perf_metrics.get_num_generated_tokens() == 8


@pytest.mark.parametrize(
    ("target", "draft", "group_size", "layers", "precision"),
    [
        ("int4_asym", "none", 32, "u4", "int4_asym_g32"),
        ("int4_sym", "keep", -1, "i4", "int4_sym"),
        ("int8_sym", "none", None, "i8", "int8_sym"),
    ],
)
def test_formats_are_obeyed(
    tmp_path: Path, tiny_pair: Path, target: str, draft: str, group_size: int | None, layers: str, precision: str
) -> None:
    pair, rows = quantize_pair(tiny_pair, tmp_path / "out", target=target, draft=draft, group_size=group_size)
    assert element_types(pair.target)["layers"] == {layers}
    assert rows[0].precision_after == precision == Pair.open(pair.root).manifest.target.precision
    assert rows[1].bytes_after == rows[1].bytes_before
    assert pair.manifest.draft == read_manifest(tiny_pair).draft  # kept, hash for hash


def test_npu_preset_is_symmetric_and_takes_whole_rows_where_128_does_not_divide(
    tmp_path: Path, tiny_pair: Path
) -> None:
    said: list[str] = []
    progress = type("Listener", (type(SILENT),), {"say": lambda _, message: said.append(message)})()
    pair, rows = quantize_pair(tiny_pair, tmp_path / "out", device="npu", progress=progress)
    assert pair.draft is not None
    for folder in (pair.target, pair.draft):
        assert element_types(folder) == {"layers": {"i4"}, "outer": {"i8"}}
    assert [row.precision_after for row in rows] == ["int4_sym", "int4_sym"]
    assert said == ["groups of 128 do not fit LlamaForCausalLM at its width; one scale a row instead"] * 2


def test_models_can_be_compressed_one_after_the_other(tmp_path: Path, tiny_pair: Path) -> None:
    first, _ = quantize_pair(tiny_pair, tmp_path / "first", target="none", draft="int8")
    second, _ = quantize_pair(first.root, tmp_path / "second", target="int8", draft="none")
    assert second.draft is not None
    assert [weight_precision(folder / MODEL) for folder in (second.target, second.draft)] == ["int8_asym"] * 2
    assert len(second.manifest.made) == 3
    check_ir(second.draft / MODEL)


@pytest.mark.parametrize(
    ("name", "precision"),
    [("nf4", "nf4_g64"), ("cb4", "cb4"), ("fp4", "fp4"), ("mxfp4", "mxfp4"), ("fp8", "fp8"), ("mxfp8", "mxfp8")],
)
def test_every_format_compresses_and_runs(tmp_path: Path, tiny_pair: Path, name: str, precision: str) -> None:
    pair, rows = quantize_pair(tiny_pair, tmp_path / "out", target=name, draft="none")
    assert rows[0].precision_after == precision
    reader = Reader(pair.target)
    assert reader.logits(np.arange(5)).shape == (5, 320)


def test_command_answers_with_one_json_line_and_nothing_of_nncf(
    tmp_path: Path, tiny_pair: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run(tiny_pair, tmp_path / "out", target="int8", cost=False, json_output=True)
    captured = capfd.readouterr()
    document = json.loads(captured.out)
    assert [model["precision_after"] for model in document["models"]] == ["int8_asym", "int8_asym"]
    assert document["peak_anonymous_bytes"] > 10**8
    assert document["peak_anonymous_bytes"] == Pair.open(tmp_path / "out").manifest.made[-1].peak_anonymous_bytes
    expected = (
        f"checking '{tiny_pair}' compressing the target to int8_asym checking the target that was written "
        "compressing the draft to int8_asym checking the draft that was written"
    )
    assert "".join(captured.err.split()) == "".join(expected.split())  # a line may be wrapped
