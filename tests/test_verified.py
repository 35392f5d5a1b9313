"""A pair is hashed once: what was found whole is not read again until its size or time of change is another."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from edgespec import verified
from edgespec.errors import EdgespecError
from edgespec.hashing import sha256_of
from edgespec.pair import Pair

LONG_AGO = 1_600_000_000


@pytest.fixture
def copy(tiny_pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the tiny pair, unchanged for years, with a cache folder of its own."""
    monkeypatch.setenv("EDGESPEC_CACHE", str(tmp_path / "cache"))
    root = Path(shutil.copytree(tiny_pair, tmp_path / "pair"))
    for path in root.rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    return root


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are hashed."""
    names: list[str] = []

    def noted(path: Path) -> str:
        names.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr("edgespec.pair.sha256_of", noted)
    return names


def alter(path: Path) -> None:
    """Turn one bit: the size stays."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_second_start_hashes_nothing_and_verify_hashes_all(copy: Path, hashed: list[str]) -> None:
    Pair.open(copy)
    every = sorted(hashed)
    assert len(every) >= 2 * 10
    hashed.clear()
    Pair.open(copy)
    assert hashed == []
    Pair.open(copy, verify=True)
    assert sorted(hashed) == every


def test_another_time_or_size_is_hashed_again(copy: Path, hashed: list[str]) -> None:
    Pair.open(copy)
    hashed.clear()
    weights = copy / "draft" / "openvino_model.bin"
    os.utime(weights, (LONG_AGO + 7, LONG_AGO + 7))
    Pair.open(copy)
    assert hashed == ["openvino_model.bin"], "touched, and as it was"
    alter(weights)
    with pytest.raises(EdgespecError, match="does not match its sha256"):
        Pair.open(copy)


def test_what_hides_its_change_is_found_on_demand(copy: Path) -> None:
    Pair.open(copy)
    weights = copy / "target" / "openvino_model.bin"
    alter(weights)
    os.utime(weights, (LONG_AGO, LONG_AGO))
    assert Pair.open(copy), "the record holds: same size, same time"
    with pytest.raises(EdgespecError, match="does not match its sha256"):
        Pair.open(copy, verify=True)


def test_a_file_that_just_changed_is_not_recorded(copy: Path, hashed: list[str]) -> None:
    """Its next change may come within the same tick of the file system's clock."""
    os.utime(copy / "target" / "config.json")
    Pair.open(copy)
    hashed.clear()
    Pair.open(copy)
    assert hashed == ["config.json"]


def test_another_manifest_and_another_place_are_hashed_again(copy: Path, hashed: list[str], tmp_path: Path) -> None:
    Pair.open(copy)
    hashed.clear()
    Pair.open(shutil.copytree(copy, tmp_path / "moved"))
    assert len(hashed) >= 2 * 10


def test_a_record_that_cannot_be_read_or_written_costs_time_only(copy: Path, hashed: list[str], tmp_path: Path) -> None:
    Pair.open(copy)
    record = next((tmp_path / "cache" / "verified").iterdir())
    for broken in ("{", "[]", '{"a": 1}'):
        record.write_text(broken, encoding="utf-8")
        hashed.clear()
        Pair.open(copy)
        assert len(hashed) >= 2 * 10
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").write_text("in the way", encoding="utf-8")
    assert Pair.open(copy)


def test_records_of_long_ago_are_forgotten(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verified, "_MOST", 2)
    folder = tmp_path / "cache" / "verified"
    folder.mkdir(parents=True)
    for age in (1, 2, 3):
        old = folder / f"{age}.json"
        old.write_text("{}", encoding="utf-8")
        os.utime(old, (LONG_AGO - age, LONG_AGO - age))
    Pair.open(copy)
    left = sorted(path.name for path in folder.iterdir())
    assert len(left) == 2 and "1.json" in left
