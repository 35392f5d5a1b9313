"""Scratch folders go, also where the system keeps mapped files: whoever held them has let go by then."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import psutil
import pytest

from edgespec.errors import EdgespecError
from edgespec.quantize import lean, quantize_pair
from edgespec.quantize.compress import SCRATCH
from edgespec.quantize.scratch import scratch_folder


def mapped_below(folder: Path) -> list[str]:
    """Files below `folder` that this process has mapped: what Windows would refuse to delete."""
    return [one.path for one in psutil.Process().memory_maps() if Path(one.path).is_relative_to(folder)]


def test_a_file_that_an_error_kept_mapped_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[list[str]] = []
    real = shutil.rmtree
    monkeypatch.setattr(
        shutil, "rmtree", lambda path, **options: (held.append(mapped_below(path)), real(path, **options))
    )

    def work(folder: Path) -> None:
        mapped = np.memmap(folder / "weights.bin", dtype=np.uint8, mode="w+", shape=(1 << 16,))
        assert mapped_below(folder)
        raise ValueError(f"in the middle of {len(mapped)}")

    def fails(folder: Path) -> None:
        try:
            work(folder)
        except ValueError as error:
            raise EdgespecError("told in a sentence") from error

    with pytest.raises(EdgespecError, match="told in a sentence"), scratch_folder(tmp_path / "scratch") as folder:
        fails(folder)
    assert held == [[]]
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_removed_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with scratch_folder(tmp_path / "scratch"):
        pass
    assert (tmp_path / "scratch").exists()


@pytest.mark.parametrize("fails", [False, True], ids=["saved", "not-saved"])
def test_nothing_of_a_compression_is_mapped_when_its_scratch_goes(
    tmp_path: Path, tiny_pair: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    monkeypatch.setattr(lean, "SLICE_ELEMENTS", 1 << 12)
    seen: list[list[str]] = []
    during: list[list[str]] = []
    real_rmtree, real_save = shutil.rmtree, ov.save_model

    def rmtree(path: Path, **options: Any) -> None:
        if Path(path).name == SCRATCH:
            seen.append(mapped_below(Path(path)))
        real_rmtree(path, **options)

    def save_model(model: ov.Model, out: Path, **options: Any) -> None:
        during.append(mapped_below(out.parent / SCRATCH))
        if fails:
            raise RuntimeError("iostream error")
        real_save(model, out, **options)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    monkeypatch.setattr(ov, "save_model", save_model)
    if fails:
        with pytest.raises(EdgespecError, match=r"the compressed model could not be written to '.*': iostream error"):
            quantize_pair(tiny_pair, tmp_path / "out", target="int8", draft="none")
        assert not list(tmp_path.iterdir())
    else:
        quantize_pair(tiny_pair, tmp_path / "out", target="int8", draft="none")
    assert during[0]  # the test sees maps where there are some
    assert seen == [[]]
