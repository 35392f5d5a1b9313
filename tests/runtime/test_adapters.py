"""LoRA adapters: what they do is what the same change of the weights does; where they cannot go, they are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgespec import EdgespecError, SpecPipeline
from edgespec.settings import EXACT

PROMPT = "def add(a, b):\n    return"
PREFIX = "base_model.model.model.layers.{}.self_attn.q_proj"
RANK = 2


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as PEFT writes it, of the query projections of both layers."""
    from safetensors.numpy import save_file

    draw = np.random.default_rng(0)
    tensors = {}
    for layer in range(2):
        tensors[f"{PREFIX.format(layer)}.lora_A.weight"] = draw.normal(size=(RANK, 64)).astype(np.float32)
        tensors[f"{PREFIX.format(layer)}.lora_B.weight"] = draw.normal(size=(64, RANK)).astype(np.float32)
    path = tmp_path_factory.mktemp("lora") / "adapter.safetensors"
    save_file(tensors, path)
    return path


def test_an_adapter_is_the_change_of_weights_it_stands_for(
    lora: Path, tiny_pair: Path, tiny_target_checkpoint: Path, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    from edgespec.export import export_pair

    merged = Path(shutil.copytree(tiny_target_checkpoint, tmp_path / "merged"))
    weights, change = load_file(merged / "model.safetensors"), load_file(lora)
    for layer in range(2):
        name = PREFIX.format(layer)
        weights[f"model.layers.{layer}.self_attn.q_proj.weight"] += (
            change[f"{name}.lora_B.weight"] @ change[f"{name}.lora_A.weight"]
        )
    save_file(weights, merged / "model.safetensors", {"format": "pt"})
    with SpecPipeline(export_pair(merged, None, tmp_path / "pair").root, settings=EXACT) as opened:
        expected = opened.generate(PROMPT, max_new_tokens=16).token_ids
    with SpecPipeline(tiny_pair, adapters={lora: 1.0}, settings=EXACT) as adapted:
        result = adapted.generate(PROMPT, max_new_tokens=16)
    with SpecPipeline(tiny_pair, settings=EXACT) as plain:
        assert plain.generate(PROMPT, max_new_tokens=16).token_ids != expected
    assert result.token_ids == expected
    assert (result.metrics.mode, result.metrics.engine) == ("plain", "genai") and "LoRA adapters" in result.metrics.why


def test_adapters_are_refused_where_they_cannot_go(lora: Path, tiny_pair: Path, tmp_path: Path) -> None:
    for mode, reason in (("draft", "the draft would have to have them"), ("native-copy", "native engine applies none")):
        with pytest.raises(EdgespecError, match=reason):
            SpecPipeline(tiny_pair, mode=mode, adapters={lora: 1.0})
    with pytest.raises(EdgespecError, match="there is no LoRA file"):
        SpecPipeline(tiny_pair, adapters={tmp_path / "none.safetensors": 1.0})
    (tmp_path / "broken.safetensors").write_text(json.dumps({}), encoding="utf-8")
    with pytest.raises(EdgespecError, match="cannot be read"):
        SpecPipeline(tiny_pair, adapters={tmp_path / "broken.safetensors": 1.0})
