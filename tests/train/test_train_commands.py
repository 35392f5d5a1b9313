"""edgespec train generate, align, evaluate and run as they are typed: a small chain, Ctrl-C, and what is refused."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from edgespec.bundled import bundled_checkpoints
from edgespec.cli import main
from edgespec.commands.train import options
from edgespec.errors import EdgespecError
from edgespec.train import loop
from edgespec.train.metrics import read_curve


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


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "p.txt"
    path.write_text("".join(f"def f{i}(x):\n" for i in range(20)), encoding="utf-8")
    return path


def test_answers_of_a_pair_align_a_draft_that_is_evaluated(
    tiny_pair: Path,
    prompts: Path,
    tiny_draft_checkpoint: Path,
    tiny_target_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers, out = tmp_path / "answers", tmp_path / "aligned"
    generate = ["generate", tiny_pair, "--prompts", prompts, "-o", answers, "--max-new-tokens", 8]
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


def _interrupt_at(patch: pytest.MonkeyPatch, *calls: int) -> None:
    """Ctrl-C at those steps of the loop, counted from 1."""
    step, seen = loop._Run._step, 0

    def interrupted(self: Any, *arguments: Any) -> Any:
        nonlocal seen
        seen += 1
        for _ in range(calls.count(seen)):
            signal.raise_signal(signal.SIGINT)
        return step(self, *arguments)

    patch.setattr(loop._Run, "_step", interrupted)


def _interrupted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, calls: tuple[int, ...], *arguments: object
) -> tuple[str, str]:
    """(stdout, stderr) of the command, which ends with 130."""
    monkeypatch.setattr("sys.argv", ["edgespec", "train", *map(str, arguments), "--json"])
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        _interrupt_at(patch, *calls)
        main()
    out, err = capsys.readouterr()
    assert ended.value.code == 130, err
    return out, " ".join(err.split())


def test_ctrl_c_ends_align_with_130_and_the_same_command_goes_on(
    tiny_pair: Path,
    prompts: Path,
    tiny_draft_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers, out = tmp_path / "answers", tmp_path / "aligned"
    _run(capsys, monkeypatch, "generate", tiny_pair, "--prompts", prompts, "-o", answers, "--shard", 7)
    align = ["align", tiny_draft_checkpoint, answers, "--tokens", 1024, "--batch", 4, "--length", 32]
    align += ["--precision", "f32", "--checkpoint-every", 2, "-o"]
    printed, told = _interrupted(capsys, monkeypatch, (3,), *align, out)
    facts = json.loads(printed.splitlines()[-1])
    assert not facts["finished"] and facts["step"] == 3 and facts["model"] is None
    assert f"stopped at step 3, which is saved in '{out}'; the same command goes on from there" in told
    assert "error" not in told and not (out / "model").exists() and not (out / "run.json").exists()

    printed, told = _interrupted(capsys, monkeypatch, (2, 2), *align, out)
    assert not printed and "the last checkpoint is kept, and the same command goes on" in told, "twice: at once"

    found, whole = (_run(capsys, monkeypatch, *align, folder) for folder in (out, tmp_path / "whole"))
    assert found["finished"] and found["step"] == 8
    assert read_curve(out) == read_curve(tmp_path / "whole"), "nothing was lost, and nothing done twice"
    assert found["loss"] == whole["loss"], "told of all steps, not of those after the interruption"


def test_ctrl_c_ends_a_recipe_with_130_and_the_same_command_goes_on(
    tiny_target_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.txt").write_text("def add(a, b):\n    return a + b\n" * 400, encoding="utf-8")
    recipe, out = tmp_path / "mine.yaml", tmp_path / "work"
    section = {"data": [{"source": str(tmp_path / "text.txt")}], "tokens": 2048, "batch": 4, "length": 64}
    document = {
        "target": {"checkpoint": str(tiny_target_checkpoint)},
        "init": {"shape": "1x32"},
        "pretrain": section | {"precision": "f32", "checkpoint_every": 2},
    }
    recipe.write_text(yaml.safe_dump(document), encoding="utf-8")
    printed, told = _interrupted(capsys, monkeypatch, (3,), "run", recipe, "--out", out)
    assert not printed and "error" not in told
    assert f"stopped at step 3, which is saved in '{out / 'pretrain'}'; the same command goes on from there" in told
    assert (out / "init" / "stage.json").is_file() and not (out / "pretrain" / "stage.json").exists()

    _, told = _interrupted(capsys, monkeypatch, (2, 2), "run", recipe, "--out", out)
    assert f"stopped; the stages made so far are kept in '{out}', and the same command goes on" in told

    made = _run(capsys, monkeypatch, "run", recipe, "--out", out)
    assert list(made["stages"]) == ["init", "pretrain"] and len(read_curve(out / "pretrain")) == 8


def test_choices_on_the_command_line_are_those_of_the_stage() -> None:
    from edgespec.train import init, optimizers, precision, schedule, shapes
    from edgespec.train.generate import request

    for typed, theirs in (
        (options.Beginning, init.Beginning),
        (options.Engine, request.EngineName),
        (options.Head, shapes.Head),
        (options.Optimizer, optimizers.OptimizerName),
        (options.Precision, precision.Wanted),
        (options.ScheduleShape, schedule.Shape),
    ):
        assert set(get_args(typed)) == set(get_args(theirs))


def test_bundled_names_the_pair_wherever_a_checkpoint_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _run(capsys, monkeypatch, "init", "bundled", "-o", tmp_path / "draft", "--shape", "1x32")
    assert made["shape"] == "1x32" and (tmp_path / "draft" / "tokenizer.json").is_file()
    target, draft = bundled_checkpoints()
    asked: list[tuple[str, str]] = []

    def adopted(given: str, other: str, *_: object, **__: object) -> None:
        asked.append((given, other))
        raise EdgespecError("seen")

    monkeypatch.setattr("edgespec.export.export_pair", adopted)
    _run(capsys, monkeypatch, "evaluate", "--target", "bundled", "--draft", "bundled")
    _run(capsys, monkeypatch, "evaluate", "--target", "bundled", "--draft", tmp_path / "draft")
    assert asked == [(str(target), str(draft)), (str(target), str(tmp_path / "draft"))]

    def aligned(given: str, *_: object, target: str, **__: object) -> None:
        asked.append((target, given))
        raise EdgespecError("seen")

    monkeypatch.setattr("edgespec.train.run_alignment", aligned)
    _run(capsys, monkeypatch, "align", "bundled", tmp_path, "-o", tmp_path / "a", "--target", "bundled")
    assert asked[-1] == (str(target), str(draft))


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
    align = next(line for line in plan["stages"] if line["stage"] == "draft")
    assert align["tokens"] > 1e6 and align["flops"] > 1e13 and 1 < align["seconds"] < 1e5
    assert plan["total"]["seconds"] > 77 * 60 and plan["total"]["memory_bytes"] > 1e8
