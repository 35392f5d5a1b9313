"""Every refusal of quantize is a sentence and leaves nothing behind."""

from __future__ import annotations

import errno
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import openvino as ov
import pytest

from edgespec.errors import EdgespecError
from edgespec.ir import weight_precision
from edgespec.pair import Pair, read_manifest, record_files, write_manifest
from edgespec.progress import SILENT
from edgespec.quantize import Ask, Options, Request, measure_cost, quantize, quantize_pair, sweep_pair

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"target": "int3"}, "'int3' is not a weight format for the target; choose int4, int4_sym, int4_asym, int8"),
        ({"draft": "fp6"}, "'fp6' is not a weight format for the draft; choose"),
        ({"device": "tpu"}, "there is no preset for 'tpu'; choose cpu, gpu, npu"),
        ({"target": "none", "draft": "none"}, "there is nothing to compress"),
        ({"target": "int8", "group_size": 128}, "a group size belongs to int4"),
        ({"group_size": 100}, "there are no groups of 100; choose a power of two from 16, or -1"),
        ({"group_size": 0}, "there are no groups of 0"),
        (
            {"device": "npu", "target": "int4_asym"},
            "'int4_asym' for the target does not run on an NPU; choose int4_sym",
        ),
        ({"device": "npu", "draft": "int8"}, "'int8' for the draft does not run on an NPU"),
        ({"device": "npu", "group_size": 64}, r"an NPU runs groups of 128 or whole rows \(-1\), not 64"),
        (
            {"device": "npu", "group_size": 128},
            "groups of 128 do not divide every matrix of 'target'.* --group-size -1",
        ),
    ],
)
def test_requests_that_cannot_be_obeyed(tmp_path: Path, tiny_pair: Path, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(EdgespecError, match=says) as refusal:
        quantize_pair(tiny_pair, tmp_path / "out", **arguments)
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_a_pair_compressed_already_is_refused(tmp_path: Path, tiny_pair: Path) -> None:
    once, _ = quantize_pair(tiny_pair, tmp_path / "once", target="int8", draft="none")
    with pytest.raises(EdgespecError, match=r"the target of '.*once' is compressed already \(int8_asym\)"):
        quantize_pair(once.root, tmp_path / "twice")
    assert [path.name for path in tmp_path.iterdir()] == ["once"]


def test_a_draft_format_without_a_draft_is_refused(tmp_path: Path, tiny_pair: Path) -> None:
    alone = Path(shutil.copytree(tiny_pair, tmp_path / "in" / "alone"))
    write_manifest(alone, read_manifest(alone).model_copy(update={"draft": None}))
    with pytest.raises(EdgespecError, match="has no draft to compress to int8; leave the draft's format out"):
        quantize_pair(alone, tmp_path / "out", draft="int8")
    pair, rows = quantize_pair(alone, tmp_path / "out", target="int8")
    assert (pair.draft, [row.role for row in rows]) == (None, ["target"])


def test_a_truncated_pair_is_refused(tmp_path: Path, tiny_pair: Path) -> None:
    broken = Path(shutil.copytree(tiny_pair, tmp_path / "broken"))
    binary = broken / "draft" / "openvino_model.bin"
    binary.write_bytes(binary.read_bytes()[:-1])
    with pytest.raises(EdgespecError, match="it is truncated or was altered"):
        quantize_pair(broken, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


def test_an_output_that_exists_is_left_alone(tmp_path: Path, tiny_pair: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(EdgespecError, match="exists already"):
        quantize_pair(tiny_pair, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_disk_too_small_is_refused_before_anything_is_written(
    tmp_path: Path, tiny_pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - 10_000, 10_000))
    with pytest.raises(EdgespecError, match="free some space or choose another output directory"):
        quantize_pair(tiny_pair, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_while_copying_leaves_nothing(
    tmp_path: Path, tiny_pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, copied = shutil.copyfile, list[Path]()

    def copyfile(source: Path, destination: Path) -> Path:
        if len(copied) == 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(destination))
        copied.append(destination)
        return real(source, destination)

    monkeypatch.setattr(shutil, "copyfile", copyfile)
    with pytest.raises(OSError, match="No space left on device"):
        quantize_pair(tiny_pair, tmp_path / "out")
    assert len(copied) == 3
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_while_saving_leaves_nothing(
    tmp_path: Path, tiny_pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save_model(_: Any, out: Path, **__: Any) -> None:
        out.write_bytes(b"half")
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 0))
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr(ov, "save_model", save_model)
    with pytest.raises(OSError, match="no space left") as failure:
        quantize_pair(tiny_pair, tmp_path / "out")
    assert failure.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())


def test_a_save_that_is_silently_cut_short_is_refused(
    tmp_path: Path, tiny_pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ov.save_model

    def save_model(model: ov.Model, out: Path, **options: Any) -> None:
        real(model, out, **options)
        binary = out.with_suffix(".bin")
        binary.write_bytes(binary.read_bytes()[:-10])

    monkeypatch.setattr(ov, "save_model", save_model)
    with pytest.raises(EdgespecError, match=r"it is truncated \(was the disk full\?\); make it again"):
        quantize_pair(tiny_pair, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_model_too_narrow_for_the_groups_is_not_called_int4(tmp_path: Path, tiny_pair: Path) -> None:
    """Rows of 24 take no group of 32 or more, so NNCF would put everything in 8 bits without a word."""
    narrow = Path(shutil.copytree(tiny_pair, tmp_path / "in" / "narrow"))
    manifest = read_manifest(narrow)
    xml = narrow / "target" / "openvino_model.xml"
    _narrow_model(xml)
    assert weight_precision(xml) == "fp32"
    target = manifest.target.model_copy(update={"files": record_files(narrow / "target")})
    write_manifest(narrow, manifest.model_copy(update={"target": target}))
    with pytest.raises(EdgespecError, match="no matrix is wide enough for the groups; choose int8, or --group-size -1"):
        quantize_pair(narrow, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_missing_packages_are_named_with_the_extra(
    tmp_path: Path, tiny_pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(EdgespecError, match=r'quantize needs nncf.* pip install "edgespec\[export\]"'):
        quantize_pair(tiny_pair, tmp_path / "out")


def test_options_of_a_draft_that_is_not_there_are_refused(tmp_path: Path, tiny_pair: Path) -> None:
    alone = Path(shutil.copytree(tiny_pair, tmp_path / "in" / "alone"))
    write_manifest(alone, read_manifest(alone).model_copy(update={"draft": None}))
    request = Request(draft=None, own={"draft": Options(group_size=64)}, device="npu")
    with pytest.raises(EdgespecError, match=r"an NPU runs groups of 128 or whole rows \(-1\), not 64"):
        quantize(alone, tmp_path / "out", request)
    request = Request(own={"draft": Options(group_size=-1)}, device="npu")
    with pytest.raises(EdgespecError, match=r"'.*alone' has no draft for the draft's options; leave them out"):
        quantize(alone, tmp_path / "out", request)


def test_a_gguf_file_is_not_compressed(tmp_path: Path, tiny_pair: Path) -> None:
    gguf = Path(shutil.copytree(tiny_pair, tmp_path / "in" / "gguf"))
    for name in ("openvino_model.xml", "openvino_model.bin"):
        (gguf / "target" / name).unlink()
    (gguf / "target" / "model.gguf").write_bytes(b"GGUF")
    manifest = read_manifest(gguf)
    record = {"kind": "gguf", "precision": "Q4_K_M", "files": record_files(gguf / "target")}
    write_manifest(gguf, manifest.model_copy(update={"target": manifest.target.model_copy(update=record)}))
    says = (
        r"the target of '.*gguf' is no OpenVINO IR \(Q4_K_M\), and NNCF compresses no other; a GGUF file is compressed"
    )
    with pytest.raises(EdgespecError, match=says):
        quantize_pair(gguf, tmp_path / "out")


def test_what_nncf_cannot_do_is_told_by_its_reason(
    tmp_path: Path, tiny_pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nncf

    def compress_weights(*_: Any, **__: Any) -> None:
        raise RuntimeError("an axis is odd\nsecond line")

    monkeypatch.setattr(nncf, "compress_weights", compress_weights)
    with pytest.raises(EdgespecError, match=r"nncf could not compress 'target' to int4_sym: an axis is odd$"):
        quantize_pair(tiny_pair, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_model_that_cannot_be_written_is_told(
    tmp_path: Path, tiny_pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save_model(*_: Any, **__: Any) -> None:
        raise RuntimeError("access is denied")

    monkeypatch.setattr(ov, "save_model", save_model)
    says = r"the compressed model could not be written to '.*openvino_model.xml': access is denied"
    with pytest.raises(EdgespecError, match=says):
        quantize_pair(tiny_pair, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def eagle_pair(tmp_path: Path, tiny_pair: Path) -> Path:
    """A pair whose draft reads hidden states, as an EAGLE head does; its matrices are too few to be useful."""
    root = Path(shutil.copytree(tiny_pair, tmp_path / "in" / "eagle"))
    manifest = read_manifest(root)
    assert manifest.draft is not None
    _narrow_model(root / "draft" / "openvino_model.xml", name="hidden_states")
    draft = manifest.draft.model_copy(update={"kind": "eagle3", "files": record_files(root / "draft")})
    write_manifest(root, manifest.model_copy(update={"draft": draft}))
    return root


def test_an_eagle_head_cannot_be_calibrated_with_text(tmp_path: Path, eagle_pair: Path) -> None:
    request = Request(target="none", draft="int4", dataset="self", both=Options(awq=True, group_size=-1))
    says = (
        "the draft is an EAGLE draft: it reads the target's hidden states, which calibration text lacks, and int4_sym"
    )
    with pytest.raises(EdgespecError, match=says):
        quantize(eagle_pair, tmp_path / "out", request)


def test_an_eagle_head_cannot_be_swept(tmp_path: Path, eagle_pair: Path) -> None:
    says = (
        "the draft is an EAGLE head, whose acceptance cannot be computed without its target's hidden states; quantize"
    )
    with pytest.raises(EdgespecError, match=says):
        sweep_pair(eagle_pair, tmp_path / "out", Request(), asks=[Ask("def add(a, b):", chat=False)])
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_the_cost_of_an_eagle_head_is_left_to_bench(tmp_path: Path, eagle_pair: Path) -> None:
    after, _ = quantize_pair(eagle_pair, tmp_path / "out", target="int8", draft="none")
    found = measure_cost(Pair.open(eagle_pair), after, [Ask("def add(a, b):", chat=False)], SILENT, max_new_tokens=2)
    assert found["acceptance_unknown"] == "an EAGLE draft reads the target's hidden states; edgespec bench measures it"
    assert "acceptance" not in found


def _narrow_model(xml: Path, name: str = "hidden") -> None:
    """Replace the IR by three matrices with rows of 24: 24 is no multiple of 32."""
    import numpy as np
    import openvino.opset13 as ops

    hidden = ops.parameter([-1, 24], dtype=np.float32, name=name)
    node = hidden
    for _ in range(3):
        weight = np.random.default_rng(0).normal(size=(24, 24)).astype(np.float32)
        node = ops.matmul(node, ops.constant(weight), False, True)
    model = ov.Model([node], [hidden])
    for path in (xml, xml.with_suffix(".bin")):
        path.unlink()
    ov.save_model(model, xml, compress_to_fp16=False)
