"""Every family computes in OpenVINO what it computes in PyTorch, in float32, at the prompt and through the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported_families import FAMILIES, WINDOW, make_family

from edgespec.export import export_pair
from edgespec.export.verify import ir_logits
from edgespec.progress import Silent

PROMPT = [12, 77, 203, 5, 140, 31, 250, 9, 66, 4, 118, 207, 33, 71]  # its last five go through the cache one by one


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_pytorch(tmp_path: Path, tiny_target_checkpoint: Path, family: str) -> None:
    assert len(PROMPT) - 5 > WINDOW
    model = make_family(family, tmp_path / "checkpoint", tiny_target_checkpoint)
    pair = export_pair(tmp_path / "checkpoint", None, tmp_path / "pair", dtype="fp32")
    with torch.no_grad():
        expected = model(torch.tensor([PROMPT])).logits[0].numpy()
    got = ir_logits(pair.target / "openvino_model.xml", [PROMPT])[0]
    assert expected.std() > 1e-3
    np.testing.assert_allclose(got, expected, atol=2e-5 * float(np.abs(expected).max()))
    assert pair.manifest.made[0].checks["tokenizer"]["target"]["differences"] == []


@pytest.mark.parametrize("family", ["llama", "gemma3", "smollm3", "qwen3_moe"])
def test_an_early_exit_is_the_first_layers_of_the_target(
    tmp_path: Path, tiny_target_checkpoint: Path, family: str
) -> None:
    """With the entries that are a layer's own, such as gemma3's windows, cut to match; computed here by taking the
    layers out of the whole model."""
    model = make_family(family, tmp_path / "checkpoint", tiny_target_checkpoint)
    pair = export_pair(tmp_path / "checkpoint", None, tmp_path / "pair", dtype="fp32", early_exit=2)
    assert pair.draft is not None
    model.model.layers = model.model.layers[:2]
    model.config.num_hidden_layers = 2
    with torch.no_grad():
        expected = model(torch.tensor([PROMPT]), use_cache=False).logits[0].numpy()
    got = ir_logits(pair.draft / "openvino_model.xml", [PROMPT])[0]
    np.testing.assert_allclose(got, expected, atol=2e-5 * float(np.abs(expected).max()))
    assert pair.manifest.draft is not None
    assert (pair.manifest.draft.kind, pair.manifest.draft.layers) == ("early_exit", 2)
    assert pair.manifest.draft.parameters < pair.manifest.target.parameters


class Listener(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def test_phi4_minis_long_factors_begin_where_pytorchs_do(tmp_path: Path, tiny_target_checkpoint: Path) -> None:
    """longrope has two sets of rotary factors, and takes the long ones as soon as a pass ends beyond
    original_max_position_embeddings (64 here). Prompts of 60, 66 and 90 tokens: within it, across it with the last five
    one by one through the cache, and beyond it. PyTorch is fed in the same passes: keys that are in the cache keep the
    factors they got, there as here."""
    model = make_family("phi4-mini", tmp_path / "checkpoint", tiny_target_checkpoint)
    listener = Listener()
    pair = export_pair(tmp_path / "checkpoint", None, tmp_path / "pair", dtype="fp32", progress=listener)
    (warning,) = listener.said
    assert "turns to its long rotary factors (longrope) in a pass that ends beyond 64 tokens" in warning
    ids = [(7 * i * i + 3 * i) % 300 for i in range(1, 91)]
    for length in (60, 66, 90):
        prompt = ids[:length]
        got = ir_logits(pair.target / "openvino_model.xml", [prompt])[0]
        expected = _in_passes(model, [prompt[:-5], *([token] for token in prompt[-5:])])
        np.testing.assert_allclose(got, expected, atol=2e-5 * float(np.abs(expected).max()))
    once = _in_passes(model, [ids[:66]])
    short = _in_passes(model, [ids[:61], *([token] for token in ids[61:66])])
    assert np.abs(once - short).max() > 1e-3 * np.abs(once).max()  # so the test does tell the factors apart


def _in_passes(model: Any, passes: list[list[int]]) -> np.ndarray:
    """PyTorch's logits of tokens that come in several passes over one cache."""
    from transformers import DynamicCache

    cache, rows, past = DynamicCache(config=model.config), [], 0
    for tokens in passes:
        positions = torch.arange(past, past + len(tokens))
        with torch.no_grad():
            out = model(
                torch.tensor([tokens]),
                position_ids=positions[None],
                cache_position=positions,
                past_key_values=cache,
                use_cache=True,
            )
        rows.append(out.logits[0].numpy())
        past += len(tokens)
    return np.concatenate(rows)
