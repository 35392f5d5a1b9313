"""bf16 becomes fp16 in the file, bit for bit what numpy makes of the same numbers, and nothing else moves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openvino import opset13 as ops

from edgespec.errors import EdgespecError
from edgespec.export import recast as module
from edgespec.export.recast import _to_bfloat, _to_half, recast
from edgespec.ir import check_ir, read_constants


def bf16(values: np.ndarray) -> ov.Tensor:
    """Numbers whose lower 16 bits are 0, as a bf16 tensor."""
    bits = (np.asarray(values, dtype=np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return ov.Tensor(bits, bits.shape, ov.Type.bf16)


def save(folder: Path, weight: ov.Tensor, other: np.ndarray | None = None) -> Path:
    """x [1, 4] times the weight [4, n] in f32, plus a constant of another type."""
    x = ops.parameter([1, weight.shape[0]], ov.Type.f32)
    y = ops.matmul(x, ops.convert(ops.constant(weight), "f32"), False, False)
    if other is not None:
        y = ops.add(y, ops.convert(ops.constant(other), "f32"))
    xml = folder / "openvino_model.xml"
    ov.save_model(ov.Model([y], [x]), xml, compress_to_fp16=False)
    return xml


def product(xml: Path, x: np.ndarray) -> np.ndarray:
    compiled = ov.Core().compile_model(xml, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(compiled({0: x})[0])


def test_the_model_computes_the_same_with_exact_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 5)  # several blocks, the last one short
    weight = np.arange(-16, 16, dtype=np.float32).reshape(4, 8) / 8
    xml = save(tmp_path, bf16(weight), np.arange(8, dtype=np.int64))
    x = np.array([[1, 2, -3, 0.5]], dtype=np.float32)
    before, size = product(xml, x), xml.with_suffix(".bin").stat().st_size
    recast(xml, "some/model", "bf16", "fp16")
    check_ir(xml)
    assert xml.with_suffix(".bin").stat().st_size == size
    assert {constant.element_type for constant in read_constants(xml) if constant.elements == 32} == {"f16"}
    np.testing.assert_array_equal(product(xml, x), before)
    recast(xml, "some/model", "fp16", "bf16")
    assert {constant.element_type for constant in read_constants(xml) if constant.elements == 32} == {"bf16"}
    np.testing.assert_array_equal(product(xml, x), before)


def test_bytes_that_a_constant_of_another_type_shares_stay(tmp_path: Path) -> None:
    """OpenVINO stores equal bytes once: here the weights' bits are an integer constant, too."""
    weight = np.full((4, 8), 1.5, dtype=np.float32)
    same_bits = (weight.view(np.uint32) >> 16).astype(np.uint16)
    x = ops.parameter([1, 4], ov.Type.f32)
    first = ops.matmul(x, ops.convert(ops.constant(bf16(weight)), "f32"), False, False)
    second = ops.matmul(x, ops.convert(ops.constant(same_bits), "f32"), False, False)
    xml = tmp_path / "openvino_model.xml"
    ov.save_model(ov.Model([ops.concat([first, second], 0)], [x]), xml, compress_to_fp16=False)
    places = {constant.offset for constant in read_constants(xml) if constant.elements == 32}
    assert len(places) == 1  # else this test tests nothing
    given_x = np.ones((1, 4), dtype=np.float32)
    before = product(xml, given_x)
    recast(xml, "some/model", "bf16", "fp16")
    check_ir(xml)
    np.testing.assert_array_equal(product(xml, given_x), before)


def test_a_weight_beyond_fp16_is_refused(tmp_path: Path) -> None:
    weight = np.ones((4, 8), dtype=np.float32)
    weight[1, 3] = 1e6
    xml = save(tmp_path, bf16(weight))
    with pytest.raises(EdgespecError, match=r"'some/model' has weights beyond 65,504, the largest .*export it in bf16"):
        recast(xml, "some/model", "bf16", "fp16")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=64))
def test_every_bit_pattern_is_rounded_to_the_nearest(patterns: list[int]) -> None:
    import torch

    bits = np.array(patterns, dtype=np.uint16)
    stored = torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)
    half, lost = _to_half(bits)
    expected = stored.to(torch.float16)
    assert torch.equal(torch.from_numpy(half).isnan(), expected.isnan())
    np.testing.assert_array_equal(np.nan_to_num(half), np.nan_to_num(expected.numpy()))
    assert lost == int((expected.isinf() & ~stored.isinf() & ~stored.isnan()).sum())
    narrow = torch.from_numpy(bits.view(np.int16)).view(torch.float16)
    back, lost = _to_bfloat(bits)
    got = torch.from_numpy(back.view(np.int16)).view(torch.bfloat16)
    assert lost == 0
    assert torch.equal(torch.nan_to_num(got.float()), torch.nan_to_num(narrow.to(torch.bfloat16).float()))


def test_a_constant_without_data_is_refused(tmp_path: Path) -> None:
    xml = save(tmp_path, bf16(np.ones((4, 8), dtype=np.float32)))
    text = xml.read_text(encoding="utf-8")
    start = text.index("<data", text.index('type="Const"'))
    xml.write_text(text[:start] + text[text.index("/>", start) + 2 :], encoding="utf-8")
    with pytest.raises(EdgespecError, match=r"the constant '.*' of the written model has no data; export it again"):
        recast(xml, "some/model", "bf16", "fp16")
