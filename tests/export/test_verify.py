"""--verify agrees with a sound export in every type, and refuses one that computes something else."""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov
import psutil
import pytest
import torch
from exported_families import make_family
from transformers import AutoModelForCausalLM

from edgespec.commands.export import run, show_pair
from edgespec.console import Terminal
from edgespec.errors import EdgespecError
from edgespec.export import export_pair, verify
from edgespec.export.checkpoint import open_checkpoint
from edgespec.export.verify import BOUNDS, Reference, bound_of, hold, reference_of, torch_logits
from edgespec.pair import Pair


@pytest.fixture(scope="module")
def bf16_checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_target_checkpoint: Path) -> Path:
    folder = tmp_path_factory.mktemp("bf16") / "checkpoint"
    make_family("gemma3", folder, tiny_target_checkpoint).to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_a_sound_export_agrees_well_within_its_bound(tmp_path: Path, bf16_checkpoint: Path, dtype: str) -> None:
    """PyTorch has the weights of the same type, so what differs is how a constant of the code is rounded."""
    pair = export_pair(bf16_checkpoint, None, tmp_path / "pair", dtype=dtype, verify=True)
    found = pair.manifest.made[0].checks["verify"]["target"]
    assert found["top1"] > 0.98
    assert found["relative"] < BOUNDS[dtype].relative / 3
    assert (found["precision"], found["bound"]) == (dtype, BOUNDS[dtype].relative)
    assert found["positions"] > 50


def test_the_reference_has_the_weights_of_the_type_that_was_asked_for(
    tmp_path: Path, tiny_target_checkpoint: Path
) -> None:
    """f32 weights exported as bf16 are far from the original's, and no further from bf16 weights than rounding is."""
    pair = export_pair(tiny_target_checkpoint, None, tmp_path / "pair", dtype="bf16", verify=True)
    found = pair.manifest.made[0].checks["verify"]["target"]
    original = hold(
        Reference("original", PROMPTS, torch_logits(open_checkpoint(str(tiny_target_checkpoint)), PROMPTS)),
        pair.target,
        "int8",
    )
    assert found["relative"] < original.relative / 2


PROMPTS = [[12, 77, 203, 5, 140, 31, 250], [9, 66]]


def test_the_reference_is_f32_arithmetic_on_the_stored_weights(bf16_checkpoint: Path) -> None:
    """The same as a model that was turned to f32 as a whole, but for gemma's factor of the embedding, which torch
    rounds to the embedding's type."""
    prompts = PROMPTS
    got = torch_logits(open_checkpoint(str(bf16_checkpoint)), prompts)
    whole = AutoModelForCausalLM.from_pretrained(bf16_checkpoint, dtype=torch.float32)
    embedding = whole.model.embed_tokens
    embedding.embed_scale = embedding.embed_scale.to(torch.bfloat16).float()
    for ids, logits in zip(prompts, got, strict=True):
        with torch.no_grad():
            expected = whole(torch.tensor([ids])).logits[0].numpy()
        np.testing.assert_allclose(logits, expected, atol=5e-3 * float(np.abs(expected).max()))


def damaged(source: Path, folder: Path, damage: Callable[[ov.Output], ov.Node]) -> Path:
    """The model of `source` with something put behind its head."""
    shutil.copytree(source, folder)
    model = ov.Core().read_model(source / "openvino_model.xml")
    head = next(node for node in reversed(model.get_ordered_ops()) if node.get_type_name() == "MatMul").output(0)
    readers = head.get_target_inputs()
    names = head.get_names()
    head.get_tensor().set_names(set())
    wrong = damage(head).output(0)
    wrong.get_tensor().set_names(names)
    for reader in readers:
        reader.replace_source_output(wrong)
    ov.save_model(model, folder / "openvino_model.xml", compress_to_fp16=False)
    return folder


@pytest.mark.parametrize(
    ("precision", "damage", "says"),
    [
        (
            "fp16",
            lambda head: ov.opset13.roll(head, np.array([7]), np.array([-1])),
            r"\(fp16\) does not compute what PyTorch does: logits differ by up to [\d.]+, 1\d\d\.\d\d% of the largest, "
            r"where 1\.56% is allowed, and \d% of the likeliest tokens agree, where 95% must \(fp16: con.*optimum",
        ),
        (
            "fp32",
            lambda head: ov.opset13.multiply(head, np.float32(1.001)),
            r"0\.\d\d% of the largest, where 0\.05% is",
        ),
        ("bf16", lambda head: ov.opset13.multiply(head, np.float32(1.05)), r"of the largest, where 3\.12% is allowed"),
        (
            "int8_asym",
            lambda head: ov.opset13.multiply(head, np.float32(1.3)),
            r"where 20\.00% is allowed, and \d+% of .*\(8 bits: each weight .* report it to nncf, or choose another",
        ),
        (
            "int4_sym_g128",
            lambda head: ov.opset13.multiply(head, np.float32(-1)),
            r"where 70\.00% is allowed, and 0% of the likeliest tokens agree, where 30% must \(4 bits",
        ),
    ],
)
def test_an_export_that_computes_something_else_is_refused_with_the_figures_and_the_bound(
    tmp_path: Path,
    tiny_pair: Path,
    tiny_target_checkpoint: Path,
    precision: str,
    damage: Callable[[ov.Output], ov.Node],
    says: str,
) -> None:
    dtype = precision if precision in BOUNDS else "fp16"
    source = export_pair(tiny_target_checkpoint, None, tmp_path / "pair", dtype=dtype).target
    reference = reference_of(open_checkpoint(str(tiny_target_checkpoint)), source, dtype)
    assert hold(reference, source, precision).relative < BOUNDS[dtype].relative
    with pytest.raises(EdgespecError, match=says):
        hold(reference, damaged(source, tmp_path / "model", damage), precision)


def test_what_pytorch_mapped_is_let_go_before_openvino_runs(tiny_pair: Path, tiny_target_checkpoint: Path) -> None:
    """Windows counts a file that is mapped copy-on-write as memory until it is let go."""
    gc.disable()
    try:
        reference_of(open_checkpoint(str(tiny_target_checkpoint)), tiny_pair / "target", "fp16")
        mapped = [one.path for one in psutil.Process().memory_maps()]
    finally:
        gc.enable()
    assert not [path for path in mapped if Path(path).is_relative_to(tiny_target_checkpoint)]


def test_a_refused_verification_leaves_nothing_behind(
    tmp_path: Path, tiny_target_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = verify.ir_logits
    monkeypatch.setattr(verify, "ir_logits", lambda xml, prompts: [-rows for rows in real(xml, prompts)])
    with pytest.raises(EdgespecError, match="does not compute what PyTorch does"):
        export_pair(tiny_target_checkpoint, None, tmp_path / "pair", verify=True)
    assert list(tmp_path.iterdir()) == []


def test_compressed_weights_are_held_against_pytorch_too_and_refused_without_a_trace(
    tmp_path: Path, tiny_target_checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(str(tiny_target_checkpoint), tmp_path / "pair", weights="int8", verify=True, json_output=True)
    checks = json.loads(capsys.readouterr().out.splitlines()[-1])["checks"]
    found = checks["verify_compressed"]["target"]
    assert (found["precision"], found["bound"]) == ("int8_asym", BOUNDS["8 bits"].relative)
    assert checks["verify"]["target"]["relative"] < found["relative"] < found["bound"]
    Pair.open(tmp_path / "pair").delete()
    real = verify.ir_logits
    monkeypatch.setattr(
        verify, "ir_logits", lambda xml, prompts: [-r if "small" in str(xml) else r for r in real(xml, prompts)]
    )
    with pytest.raises(EdgespecError, match=r"\(int8_asym\) does not compute what PyTorch does.*report it to nncf"):
        run(str(tiny_target_checkpoint), tmp_path / "pair", weights="int8", verify=True, json_output=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("precision", "kind"),
    [("fp32", "fp32"), ("int8_sym", "8 bits"), ("fp8_e5m2", "8 bits"), ("mxfp8", "8 bits"), ("int4_sym_g128", "4 bits"),
     ("int4_asym_g8", "4 bits"), ("nf4", "4 bits"), ("cb4", "4 bits"), ("mxfp4", "4 bits"), ("fp4_g16", "4 bits")],
)  # fmt: skip
def test_each_format_has_its_bound(precision: str, kind: str) -> None:
    assert bound_of(precision)[0] == kind


def test_an_export_that_computes_nan_is_refused(
    tiny_pair: Path, tiny_target_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        verify, "ir_logits", lambda _, prompts: [np.full((len(ids), 320), np.nan, np.float32) for ids in prompts]
    )
    reference = reference_of(open_checkpoint(str(tiny_target_checkpoint)), tiny_pair / "target", "fp16")
    with pytest.raises(EdgespecError, match="computes NaN or infinity; export it with --dtype bf16"):
        hold(reference, tiny_pair / "target", "fp16")


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
        "verify": {"target": {"top1": 0.987, "relative": 0.0123, "bound": 0.0156}},
        "tokenizer": {"target": {"asked": 59, "differences": ["ids of the probe 'Thai': ..."]}},
    }
    step = pair.manifest.made[0].model_copy(update={"checks": checks, "peak_anonymous_bytes": 1_230_000_000})
    show_pair(Terminal(), Pair(pair.root, pair.manifest.model_copy(update={"made": [step]})))
    shown = " ".join(capsys.readouterr().err.split())
    assert "98.7%" in shown and "0.012" in shown and "(0.016)" in shown and "1.23 GB of anonymous memory" in shown
