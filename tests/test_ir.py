"""An IR is judged on disk: complete or truncated, its precision by name, its weights counted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest
from safetensors.numpy import load_file

from edgespec.errors import EdgespecError
from edgespec.ir import check_ir, count_parameters, weight_precision, weights_by_precision
from edgespec.pair import Pair

PARTS = ("openvino_model", "openvino_tokenizer", "openvino_detokenizer")


@pytest.mark.parametrize("part", PARTS)
def test_a_whole_ir_passes(tiny_pair: Path, part: str) -> None:
    check_ir(tiny_pair / "target" / f"{part}.xml")


@pytest.mark.parametrize("part", PARTS)
def test_a_truncated_bin_is_refused(tiny_pair: Path, tmp_path: Path, part: str) -> None:
    xml = _copy(tiny_pair / "target" / f"{part}.xml", tmp_path)
    binary = xml.with_suffix(".bin")
    binary.write_bytes(binary.read_bytes()[:-1])
    with pytest.raises(EdgespecError, match=r"it is truncated \(was the disk full\?\); make it again"):
        check_ir(xml)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda xml: xml.unlink(), "openvino_model.xml' is missing"),
        (lambda xml: xml.with_suffix(".bin").unlink(), "openvino_model.bin' is missing"),
        (lambda xml: xml.write_bytes(xml.read_bytes()[:20_000]), "is not a whole OpenVINO model"),
        (lambda xml: xml.write_bytes(b""), "is not a whole OpenVINO model"),
    ],
)
def test_a_damaged_ir_is_refused(tiny_pair: Path, tmp_path: Path, damage: Callable[[Path], object], says: str) -> None:
    xml = _copy(tiny_pair / "target" / "openvino_model.xml", tmp_path)
    damage(xml)
    with pytest.raises(EdgespecError, match=says):
        check_ir(xml)


def test_pair_open_refuses_a_truncated_bin(tiny_pair: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_pair, tmp_path / "pair")
    binary = tmp_path / "pair" / "draft" / "openvino_model.bin"
    binary.write_bytes(binary.read_bytes()[:-100])
    with pytest.raises(EdgespecError, match="it is truncated or was altered; make the pair again"):
        Pair.open(tmp_path / "pair", verify=False)


def test_precision_and_count_of_a_floating_model(tiny_pair: Path, tiny_target_checkpoint: Path) -> None:
    weights = sum(tensor.size for tensor in load_file(tiny_target_checkpoint / "model.safetensors").values())
    xml = tiny_pair / "target" / "openvino_model.xml"
    assert weight_precision(xml) == "fp16"
    assert count_parameters(xml) == weights + 8  # the rotary frequencies are a constant of the IR, no weight of Llama
    assert list(weights_by_precision(xml)) == ["fp16"]


@pytest.mark.parametrize(
    ("element_type", "shape", "name"),
    [
        (ov.Type.f32, (8, 32), "fp32"),
        (ov.Type.f16, (8, 32), "fp16"),
        (ov.Type.bf16, (8, 32), "bf16"),
        (ov.Type.u8, (8, 32), "int8_asym"),
        (ov.Type.i8, (8, 32), "int8_sym"),
        (ov.Type.u4, (8, 2, 16), "int4_asym_g16"),
        (ov.Type.i4, (8, 1, 32), "int4_sym_g32"),
        (ov.Type.i4, (1, 64, 4), "int4_sym_g64"),  # stored transposed, as GPT-2's matrices are
        (ov.Type.i4, (8, 32), "int4_sym"),
    ],
)
def test_precisions_are_named(tmp_path: Path, element_type: ov.Type, shape: tuple[int, ...], name: str) -> None:
    weight = ops.constant(np.arange(256).reshape(shape) % 7, dtype=element_type, name="weight")
    bias = ops.constant(np.arange(8, dtype=np.float32), name="bias")
    ones = (*shape[:-2], 1, shape[-1]) if name.endswith("_g64") else (*shape[:-1], 1)  # one scale a group
    scale = ops.constant(np.ones(ones, dtype=np.float16), name="weight/scale")
    outputs = [ops.convert(constant, "f32") for constant in (weight, bias, scale)]
    ov.save_model(ov.Model(outputs, []), tmp_path / "m.xml", compress_to_fp16=False)
    check_ir(tmp_path / "m.xml")
    assert weight_precision(tmp_path / "m.xml") == name
    assert count_parameters(tmp_path / "m.xml") == 256 + 8


def test_a_model_without_weights_has_no_precision(tiny_pair: Path) -> None:
    with pytest.raises(EdgespecError, match="holds no weights"):
        weight_precision(tiny_pair / "target" / "openvino_detokenizer.xml")


def _copy(xml: Path, folder: Path) -> Path:
    for path in (xml, xml.with_suffix(".bin")):
        shutil.copyfile(path, folder / path.name)
    return folder / xml.name
