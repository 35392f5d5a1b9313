"""Calibration text: of useful length, with every input, from a file or from the target itself; and it is used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgespec.errors import EdgespecError
from edgespec.pair import Pair
from edgespec.progress import SILENT
from edgespec.quantize import Ask, Options, Request, quantize
from edgespec.quantize.calibration import (
    CalibrationText,
    Tokens,
    read_texts,
    samples_for,
    text_of_file,
    text_of_target,
)

PYTHON = "def add(a, b):\n    return a + b\n\n" * 40
ASKS = [Ask("def add(a, b):", chat=False), Ask("class Stack:", chat=False)]


def test_a_file_is_cut_into_samples(tmp_path: Path, tiny_pair: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(PYTHON)
    pair = Pair.open(tiny_pair)
    text = text_of_file(pair, path, count=3, tokens=64)
    ids = Tokens(pair.target).encode(Ask(PYTHON, chat=False))
    assert [list(sample) for sample in text.samples] == [ids[0:64], ids[64:128], ids[128:192]]
    assert text.described == f"{path}: 3 samples, 192 tokens, 64 to 64 each"


def test_json_lines_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "text.jsonl"
    path.write_text('{"text": "one"}\n\n{"prompt": "two"}\n{"turns": ["three", "four"]}\n')
    assert read_texts(path) == [Ask("one", False), Ask("two", False), Ask("three", True)]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", '{"text": "x"}\n{', "'.*a.jsonl', line 2 is not JSON"),
        ("a.jsonl", '{"words": 1}', "line 1 has no text under 'text' or 'prompt' and no list under 'turns'"),
        ("a.txt", "  \n", "holds no text to calibrate with"),
        ("a.txt", "too short", r"has \d+ tokens, and a sample to calibrate with needs at least 32; give more text"),
    ],
)
def test_a_file_that_cannot_serve(tmp_path: Path, tiny_pair: Path, name: str, content: str, says: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(EdgespecError, match=says):
        text_of_file(Pair.open(tiny_pair), path, count=2, tokens=64)


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"ab\xff")
    with pytest.raises(EdgespecError, match=r"is not UTF-8 text \(byte 2\); save it as UTF-8"):
        read_texts(path)


def test_the_target_writes_text_of_full_length(tiny_pair: Path) -> None:
    pair = Pair.open(tiny_pair)
    text = text_of_target(pair, ASKS, count=3, tokens=48, seed=1, progress=SILENT)
    assert [len(sample) for sample in text.samples] == [48, 48, 48]
    assert text.samples == text_of_target(pair, ASKS, count=3, tokens=48, seed=1, progress=SILENT).samples
    assert text.samples != text_of_target(pair, ASKS, count=3, tokens=48, seed=2, progress=SILENT).samples
    with pytest.raises(EdgespecError, match="nothing to ask the target"):
        text_of_target(pair, [], count=3, tokens=48, seed=1, progress=SILENT)


def test_the_target_writes_alone_beside_an_eagle_head(tiny_pair: Path) -> None:
    """The native engine cannot draft with such a head; sampling is exact, so the words are as without it."""
    manifest = Pair.open(tiny_pair).manifest
    assert manifest.draft is not None
    head = manifest.draft.model_copy(update={"kind": "eagle3"})
    texts = [
        text_of_target(Pair(tiny_pair, one), ASKS, count=2, tokens=48, seed=1, progress=SILENT)
        for one in (manifest.model_copy(update={"draft": head}), manifest.model_copy(update={"draft": None}))
    ]
    assert texts[0] == texts[1]


def test_every_input_is_given(tiny_pair: Path) -> None:
    xml = tiny_pair / "target" / "openvino_model.xml"
    (sample,) = samples_for(xml, CalibrationText("self", ((5, 6, 7),)))
    assert {name: value.tolist() for name, value in sample.items()} == {
        "input_ids": [[5, 6, 7]],
        "attention_mask": [[1, 1, 1]],
        "position_ids": [[0, 1, 2]],
        "beam_idx": [0],
    }
    assert {name: value.dtype for name, value in sample.items()} == {
        "input_ids": np.int64,
        "attention_mask": np.int64,
        "position_ids": np.int64,
        "beam_idx": np.int32,
    }


@pytest.mark.parametrize(
    "options",
    [
        Options(awq=True),
        Options(scale_estimation=True),
        Options(gptq=True),
        Options(lora_correction=True),
        Options(ratio=0.5, metric="max_activation_variance"),
    ],
    ids=["awq", "scale-estimation", "gptq", "lora-correction", "metric"],
)
def test_methods_that_look_at_activations_use_the_text(tmp_path: Path, tiny_pair: Path, options: Options) -> None:
    both = options.over(Options(group_size=32))
    request = Request(draft="none", both=both, dataset="self", samples=2, sample_tokens=32)
    pair, rows, made = quantize(tiny_pair, tmp_path / "out", request, asks=ASKS)
    assert rows[0].precision_after == "int4_sym_g32"
    assert made.checks["calibration"] == "self: 2 samples, 64 tokens, 32 to 32 each"
    assert "--dataset self --num-samples 2 --sample-tokens 32" in made.command
    plain = Request(draft="none", both=Options(group_size=32))
    rounded, _, _ = quantize(tiny_pair, tmp_path / "plain", plain)
    weights = [(one.root / "target" / "openvino_model.bin").read_bytes() for one in (pair, rounded)]
    assert weights[0] != weights[1]
    assert json.loads((pair.root / "edgespec.json").read_text())["made"][-1]["checks"]["calibration"]
