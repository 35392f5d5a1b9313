"""The index of a draft's training text travels: checkpoint or hub, exported pair, quantized pair."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import HfApi

from edgespec.export import export_pair, hub
from edgespec.pair import Pair
from edgespec.quantize import quantize_pair
from edgespec.training_index import INDEX_FILE, TrainingIndex

TEXT = "A document that the draft was trained on, long enough to leave at least one window in the index."


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, tiny_target_checkpoint: Path, tiny_draft_checkpoint: Path
) -> Pair:
    folder = tmp_path_factory.mktemp("indexed")
    draft = Path(shutil.copytree(tiny_draft_checkpoint, folder / "draft"))
    TrainingIndex.build([TEXT], "one document").write(draft / INDEX_FILE)
    return export_pair(tiny_target_checkpoint, draft, folder / "pair")


def test_an_exported_draft_keeps_its_index(exported: Pair) -> None:
    assert exported.draft is not None and exported.manifest.draft is not None
    assert INDEX_FILE in Pair.open(exported.root).manifest.draft.files  # type: ignore[union-attr]
    assert INDEX_FILE not in exported.manifest.target.files
    assert TrainingIndex.read(exported.draft / INDEX_FILE).overlap(TEXT) > 0.5


def test_a_quantized_draft_keeps_it_too(exported: Pair, tmp_path: Path) -> None:
    pair, _ = quantize_pair(exported.root, tmp_path / "small", target="none", draft="int8")
    assert pair.draft is not None and pair.manifest.draft is not None
    assert (pair.draft / INDEX_FILE).read_bytes() == (exported.root / "draft" / INDEX_FILE).read_bytes()
    assert INDEX_FILE in pair.manifest.draft.files


def test_a_hub_checkpoint_brings_its_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("config.json", "tokenizer.json", "model.safetensors", INDEX_FILE, "photo.npz")
    files = [SimpleNamespace(rfilename=name, size=1) for name in names]
    fetched: list[str] = []

    def download(_name: str, _commit: Any, wanted: list[str]) -> Path:
        fetched.extend(wanted)
        return tmp_path

    monkeypatch.setattr(HfApi, "model_info", lambda *_, **__: SimpleNamespace(sha="0" * 40, siblings=files))
    monkeypatch.setattr(hub, "_download", download)
    hub.find("some/draft", None, with_code=False)
    assert fetched == ["config.json", "tokenizer.json", INDEX_FILE]
