"""edgespec train generate, align and evaluate as they are typed: one small chain, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgespec.cli import main


def _run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> Any:
    """The JSON document that the command ends with, or its error sentence."""
    monkeypatch.setattr("sys.argv", ["edgespec", "train", *map(str, arguments), "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    if ended.value.code:
        assert ended.value.code == 2
        return " ".join(err[err.rindex("error:") :].split())
    return json.loads(out.splitlines()[-1])


def test_answers_of_a_pair_align_a_draft_that_is_evaluated(
    tiny_pair: Path,
    tiny_draft_checkpoint: Path,
    tiny_target_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "p.txt").write_text("".join(f"def f{i}(x):\n" for i in range(20)), encoding="utf-8")
    answers, out = tmp_path / "answers", tmp_path / "aligned"
    generate = ["generate", tiny_pair, "--prompts", tmp_path / "p.txt", "-o", answers, "--max-new-tokens", 8]
    generate += ["--temperatures", "0,1", "--top-k-logits", 8, "--shard", 7]
    made = _run(capsys, monkeypatch, *generate)
    assert made["answers"] == 20 and made["shards"] == 3 and made["tokens_per_second"] > 0
    assert made["top_k_tokens"] == made["tokens"]
    assert _run(capsys, monkeypatch, *generate)["tokens_per_second"] is None, "nothing was left to write"

    align = ["align", tiny_draft_checkpoint, answers, "-o", out, "--loss", "0.5*ce + 0.5*kl", "--tokens", 2048]
    align += ["--batch", 4, "--length", 32, "--precision", "f32"]
    aligned = _run(capsys, monkeypatch, *align)
    assert aligned["finished"] and aligned["step"] == 16 and (out / "model" / "model.safetensors").is_file()
    assert _run(capsys, monkeypatch, *align)["step"] == 16
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("precious")
    foreign = [str(tmp_path / "mine") if word == out else word for word in align]
    assert "holds files and no training that could go on" in _run(capsys, monkeypatch, *foreign)
    assert "holds another finished run" in _run(capsys, monkeypatch, *align, "--seed", 1)

    prompts = tmp_path / "held.jsonl"
    prompts.write_text('{"prompt": "def add(a, b):", "category": "code"}\n', encoding="utf-8")
    evaluate = ["evaluate", "--target", tiny_target_checkpoint, "--draft", out / "model", "--prompts", prompts]
    found = _run(capsys, monkeypatch, *evaluate, "--temperature", 0.6, "--gamma", 2, "--max-new-tokens", 16)
    assert {"acceptance_rate", "alpha", "block_efficiency", "mbsu", "by_task"} <= set(found)
    assert found["temperature"] == 0.6 and list(found["by_task"]) == ["code"] and len(found["alpha"]) == 2


def test_what_does_not_go_together_is_refused(
    tiny_pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object) -> str:
        return str(_run(capsys, monkeypatch, *arguments))

    out = tmp_path / "out"
    assert "give one of a pair directory, --bundled, or --target with --draft" in refused("evaluate")
    assert "give one of a pair" in refused("evaluate", tiny_pair, "--bundled")
    assert "--target and --draft go together" in refused("evaluate", "--target", "x")
    assert "asks the target at every step; give --target" in refused("align", "d", tmp_path, "-o", out, "--online")
    assert "tries the draft on its target; give --target" in refused(
        "align", "d", tmp_path, "-o", out, "--evaluate-every", 5
    )
    generate = ["generate", tiny_pair, "--prompts", "self", "-o", out]
    assert "how many requests shall the target write itself? give --count" in refused(*generate)
    assert "let the target write its own first" in refused(*generate, "--ray", 2)
    assert "is a pair of OpenVINO models, which transformers does not run" in refused(
        *generate, "--count", 3, "--engine", "transformers"
    )
    assert "numbers parted by commas" in refused(*generate, "--temperatures", "warm")
    assert "the recipe 'none.yaml' cannot be read" in refused("run", "none.yaml")


def test_the_target_writes_its_own_prompts(
    tiny_pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _run(
        capsys,
        monkeypatch,
        *("generate", tiny_pair, "--prompts", "self", "--count", 12, "-o", tmp_path / "set", "--max-new-tokens", 6),
    )
    assert 1 <= made["answers"] <= 12
    assert (tmp_path / "set-prompts" / "part-00000.parquet").is_file()


def test_a_plan_is_said_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = _run(capsys, monkeypatch, "run", "--plan", "--out", tmp_path / "work")
    assert [line["stage"] for line in plan["stages"]][:2] == ["corpus", "target-1"] and not (tmp_path / "work").exists()
    pretrain = next(line for line in plan["stages"] if line["stage"] == "pretrain")
    assert pretrain["tokens"] > 1e6 and pretrain["flops"] > 1e13 and 1 < pretrain["seconds"] < 1e5
    assert plan["total"]["seconds"] > 77 * 60 and plan["total"]["memory_bytes"] > 1e8
