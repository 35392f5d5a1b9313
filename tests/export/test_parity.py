"""Differences between the OpenVINO tokenizer and transformers' are found and named, where there are any."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import openvino as ov
import openvino_tokenizers
import pytest
from transformers import AutoTokenizer

from edgespec.export import export_pair
from edgespec.export.parity import CHATS, PROBES, compare_tokenizers

TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture
def checkpoint(tmp_path: Path, tiny_target_checkpoint: Path) -> Path:
    folder = tmp_path / "checkpoint"
    shutil.copytree(tiny_target_checkpoint, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return folder


def exported(checkpoint: Path, folder: Path, **options: Any) -> Path:
    """The tokenizer of `checkpoint` as an OpenVINO model in the new `folder`, converted with `options`."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    converted = openvino_tokenizers.convert_tokenizer(tokenizer, with_detokenizer=True, **options)
    folder.mkdir()
    for part, model in zip(("tokenizer", "detokenizer"), converted, strict=True):
        ov.save_model(model, folder / f"openvino_{part}.xml")
    tokenizer.save_pretrained(folder)
    return folder


def test_a_sound_conversion_has_no_differences(tmp_path: Path, checkpoint: Path) -> None:
    parity = compare_tokenizers(checkpoint, exported(checkpoint, tmp_path / "out"))
    assert parity.differences == ()
    assert parity.asked > 3 * len(PROBES)


def test_another_normaliser_is_found_where_it_shows(tmp_path: Path, checkpoint: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(checkpoint, other)
    document = json.loads((other / "tokenizer.json").read_text(encoding="utf-8"))
    document["normalizer"] = {"type": "Lowercase"}
    (other / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    differences = compare_tokenizers(checkpoint, exported(other, tmp_path / "out")).differences
    assert any(found.startswith("ids of the probe 'English': transformers [") for found in differences)
    assert not any("'Thai'" in found for found in differences)  # it has no capitals


def test_another_decoder_is_found_in_the_text(tmp_path: Path, checkpoint: Path) -> None:
    folder = exported(checkpoint, tmp_path / "out")
    document = json.loads((checkpoint / "tokenizer.json").read_text(encoding="utf-8"))
    document["decoder"] = {"type": "Fuse"}
    (checkpoint / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    differences = compare_tokenizers(checkpoint, folder).differences
    assert any(found.startswith("text of the ids of 'Russian'") for found in differences)
    assert not any(found.startswith("ids of") for found in differences)


def test_another_chat_template_is_found(tmp_path: Path, checkpoint: Path) -> None:
    folder = exported(checkpoint, tmp_path / "out")
    (checkpoint / "chat_template.jinja").write_text(TEMPLATE.replace("<|assistant|>", "Answer:"), encoding="utf-8")
    differences = compare_tokenizers(checkpoint, folder).differences
    assert [found.split(":")[0] for found in differences] == [f"the chat template for {name}" for name, _ in CHATS]


def test_differences_stand_in_the_manifest(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgespec.export import assemble
    from edgespec.export.parity import Parity

    monkeypatch.setattr(assemble, "compare_tokenizers", lambda *_: Parity(59, ("ids of the probe 'Thai': ...",)))
    said: list[str] = []

    class Listener(assemble.SILENT.__class__):  # type: ignore[misc, name-defined]
        def say(self, message: str) -> None:
            said.append(message)

    pair = export_pair(checkpoint, None, tmp_path / "pair", progress=Listener())
    assert pair.manifest.made[0].checks["tokenizer"]["target"]["differences"] == ["ids of the probe 'Thai': ..."]
    assert said == [
        "the OpenVINO tokenizer of the target differs from transformers' in 1 answers:",
        "  ids of the probe 'Thai': ...",
    ]
