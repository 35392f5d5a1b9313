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
from edgespec.quantize.calibration import CalibrationText, samples_for, text_of_file, text_of_target
from edgespec.quantize.texts import Tokens, Windows

PYTHON = "def add(a, b):\n    return a + b\n\n" * 40
ASKS = [Ask("def add(a, b):", chat=False), Ask("class Stack:", chat=False)]


def test_a_file_is_cut_into_samples(tmp_path: Path, tiny_pair: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(PYTHON)
    pair = Pair.open(tiny_pair)
    text = text_of_file(pair, path, count=3, tokens=64, seed=0)
    ids = Tokens(pair.target).read(Ask(PYTHON, chat=False))
    all_ = [tuple(ids[start : start + 64]) for start in range(0, len(ids) - 63, 64)]
    assert set(text.windows.ids) <= set(all_)
    assert text.windows.ids != text_of_file(pair, path, count=3, tokens=64, seed=1).windows.ids
    assert text.described == f"{path}: 3 of {len(all_)} windows, 192 tokens, 64 to 64 each"


def test_a_file_with_too_little_text_is_refused(tmp_path: Path, tiny_pair: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("too short")
    says = r"has \d+ tokens, and a sample to calibrate with needs at least 32; give more text"
    with pytest.raises(EdgespecError, match=says):
        text_of_file(Pair.open(tiny_pair), path, count=2, tokens=64, seed=0)


def test_the_target_writes_text_of_full_length(tiny_pair: Path) -> None:
    pair = Pair.open(tiny_pair)
    text = text_of_target(pair, ASKS, count=3, tokens=48, seed=1, progress=SILENT)
    assert [len(sample) for sample in text.windows.ids] == [48, 48, 48]
    assert text == text_of_target(pair, ASKS, count=3, tokens=48, seed=1, progress=SILENT)
    assert text != text_of_target(pair, ASKS, count=3, tokens=48, seed=2, progress=SILENT)
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
    (sample,) = samples_for(xml, CalibrationText("self", Windows(((5, 6, 7),), 1)))
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
    assert made.checks["calibration"] == "self: 2 windows, 64 tokens, 32 to 32 each"
    assert "--dataset self --num-samples 2 --sample-tokens 32" in made.command
    plain = Request(draft="none", both=Options(group_size=32))
    rounded, _, _ = quantize(tiny_pair, tmp_path / "plain", plain)
    weights = [(one.root / "target" / "openvino_model.bin").read_bytes() for one in (pair, rounded)]
    assert weights[0] != weights[1]
    assert json.loads((pair.root / "edgespec.json").read_text())["made"][-1]["checks"]["calibration"]
