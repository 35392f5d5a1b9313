from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openvino
import pytest
from families import WINDOW, WINDOWS
from openvino import opset13 as ops
from openvino.op.util import Variable, VariableInfo

from edgespec.engine.surgery import mask_windows, open_masks, visible
from edgespec.errors import EdgespecError


def read(folder: Path) -> tuple[Any, dict[str, Any]]:
    model = openvino.Core().read_model(folder / "openvino_model.xml")
    return model, json.loads((folder / "config.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", WINDOWS)
def test_the_windows_of_each_family_are_found(family: Callable[[str], Path], name: str) -> None:
    model, config = read(family(name))
    windows = mask_windows(model, config, name)
    assert set(windows.values()) == WINDOWS[name]
    opened = open_masks(model, windows, name)
    inputs = {port.any_name for port in model.inputs}
    assert set(opened) == WINDOWS[name]
    assert inputs == {"input_ids", "position_ids", "beam_idx", "logits_rows"} | {
        "attention_bias" if window is None else f"attention_bias_{WINDOW}" for window in opened
    }


def test_a_window_that_the_config_does_not_name_is_refused(family: Callable[[str], Path]) -> None:
    model, config = read(family("mistral"))
    del config["sliding_window"]
    with pytest.raises(EdgespecError, match=r"neither causal nor a sliding window named in its config\.json"):
        mask_windows(model, config, "it")


def test_a_window_that_is_named_but_not_used_is_no_window(family: Callable[[str], Path]) -> None:
    model, config = read(family("qwen3"))
    assert set(mask_windows(model, config | {"sliding_window": WINDOW}, "it").values()) == {None}


def test_a_mask_that_does_more_than_hide_is_refused(tiny_pair: Path) -> None:
    model, config = read(tiny_pair / "target")
    for node in model.get_ordered_ops():
        if node.get_type_name() == "ScaledDotProductAttention":
            tilted = ops.subtract(node.input_value(3), ops.constant(0.5, openvino.Type.f32))
            node.input(3).replace_source_output(tilted.output(0))
    with pytest.raises(EdgespecError, match="neither causal nor a sliding window"):
        mask_windows(model, config, "it")


def test_a_recurrent_model_is_refused() -> None:
    ids = ops.parameter([-1, -1], openvino.Type.i64, name="input_ids")
    info = VariableInfo()
    info.data_shape, info.data_type = openvino.PartialShape([-1, 4, 3]), openvino.Type.f32
    info.variable_id = "cache_params.past.conv.0"
    variable = Variable(info)
    state = ops.read_value(ops.constant([[[0.0] * 3] * 4], openvino.Type.f32), variable)
    model = openvino.Model([ops.result(state)], [ops.assign(state, variable)], [ids], "recurrent")
    with pytest.raises(EdgespecError, match=r"is recurrent: its state 'cache_params\.past\.conv\.0' is no KV cache"):
        mask_windows(model, {}, "it")


def test_a_model_without_a_cache_is_refused() -> None:
    ids = ops.parameter([-1, -1], openvino.Type.i64, name="input_ids")
    with pytest.raises(EdgespecError, match="without a KV cache as state"):
        mask_windows(openvino.Model([ops.result(ids)], [ids], "stateless"), {}, "it")


def test_a_model_that_places_tokens_by_itself_is_refused(tiny_pair: Path) -> None:
    model, config = read(tiny_pair / "target")
    model.input("position_ids").get_tensor().set_names({"cache_position"})
    with pytest.raises(EdgespecError, match="takes the inputs attention_mask, beam_idx, cache_position, input_ids"):
        mask_windows(model, config, "it")


def test_a_model_without_attention_nodes_is_refused(tiny_pair: Path) -> None:
    model, config = read(tiny_pair / "target")
    for node in model.get_ordered_ops():
        if node.get_type_name() == "ScaledDotProductAttention":
            node.output(0).replace(node.input_value(2))
    with pytest.raises(EdgespecError, match="has no ScaledDotProductAttention"):
        mask_windows(model, config, "it")


def test_visible_by_hand() -> None:
    assert visible(2, 2, None).astype(int).tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert visible(2, 2, 2).astype(int).tolist() == [[0, 1, 1, 0], [0, 0, 1, 1]]
