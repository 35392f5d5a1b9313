"""Compression in slices gives upstream's own bytes, in less memory."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest

from edgespec.quantize import lean
from edgespec.resources import anonymous_bytes


def embed_and_project(rows: int, width: int, dtype: type = np.float16) -> ov.Model:
    """An embedding, a layer and a head, as a language model has them; weights of one seed."""
    draw = np.random.default_rng(0)
    ids = ops.parameter([-1], dtype=np.int64, name="ids")
    table = ops.convert(
        ops.constant(draw.standard_normal((rows, width), np.float32).astype(dtype), name="table"), np.float32
    )
    node = ops.gather(table, ids, ops.constant(0))
    for name, height in (("layer", width), ("head", rows)):
        weight = ops.constant(draw.standard_normal((height, width), np.float32).astype(dtype), name=name)
        node = ops.matmul(node, ops.convert(weight, np.float32), False, True)
    return ov.Model([node], [ids])


def compressed(tmp_path: Path, use_lean: bool, model: ov.Model, **arguments: Any) -> bytes:
    return compress(tmp_path, use_lean, model, **arguments).read_bytes()


def compress(tmp_path: Path, use_lean: bool, model: ov.Model, **arguments: Any) -> Path:
    out, scratch = tmp_path / f"{use_lean}.xml", tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    with lean.lean_compression(scratch) if use_lean else nullcontext():
        model = nncf.compress_weights(model, **arguments)
        ov.save_model(model, out, compress_to_fp16=False)
        del model
    return out.with_suffix(".bin")


@pytest.mark.parametrize("mode", ["int8_asym", "int8_sym", "int4_sym", "int4_asym", "nf4", "mxfp4", "fp8_e4m3", "cb4"])
def test_slices_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setattr(lean, "SLICE_ELEMENTS", 1 << 14)
    appended: list[Any] = []
    append = lean._Store.append
    monkeypatch.setattr(lean._Store, "append", lambda store, part: (appended.append(store), append(store, part))[1])
    arguments: dict[str, Any] = {"mode": nncf.CompressWeightsMode(mode)}
    if not mode.startswith("int8"):
        arguments |= {"all_layers": True}
    if mode.startswith("int4"):
        arguments |= {"group_size": 64}
    upstream = compressed(tmp_path, False, embed_and_project(300, 128), **arguments)
    assert compressed(tmp_path, True, embed_and_project(300, 128), **arguments) == upstream
    assert len(upstream) > 100 * 128 // 2
    slices = {store: appended.count(store) for store in appended}
    if mode == "cb4":  # a codebook belongs to the whole matrix, so upstream's way is taken
        assert slices == {}
    else:
        assert sorted(slices.values()) == [1, 3, 3]  # the layer whole; the table and the head in slices


def test_large_results_lie_in_the_scratch_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean, "SLICE_ELEMENTS", 1 << 12)
    compressed(tmp_path, True, embed_and_project(300, 128), mode=nncf.CompressWeightsMode.INT8_ASYM)
    sizes = sorted(path.stat().st_size for path in (tmp_path / "scratch").iterdir())
    assert sizes == [128 * 128, 300 * 128, 300 * 128]


def test_upstream_is_put_back_even_after_a_failure(tmp_path: Path) -> None:
    from nncf.quantization.algorithms.weight_compression import openvino_backend

    before = openvino_backend.compress_weight
    with pytest.raises(ValueError, match="in the middle"), lean.lean_compression(tmp_path):
        assert openvino_backend.compress_weight != before
        raise ValueError("in the middle")
    assert openvino_backend.compress_weight == before


def test_without_upstreams_internal_name_compression_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nncf.quantization.algorithms.weight_compression import openvino_backend

    monkeypatch.delattr(openvino_backend, "compress_weight")
    with lean.lean_compression(tmp_path):
        assert not hasattr(openvino_backend, "compress_weight")


WATCHER = """
import sys, threading, time, psutil
from edgespec.resources import anonymous_bytes
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set())).start()
process, peak = psutil.Process(int(sys.argv[1])), 0
print(flush=True)
while not ended.is_set():
    peak = max(peak, anonymous_bytes(process))
    time.sleep(0.002)
print(peak)
"""


@contextmanager
def watched() -> Iterator[list[int]]:
    """The peak of this process as another sees it: a thread of this one does not run while native code holds it."""
    command = [sys.executable, "-c", WATCHER, str(os.getpid())]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    peak: list[int] = []
    yield peak
    peak.append(int(child.communicate()[0]))


def test_the_peak_is_a_slice_and_not_the_matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An embedding and a head of 67 million weights each: upstream holds some 11 bytes for every weight of one."""
    monkeypatch.setattr(lean, "SLICE_ELEMENTS", 1 << 22)
    source = tmp_path / "source.xml"
    ov.save_model(embed_and_project(1 << 16, 1 << 10), source)
    compressed(tmp_path, True, embed_and_project(300, 128), mode=nncf.CompressWeightsMode.INT8_ASYM)  # loads libraries
    peaks = {}
    for use_lean in (True, False):
        gc.collect()
        before = anonymous_bytes()
        model = ov.Core().read_model(source)
        with watched() as peak:
            compress(tmp_path, use_lean, model, mode=nncf.CompressWeightsMode.INT8_ASYM)
        peaks[use_lean] = peak[0] - before
    assert peaks[True] < 0.75 * peaks[False], peaks
