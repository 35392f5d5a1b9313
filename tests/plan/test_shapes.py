"""Shapes are the published ones, and the tensors of a shape are those that transformers asks for."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from edgespec.errors import EdgespecError
from edgespec.plan.layout import FAMILIES, Layout, read_layout
from edgespec.plan.shapes import SHAPES, find_shape, llama_shape

PUBLISHED = {  # parameters, a tied embedding counted once
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.2-3b": 3_212_749_824,
    "llama-3.2-1b": 1_235_814_400,
    "tinyllama-1.1b": 1_100_048_384,
    "mistral-7b": 7_248_023_552,
    "phi-3-mini": 3_821_079_552,
    "phi-4-mini": 3_836_021_760,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-0.5b": 494_032_768,
    "qwen3-8b": 8_190_735_360,
    "qwen3-4b": 4_022_468_096,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-0.6b": 596_049_920,
    "gemma-2-2b": 2_614_341_888,
    "gemma-2-9b": 9_241_705_984,
}


INT8_FILES = {  # bytes of openvino_model.bin as published; the shapes behind them are not
    "fastdraft-phi-3-50m": 52_417_240,
    "fastdraft-llama-3.1-150m": 155_000_000,
}


def test_parameters_are_the_published_ones() -> None:
    found = {name: read_layout(config, name).parameters for name, config in SHAPES.items() if name not in INT8_FILES}
    assert found == PUBLISHED


@pytest.mark.parametrize("name", INT8_FILES)
def test_drafts_of_unknown_shape_have_the_published_size_in_int8(name: str) -> None:
    """A byte a weight; scales and zero points are the rest."""
    assert read_layout(SHAPES[name], name).parameters == pytest.approx(INT8_FILES[name], rel=0.01)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_tensors_are_those_of_transformers(family: str, tied: bool) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = llama_shape(2, 96, vocab=640, tied=tied) | {"model_type": family, "head_dim": 32, "pad_token_id": 0}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    wanted = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    if tied:  # tied once weights are loaded
        del wanted["lm_head.weight"]
    layout = read_layout(config, family)
    made = {tensor.name: tensor.shape for tensor in tensors(layout)}
    assert made == wanted
    assert layout.parameters == sum(math.prod(shape) for shape in wanted.values())
    assert layout.family.architecture == type(model).__name__


def tensors(layout: Layout) -> list[Any]:
    layers = [tensor for index in range(layout.layers) for tensor in layout.layer(index)]
    return [layout.embedding(), *layers, *layout.final()]


def test_a_shape_may_be_a_name_a_grid_a_file_a_folder_or_a_config(tmp_path: Path) -> None:
    config = dict(SHAPES["qwen3-0.6b"])
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert find_shape("qwen3-0.6b") == ("qwen3-0.6b", config)
    assert find_shape(str(folder)) == find_shape(folder / "config.json") == ("my-model", config)
    assert find_shape(config) == ("28x1024", config)
    assert find_shape(config | {"_name_or_path": "someone/a-model"})[0] == "a-model"
    name, grid = find_shape("4x256")
    assert name == "4x256" and grid["num_hidden_layers"] == 4 and "vocab_size" not in grid


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ("gpt-5", "'gpt-5' is no shape; give LAYERSxHIDDEN"),
        ("4x100", "a multiple of 32"),
        ("0x256", "at least one layer"),
    ],
)
def test_what_is_no_shape_is_refused(shape: str, sentence: str) -> None:
    with pytest.raises(EdgespecError, match=sentence):
        find_shape(shape)


def test_a_damaged_config_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for text, sentence in (("{", "is not valid JSON"), ("[]", "does not hold a JSON object")):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(EdgespecError, match=sentence):
            find_shape(path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model_type": "mixtral"}, "its model type is 'mixtral', and twins are built of llama"),
        ({"hidden_size": None}, "has hidden_size None"),
        ({"num_hidden_layers": 0}, "has num_hidden_layers 0"),
        ({"vocab_size": "many"}, "has vocab_size many"),
        ({"num_key_value_heads": 3}, "its 3 key-value heads do not divide"),
        ({"attention_bias": True}, "it has biases"),
    ],
)
def test_a_config_that_no_twin_can_be_built_of_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(EdgespecError, match=sentence):
        read_layout(llama_shape(2, 256) | change, "it")
