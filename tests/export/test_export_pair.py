"""What export writes computes what PyTorch computes, runs in openvino_genai, and says of itself what it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import openvino as ov
import openvino_genai
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from edgespec.engine.genai import GenaiEngine
from edgespec.engine.native import NativeEngine
from edgespec.export import export_pair
from edgespec.ir import weight_precision
from edgespec.pair import REQUIRED_FILES, Pair
from edgespec.settings import EXACT
from edgespec.vocabulary import fingerprint

PROMPT = [12, 77, 203, 5, 140]
LATER = [[31], [250, 9], [66]]  # fed one after the other through the KV state, as decoding does


def ir_logits(folder: Path) -> np.ndarray:
    """Logits of PROMPT and LATER, [tokens, rows of the embedding], computed in four passes over one state."""
    request = ov.Core().compile_model(folder / "openvino_model.xml", "CPU", dict(EXACT)).create_infer_request()
    past, rows = 0, []
    for tokens in (PROMPT, *LATER):
        total = past + len(tokens)
        request.infer(
            {
                "input_ids": np.array([tokens], dtype=np.int64),
                "attention_mask": np.ones((1, total), dtype=np.int64),
                "position_ids": np.arange(past, total, dtype=np.int64)[None],
                "beam_idx": np.zeros(1, dtype=np.int32),
            }
        )
        rows.append(request.get_tensor("logits").data[0].copy())
        past = total
    return np.concatenate(rows)


def torch_logits(checkpoint: Path) -> np.ndarray:
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    tokens = PROMPT + [token for step in LATER for token in step]
    with torch.no_grad():
        return np.asarray(model(torch.tensor([tokens])).logits[0])


def copy_without_weights(checkpoint: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in checkpoint.glob("*.json"):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="module")
def exact_pair(tmp_path_factory: pytest.TempPathFactory, tiny_target_checkpoint: Path) -> Pair:
    return export_pair(tiny_target_checkpoint, None, tmp_path_factory.mktemp("exact") / "pair", dtype="fp32")


def test_logits_are_those_of_pytorch(exact_pair: Pair, tiny_target_checkpoint: Path) -> None:
    expected = torch_logits(tiny_target_checkpoint)
    np.testing.assert_allclose(ir_logits(exact_pair.target), expected, atol=1e-5 * float(np.abs(expected).max()))


def test_fp16_logits_are_those_of_pytorch_but_for_rounding(tiny_pair: Path, tiny_target_checkpoint: Path) -> None:
    expected = torch_logits(tiny_target_checkpoint)
    np.testing.assert_allclose(ir_logits(tiny_pair / "target"), expected, atol=5e-3 * float(np.abs(expected).max()))


def test_pair_is_whole_and_says_what_it_is(
    tiny_pair: Path, tiny_target_checkpoint: Path, tiny_draft_checkpoint: Path
) -> None:
    manifest = Pair.open(tiny_pair).manifest
    assert manifest.draft is not None
    for record, checkpoint in ((manifest.target, tiny_target_checkpoint), (manifest.draft, tiny_draft_checkpoint)):
        assert record.source.id == str(checkpoint)
        assert record.source.revision is None
        assert (record.architecture, record.precision, record.vocab_size) == ("LlamaForCausalLM", "fp16", 320)
        assert set(REQUIRED_FILES) <= set(record.files)
    assert manifest.target.parameters > manifest.draft.parameters
    assert manifest.tokenizer == fingerprint(tiny_target_checkpoint) == fingerprint(tiny_pair / "draft")
    assert manifest.profiles == []
    assert manifest.made[0].command.startswith("edgespec export ")
    assert {"edgespec", "openvino", "optimum-intel", "transformers", "torch"} <= set(manifest.made[0].versions)
    assert [path.name for path in tiny_pair.parent.iterdir()] == [tiny_pair.name]  # nothing beside it


def test_a_target_alone_is_a_pair_without_a_draft(exact_pair: Pair) -> None:
    assert exact_pair.draft is None
    assert sorted(path.name for path in exact_pair.root.iterdir()) == ["edgespec.json", "target"]
    assert Pair.open(exact_pair.root).manifest == exact_pair.manifest


def test_pair_generates_in_genai_and_tokenizes_as_transformers_does(tiny_pair: Path) -> None:
    text = "def add(a, b):\n    return a + b"
    draft = openvino_genai.draft_model(tiny_pair / "draft", "CPU")
    scheduler = openvino_genai.SchedulerConfig()
    pipeline = openvino_genai.LLMPipeline(tiny_pair / "target", "CPU", draft_model=draft, scheduler_config=scheduler)
    ids = pipeline.get_tokenizer().encode(text).input_ids.data[0].tolist()
    assert ids == AutoTokenizer.from_pretrained(tiny_pair / "target")(text)["input_ids"]
    result = pipeline.generate([text], max_new_tokens=8, num_assistant_tokens=3, ignore_eos=True, do_sample=False)
    assert result.perf_metrics.get_num_generated_tokens() == 8


def test_an_early_exit_drafts_in_both_engines(tmp_path: Path, tiny_target_checkpoint: Path) -> None:
    pair = export_pair(tiny_target_checkpoint, None, tmp_path / "pair", dtype="fp32", early_exit=1)
    plain = GenaiEngine(pair, device="CPU", settings=EXACT)
    ids = plain.encode("def add(a, b):\n    return")
    expected = plain.generate(ids, 16).token_ids
    for engine in (GenaiEngine, NativeEngine):
        drafted = engine(pair, device="CPU", mode="draft", settings=EXACT).generate(ids, 16, gamma=2)
        assert drafted.token_ids == expected
        assert any(step.proposed for step in drafted.steps)


def test_unquantized_model_keeps_its_cache_in_16_bits_unless_told_otherwise(tiny_pair: Path) -> None:
    xml = tiny_pair / "target" / "openvino_model.xml"
    core = ov.Core()
    assert core.compile_model(xml, "CPU").get_property("KV_CACHE_PRECISION") == ov.Type.f16
    told = core.compile_model(xml, "CPU", {"KV_CACHE_PRECISION": "u8"})
    assert told.get_property("KV_CACHE_PRECISION") == ov.Type.u8


def test_dtype_is_obeyed_whatever_the_checkpoint_has(tmp_path: Path, tiny_draft_checkpoint: Path) -> None:
    half = copy_without_weights(tiny_draft_checkpoint, tmp_path / "half")
    AutoModelForCausalLM.from_pretrained(tiny_draft_checkpoint, dtype=torch.bfloat16).save_pretrained(half)
    for checkpoint, dtype in ((half, "fp32"), (tiny_draft_checkpoint, "bf16")):
        pair = export_pair(checkpoint, None, tmp_path / dtype, dtype=dtype)
        assert pair.manifest.target.precision == dtype
        assert weight_precision(pair.target / "openvino_model.xml") == dtype


def test_pickled_weights_are_read_when_asked_for(tmp_path: Path, tiny_draft_checkpoint: Path) -> None:
    folder = copy_without_weights(tiny_draft_checkpoint, tmp_path / "pickled")
    model = AutoModelForCausalLM.from_pretrained(tiny_draft_checkpoint)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "generation_config.json").unlink()
    pair = export_pair(folder, None, tmp_path / "pair", dtype="fp32", allow_pickle=True)
    expected = torch_logits(tiny_draft_checkpoint)
    np.testing.assert_allclose(ir_logits(pair.target), expected, atol=1e-5 * float(np.abs(expected).max()))
    assert json.loads((pair.target / "generation_config.json").read_text(encoding="utf-8"))["eos_token_id"] == 0
    assert pair.manifest.made[0].command.endswith("--allow-pickle")


def test_command_answers_with_one_json_line_and_shows_nothing_of_upstream(
    tmp_path: Path, tiny_draft_checkpoint: Path
) -> None:
    """In a process of its own: upstream says most things once, when it is loaded or first used."""
    command = [sys.executable, "-m", "edgespec", "export", str(tiny_draft_checkpoint), "-o", str(tmp_path / "pair")]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)
    assert document["pair"] == str(tmp_path / "pair")
    assert document["target"]["precision"] == "fp16"
    assert document["draft"] is None
    assert "".join(done.stderr.split()) == "".join(  # a line may be wrapped
        f"reading the target '{tiny_draft_checkpoint}'"
        f"converting the target '{tiny_draft_checkpoint}' to OpenVINO, fp16"
        "comparing the tokenizer of the target with transformers'".split()
    )
