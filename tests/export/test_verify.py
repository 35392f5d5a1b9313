"""--verify agrees with a sound export in every type, and refuses one that computes something else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
import torch
from exported_families import make_family
from transformers import AutoModelForCausalLM

from edgespec.commands.export import show_pair
from edgespec.console import Terminal
from edgespec.errors import EdgespecError
from edgespec.export import export_pair
from edgespec.export.checkpoint import open_checkpoint
from edgespec.export.verify import compare_with_pytorch, torch_logits
from edgespec.pair import Pair


@pytest.fixture(scope="module")
def bf16_checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_target_checkpoint: Path) -> Path:
    folder = tmp_path_factory.mktemp("bf16") / "checkpoint"
    make_family("gemma3", folder, tiny_target_checkpoint).to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("dtype", "closer_than"), [("bf16", 2e-3), ("fp16", 2e-3), ("fp32", 1e-4)])
def test_a_sound_export_agrees(tmp_path: Path, bf16_checkpoint: Path, dtype: str, closer_than: float) -> None:
    """bf16 weights are exact in each of these types, so what differs is how a constant of the code is rounded."""
    pair = export_pair(bf16_checkpoint, None, tmp_path / "pair", dtype=dtype, verify=True)
    found = pair.manifest.made[0].checks["verify"]["target"]
    assert found["top1"] > 0.98
    assert found["relative"] < closer_than
    assert found["positions"] > 50


def test_the_reference_is_f32_arithmetic_on_the_stored_weights(bf16_checkpoint: Path) -> None:
    """The same as a model that was turned to f32 as a whole, but for gemma's factor of the embedding, which torch
    rounds to the embedding's type."""
    prompts = [[12, 77, 203, 5, 140, 31, 250], [9, 66]]
    got = torch_logits(open_checkpoint(str(bf16_checkpoint)), prompts)
    whole = AutoModelForCausalLM.from_pretrained(bf16_checkpoint, dtype=torch.float32)
    embedding = whole.model.embed_tokens
    embedding.embed_scale = embedding.embed_scale.to(torch.bfloat16).float()
    for ids, logits in zip(prompts, got, strict=True):
        with torch.no_grad():
            expected = whole(torch.tensor([ids])).logits[0].numpy()
        np.testing.assert_allclose(logits, expected, atol=5e-3 * float(np.abs(expected).max()))


def test_an_export_that_computes_something_else_is_refused(
    tmp_path: Path, tiny_pair: Path, tiny_target_checkpoint: Path
) -> None:

    folder = Path(shutil.copytree(tiny_pair / "target", tmp_path / "model"))
    model = ov.Core().read_model(tiny_pair / "target" / "openvino_model.xml")
    head = next(node for node in reversed(model.get_ordered_ops()) if node.get_type_name() == "MatMul")
    wrong = ov.opset13.roll(head.output(0), np.array([7]), np.array([-1]))
    names = head.output(0).get_names()
    head.output(0).get_tensor().set_names(set())
    wrong.output(0).get_tensor().set_names(names)
    for consumer in head.output(0).get_target_inputs():
        if consumer.get_node().get_friendly_name() != wrong.get_friendly_name():
            consumer.replace_source_output(wrong.output(0))
    ov.save_model(model, folder / "openvino_model.xml")
    with pytest.raises(
        EdgespecError, match=r"does not compute what PyTorch does: only \d+% of the likeliest tokens agree"
    ):
        compare_with_pytorch(open_checkpoint(str(tiny_target_checkpoint)), folder)


def test_an_export_that_computes_nan_is_refused(
    tiny_pair: Path, tiny_target_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgespec.export import verify

    monkeypatch.setattr(
        verify, "ir_logits", lambda _, prompts: [np.full((len(ids), 320), np.nan, np.float32) for ids in prompts]
    )
    with pytest.raises(EdgespecError, match="computes NaN or infinity; export it with --dtype bf16"):
        compare_with_pytorch(open_checkpoint(str(tiny_target_checkpoint)), tiny_pair / "target")


def test_the_command_shows_and_tells_it(tmp_path: Path, tiny_draft_checkpoint: Path) -> None:
    command = [sys.executable, "-m", "edgespec", "export", str(tiny_draft_checkpoint), "-o", str(tmp_path / "pair")]
    done = subprocess.run([*command, "--verify", "--json"], capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)
    assert document["checks"]["verify"]["target"]["top1"] > 0.9
    assert document["checks"]["tokenizer"]["target"]["differences"] == []
    assert 1e8 < document["peak_anonymous_bytes"] < 2e9


def test_the_table_shows_it(tiny_pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = Pair.open(tiny_pair)
    checks = {
        "verify": {"target": {"top1": 0.987, "max_difference": 0.0123}},
        "tokenizer": {"target": {"asked": 59, "differences": ["ids of the probe 'Thai': ..."]}},
    }
    step = pair.manifest.made[0].model_copy(update={"checks": checks, "peak_anonymous_bytes": 1_230_000_000})
    show_pair(Terminal(), Pair(pair.root, pair.manifest.model_copy(update={"made": [step]})))
    shown = " ".join(capsys.readouterr().err.split())
    assert "98.7%" in shown and "0.012" in shown and "1.23 GB of anonymous memory" in shown
