"""The type of a pair's weights, the way to it, and what it costs: memory is asked for before anything loads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported_families import make_family
from transformers import AutoModelForCausalLM

from edgespec import resources
from edgespec.errors import EdgespecError
from edgespec.export import assemble, convert, export_pair
from edgespec.export.checkpoint import Checkpoint, open_checkpoint
from edgespec.export.dtypes import Route, resolve, route
from edgespec.export.verify import ir_logits
from edgespec.export.weights import stored
from edgespec.hashing import sha256_of
from edgespec.pair import Pair

PROMPT = [12, 77, 203, 5, 140, 31, 250, 9, 66]


@pytest.fixture(scope="module")
def bf16_checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_target_checkpoint: Path) -> Path:
    folder = tmp_path_factory.mktemp("bf16") / "checkpoint"
    make_family("qwen3", folder, tiny_target_checkpoint).to(torch.bfloat16).save_pretrained(folder)
    return folder


def test_bf16_stays_and_all_else_becomes_fp16() -> None:
    assert [resolve("auto", stored) for stored in ("bf16", "fp16", "fp32", "fp64")] == ["bf16", "fp16", "fp16", "fp16"]
    assert [resolve(asked, "bf16") for asked in ("fp16", "bf16", "fp32")] == ["fp16", "bf16", "fp32"]


def test_weights_stay_mapped_wherever_torch_need_not_convert() -> None:
    assert route("bf16", "bf16") == Route("bf16", "bf16", "bf16", mapped=True)
    assert route("bf16", "fp16") == Route("bf16", "bf16", "fp16", mapped=True)
    assert route("fp32", "fp16") == Route("fp32", "fp16", "fp16", mapped=True)
    assert not route("bf16", "fp32").mapped
    assert not route("fp32", "bf16").mapped
    assert [route("bf16", to).recast for to in ("bf16", "fp16", "fp32")] == [False, True, False]


def test_headers_tell_what_is_stored(bf16_checkpoint: Path, tiny_target_checkpoint: Path) -> None:
    assert open_checkpoint(str(bf16_checkpoint)).stored == "bf16"
    assert open_checkpoint(str(tiny_target_checkpoint)).stored == "fp32"
    count = open_checkpoint(str(bf16_checkpoint)).weight_count
    assert stored([bf16_checkpoint / "model.safetensors"]).by_dtype == {"bf16": count}


@pytest.mark.parametrize("dtype", ["auto", "fp16", "fp32"])
def test_every_way_from_bf16_computes_the_same(tmp_path: Path, bf16_checkpoint: Path, dtype: str) -> None:
    """bf16 numbers of a usual size are exact in all three types, so the logits are the same to f32 rounding."""
    pair = export_pair(bf16_checkpoint, None, tmp_path / "pair", dtype=dtype)
    assert pair.manifest.target.precision == {"auto": "bf16"}.get(dtype, dtype)
    with torch.no_grad():
        model = AutoModelForCausalLM.from_pretrained(bf16_checkpoint, dtype=torch.float32)
        expected = model(torch.tensor([PROMPT])).logits[0].numpy()
    got = ir_logits(pair.target / "openvino_model.xml", [PROMPT])[0]
    np.testing.assert_allclose(got, expected, atol=1e-4 * float(np.abs(expected).max()))


@pytest.mark.parametrize(("dtype", "again"), [("auto", False), ("fp16", True)])
def test_weights_are_hashed_as_they_are_written_unless_they_change_later(
    tmp_path: Path, bf16_checkpoint: Path, dtype: str, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def sha256(path: Path) -> str:
        read.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr("edgespec.pair.sha256_of", sha256)
    pair = export_pair(bf16_checkpoint, None, tmp_path / "pair", dtype=dtype)
    assert ("openvino_model.bin" in read) is again and "openvino_model.xml" in read
    Pair.open(pair.root, verify=True)


@pytest.mark.parametrize(
    ("dtype", "says"),
    [
        ("auto", None),
        ("fp16", None),
        (
            "fp32",
            r"exporting the target '.*' from bf16 to fp32 needs about 4\.3 GB of memory and 2\.0 of .* GB are free",
        ),
    ],
)
def test_memory_is_asked_for_where_torch_converts(
    tmp_path: Path, bf16_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, says: str | None
) -> None:
    """As a checkpoint of 800 M weights would: mapped, it fits 2 GB; as f32 in memory it does not."""

    def start(*_: object) -> None:
        raise EdgespecError("the conversion started")

    monkeypatch.setattr(resources, "available_memory_bytes", lambda: 2_000_000_000)
    monkeypatch.setattr(Checkpoint, "weight_count", property(lambda _: 800_000_000))
    monkeypatch.setattr(convert, "convert", start)
    with pytest.raises(EdgespecError, match=says or "the conversion started"):
        export_pair(bf16_checkpoint, None, tmp_path / "pair", dtype=dtype)


@pytest.mark.parametrize(
    ("options", "committed"),
    [
        ({}, 1.6),  # the files, mapped
        ({"dtype": "fp32"}, 1.6 + 3.2),  # beside them, what torch converts
        ({"verify": True}, 1.6 + 0.32),  # first PyTorch's, with its largest module widened, then OpenVINO's
        ({"dtype": "fp32", "verify": True}, 1.6 + 3.2),
        ({"allow_pickle": True}, 1.6),  # read, not mapped
    ],
)
def test_what_windows_counts_of_mapped_files_is_asked_for(
    tmp_path: Path,
    bf16_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    committed: float,
) -> None:
    """Of the same 800 M weights in bf16 that are mapped, 1.6 GB: whatever else is in memory comes on top."""
    asked: list[tuple[int, int]] = []

    def refuse(need_bytes: int, _: str, committed_bytes: int) -> None:
        asked.append((need_bytes - assemble.BASE_BYTES, committed_bytes - assemble.BASE_BYTES))
        raise EdgespecError("enough was seen")

    pickled = options.get("allow_pickle", False)
    file = "pytorch_model.bin" if pickled else "model.safetensors"
    monkeypatch.setattr(assemble, "require_memory", refuse)
    monkeypatch.setattr(Checkpoint, "weight_count", property(lambda _: 800_000_000))
    monkeypatch.setattr(
        assemble, "open_checkpoint", lambda *_, **__: replace(known, weights={file: 1_600_000_000}, numbers=None)
    )
    known = replace(open_checkpoint(str(bf16_checkpoint)), config={"dtype": "bfloat16", "vocab_size": 320})
    with pytest.raises(EdgespecError, match="enough was seen"):
        export_pair(bf16_checkpoint, None, tmp_path / "pair", **options)
    ((need, counted),) = asked
    assert counted == pytest.approx(committed * 1e9)
    assert counted >= need


def test_weights_that_the_files_lack_are_not_made_up(tmp_path: Path, bf16_checkpoint: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(bf16_checkpoint, tmp_path / "checkpoint"))
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    says = r"lack 1 of the model's weights, such as 'model.layers.1.mlp.up_proj.weight', and transformers would"
    with pytest.raises(EdgespecError, match=says):
        export_pair(folder, None, tmp_path / "pair")
    assert not (tmp_path / "pair").exists()
