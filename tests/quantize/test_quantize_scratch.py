"""Scratch folders go, also where the system keeps mapped files: whoever held them has let go by then."""

from __future__ import annotations

import itertools
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import psutil
import pytest

from edgespec.errors import EdgespecError
from edgespec.package import package_for_ovms
from edgespec.pair import Pair, read_manifest
from edgespec.quantize import assemble, lean, quantize_pair
from edgespec.quantize.compress import SCRATCH
from edgespec.quantize.scratch import scratch_folder
from edgespec.staging import SCRATCH_MARK


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

    with pytest.raises(EdgespecError, match="told in a sentence"), scratch_folder(tmp_path, "scratch") as folder:
        fails(folder)
    assert held == [[]]
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_removed_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with scratch_folder(tmp_path, "scratch") as folder:
        pass
    assert folder.exists()


@pytest.mark.parametrize("fails", [False, True], ids=["saved", "not-saved"])
def test_nothing_of_a_compression_is_mapped_when_its_scratch_goes(
    tmp_path: Path, tiny_pair: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    monkeypatch.setattr(lean, "SLICE_ELEMENTS", 1 << 12)
    seen: list[list[str]] = []
    during: list[list[str]] = []
    real_rmtree, real_save = shutil.rmtree, ov.save_model

    def rmtree(path: Path, **options: Any) -> None:
        if Path(path).name == SCRATCH_MARK + SCRATCH:
            seen.append(mapped_below(Path(path)))
        real_rmtree(path, **options)

    def save_model(model: ov.Model, out: Path, **options: Any) -> None:
        during.append(mapped_below(out.parent / (SCRATCH_MARK + SCRATCH)))
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


def test_what_a_scratch_folder_leaves_is_not_part_of_a_pair(
    tmp_path: Path, tiny_pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is ever removed, as on Windows while somebody has the files open; and what stays is not shipped."""
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(time, "monotonic", itertools.count(0, 100).__next__)
    monkeypatch.setattr(lean, "SLICE_ELEMENTS", 1 << 12)
    out = tmp_path / "out"
    quantize_pair(tiny_pair, out, target="int8", draft="int8")
    left = {path.relative_to(out).as_posix() for path in out.rglob(f"{SCRATCH_MARK}*") if path.is_dir()}
    assert left  # they are there
    manifest = read_manifest(out)
    assert manifest.draft is not None
    named = [name for record in (manifest.target, manifest.draft) for name in record.files]
    assert not [name for name in named if SCRATCH_MARK in name]
    Pair.open(out, verify=True)
    monkeypatch.undo()
    package_for_ovms(out, tmp_path / "repo", name="tiny")
    assert not list((tmp_path / "repo").rglob(f"{SCRATCH_MARK}*"))
    assert (tmp_path / "repo" / "tiny" / "draft" / "openvino_model.bin").is_file()


def test_a_scratch_folder_that_was_held_for_a_while_is_gone_when_the_pair_appears(
    tmp_path: Path, tiny_pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.rmtree
    held = True

    def rmtree(path: Path, **options: Any) -> None:
        if not held:
            real(path, **options)

    def write_manifest(*_: Any) -> None:  # the last thing that is done
        nonlocal held
        held = False
        real_write(*_)

    real_write = assemble.write_manifest
    monkeypatch.setattr(shutil, "rmtree", rmtree)
    monkeypatch.setattr(assemble, "write_manifest", write_manifest)
    quantize_pair(tiny_pair, tmp_path / "out", target="int8", draft="none")
    assert not held
    assert not list(tmp_path.rglob(f"*{SCRATCH_MARK}*"))
