"""Options are obeyed or refused, per model; each refusal is one sentence, before a model loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openvino as ov
import pytest

from edgespec import resources
from edgespec.errors import EdgespecError
from edgespec.quantize import Options, Request, quantize

DRAFT = "draft"


def request_of(**arguments: Any) -> Request:
    own = {DRAFT: Options(**arguments.pop("own"))} if "own" in arguments else {}
    both = Options(**arguments.pop("both", {}))
    return Request(both=both, own=own, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"both": {"ratio": 0.0}}, "--ratio 0 for the target is no share of the weights; choose above 0 and at most 1"),
        ({"both": {"ratio": 1.5}}, "--ratio 1.5 for the target is no share"),
        ({"both": {"fallback": "guess"}}, "--group-size-fallback guess is not known; choose error, ignore, adjust"),
        ({"both": {"backup": "int3"}}, "--backup int3 is not known; choose none, int8_sym, int8_asym"),
        ({"both": {"metric": "taste"}}, "--sensitivity-metric taste is not known; choose weight_quantization_error"),
        (
            {"target": "mxfp4", "both": {"awq": True}},
            "AWQ works on int4, nf4 and cb4, not on mxfp4 as the target is to get",
        ),
        ({"target": "fp8", "both": {"scale_estimation": True}}, "scale estimation works on int4, nf4 and cb4"),
        ({"target": "fp4", "both": {"gptq": True}}, "GPTQ works on int4, nf4 and cb4"),
        ({"target": "mxfp8", "both": {"lora_correction": True}}, "LoRA correction works on int4, nf4 and cb4"),
        ({"target": "mxfp4", "both": {"group_size": 64}}, "mxfp4 has groups of 32, not 64; leave the size out"),
        (
            {"target": "mxfp4", "both": {"fallback": "adjust"}},
            "mxfp4 has one group size, so the fallback cannot adjust",
        ),
        (
            {"both": {"gptq": True, "lora_correction": True}, "dataset": "self"},
            "GPTQ and LoRA correction exclude one another in NNCF; choose one",
        ),
        (
            {"both": {"scale_estimation": True}},
            "scale estimation for the target needs calibration text; give --dataset",
        ),
        ({"both": {"gptq": True}}, "GPTQ for the target needs calibration text"),
        ({"both": {"lora_correction": True}}, "LoRA correction for the target needs calibration text"),
        (
            {"both": {"ratio": 0.5, "metric": "max_activation_variance"}},
            "the metric max_activation_variance for the target needs calibration text",
        ),
        (
            {"both": {"metric": "weight_quantization_error"}},
            "a sensitivity metric chooses which matrices stay in the backup format, and at ratio 1 none do",
        ),
        ({"target": "int8", "both": {"ratio": 0.5}}, "--ratio belongs to the 4-bit and fp8 formats, and no model is"),
        ({"target": "int8", "both": {"awq": True}}, "--awq belongs to the 4-bit and fp8 formats"),
        (
            {"own": {"awq": True}},
            "--draft-awq was given and the draft is to become int8_asym, which has no such choice",
        ),
        ({"draft": "none", "own": {"ratio": 0.5}}, "--draft-ratio was given and the draft is to be kept as it is"),
        ({"own": {"metric": "x"}}, "--draft-sensitivity-metric was given"),
        (
            {"dataset": "self"},
            "--dataset self was given and nothing uses it: rounding to nearest looks at weights only",
        ),
        ({"dataset": "nowhere.txt", "both": {"awq": True}}, "there is no file 'nowhere.txt' with text"),
        ({"samples": 0}, "--num-samples must be at least 1, not 0"),
        ({"sample_tokens": 8}, "--sample-tokens must be at least 32, not 8: shorter samples show the model too little"),
        ({"device": "npu", "both": {"ratio": 0.8}}, "an NPU wants ratio 1.0, not 0.8: it runs one weight format"),
        ({"device": "npu", "target": "mxfp4"}, "'mxfp4' for the target does not run on an NPU; choose int4_sym, nf4"),
        ({"device": "npu", "target": "int8"}, "its compiler takes symmetric 4-bit weights only, and fails late"),
        (
            {"device": "npu", "target": "nf4", "both": {"group_size": 128}},
            "an NPU runs nf4 with whole rows only; give --group-size -1",
        ),
        ({"device": "npu", "both": {"fallback": "adjust"}}, "an NPU wants one group size in all layers"),
        ({"device": "npu", "both": {"backup": "none"}}, "an NPU wants embedding and head in 8-bit integers, not none"),
    ],
)
def test_what_cannot_be_done_is_refused_before_a_model_loads(
    tmp_path: Path, tiny_pair: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], says: str
) -> None:
    monkeypatch.setattr(ov.Core, "read_model", lambda *_: pytest.fail("a model was loaded"))
    with pytest.raises(EdgespecError, match=says) as refusal:
        quantize(tiny_pair, tmp_path / "out", request_of(**arguments))
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_too_little_memory_is_refused_with_the_numbers(
    tmp_path: Path, tiny_pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "available_memory_bytes", lambda: 100_000_000)
    says = r"compressing the target to int4_sym group 128 needs about 0\.3 GB of memory and 0\.1 of \d+\.\d GB are free"
    with pytest.raises(EdgespecError, match=says):
        quantize(tiny_pair, tmp_path / "out", Request())
    assert not list(tmp_path.iterdir())


def test_options_reach_the_model_they_are_for(tmp_path: Path, tiny_pair: Path) -> None:
    request = request_of(target="int4_asym", draft="int4_sym", both={"group_size": 32}, own={"group_size": 64})
    _, rows, made = quantize(tiny_pair, tmp_path / "out", request)
    assert [row.precision_after for row in rows] == ["int4_asym_g32", "int4_sym_g64"]
    assert "--group-size 32 --draft-group-size 64" in made.command


def test_ratio_backup_and_all_layers_are_obeyed(tmp_path: Path, tiny_pair: Path) -> None:
    both = {"ratio": 0.5, "backup": "int8_sym", "group_size": 32}
    _, rows, _ = quantize(tiny_pair, tmp_path / "half", request_of(draft="none", both=both))
    assert set(rows[0].shares) == {"int4_sym_g32", "int8_sym"}
    assert rows[0].matrices["int8_sym"] > 1
    _, rows, _ = quantize(
        tiny_pair, tmp_path / "all", request_of(draft="none", both={"all_layers": True, "group_size": 32})
    )
    assert set(rows[0].shares) == {"int4_sym_g32"}
    _, rows, _ = quantize(
        tiny_pair, tmp_path / "none", request_of(draft="none", both={"backup": "none", "group_size": 32})
    )
    assert set(rows[0].shares) == {"int4_sym_g32", "fp16"}


def test_fallback_error_and_ignore_are_obeyed(tmp_path: Path, tiny_pair: Path) -> None:
    with pytest.raises(EdgespecError, match="do not divide every matrix of 'target', and the fallback is error"):
        quantize(tiny_pair, tmp_path / "out", request_of(draft="none", both={"fallback": "error", "group_size": 128}))
    _, rows, _ = quantize(
        tiny_pair, tmp_path / "out", request_of(draft="none", both={"fallback": "ignore", "group_size": 128})
    )
    assert rows[0].shares["fp16"] > 0.3
