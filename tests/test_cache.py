"""Where fetched things go, on each system."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgespec.cache import cache_folder


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("EDGESPEC_CACHE", "LOCALAPPDATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)


def test_each_system_has_its_place(tmp_path: Path) -> None:
    assert cache_folder("linux") == tmp_path / ".cache" / "edgespec"
    assert cache_folder("darwin") == tmp_path / "Library" / "Caches" / "edgespec"
    assert cache_folder("win32") == tmp_path / "AppData" / "Local" / "edgespec"


def test_the_environment_decides_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_folder("linux") == tmp_path / "xdg" / "edgespec"
    assert cache_folder("win32") == tmp_path / "local" / "edgespec"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder("linux") == tmp_path / ".cache" / "edgespec"
    monkeypatch.setenv("EDGESPEC_CACHE", str(tmp_path / "mine"))
    assert {cache_folder(system) for system in ("linux", "darwin", "win32")} == {tmp_path / "mine"}
