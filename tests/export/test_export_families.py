"""Every family computes in OpenVINO what it computes in PyTorch, in float32, at the prompt and through the cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from exported_families import FAMILIES, WINDOW, make_family

from edgespec.export import export_pair
from edgespec.export.verify import ir_logits

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
