"""edgespec train init and pretrain as they are typed: a draft is made, learns, goes on, and refuses what is wrong."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_checkpoint import make_tokenizer
from transformers import AutoModelForCausalLM

from edgespec import cli
from edgespec.train import loop as loop_module
from edgespec.train.metrics import read_curve


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("code")
    for index in range(40):
        functions = (f"def f{index}_{i}(value):\n    total = value + {i}\n    return total\n" for i in range(8))
        (root / f"m{index}.py").write_text("\n".join(functions), encoding="utf-8")
    return root


@pytest.fixture
def draft(tiny_target_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    out = tmp_path / "draft"
    record = _edgespec(capsys, "init", tiny_target_checkpoint, "-o", out, "--shape", "1x32", "--json")
    assert record["draft"] == str(out) and record["shape"] == "1x32"
    return out


def _edgespec(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> dict[str, Any]:
    """Run `edgespec train ...` here; its JSON."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(sys, "argv", ["edgespec", "train", *map(str, arguments)])
        cli.main()
    found = capsys.readouterr()
    assert stopped.value.code == code, found.err
    document: dict[str, Any] = json.loads(found.out.splitlines()[-1]) if found.out else {"error": found.err}
    return document


def _pretrain(draft: Path, code: Path, out: Path, *more: object) -> list[object]:
    base = ["pretrain", draft, "--data", f"{code},suffix=.py", "-o", out, "--tokens", "16k", "--json"]
    sizes = ["--length", 64, "--batch", 8, "--learning-rate", 1e-2, "--precision", "f32", "--checkpoint-every", 5]
    return [*base, *sizes, "--heldout-share", 0.2, "--heldout-rows", 16, "--heldout-every", 10, *more]


def test_a_draft_learns_and_is_trained_on(
    draft: Path, code: Path, tiny_target_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = _edgespec(capsys, *_pretrain(draft, code, tmp_path / "pt", "--target", tiny_target_checkpoint))
    assert facts["finished"] and facts["step"] == 32 and facts["tokens"] == 32 * 8 * 64
    held = [value for _, value in read_curve(tmp_path / "pt", "heldout_loss")]
    assert len(held) == 4 and held[-1] == facts["heldout_loss"] < read_curve(tmp_path / "pt")[0][1] - 1
    # made already: nothing is trained again
    assert _edgespec(capsys, *_pretrain(draft, code, tmp_path / "pt")) == facts
    (tmp_path / "pt" / "run.json").unlink()  # as of a run that was killed when all but this was written
    assert _edgespec(capsys, *_pretrain(draft, code, tmp_path / "pt")) == facts
    other = _edgespec(capsys, *_pretrain(draft, code, tmp_path / "pt", "--seed", 1), code=2)
    assert "holds another finished run: loop.seed was 0 and is now 1" in other["error"]
    # continued pretraining, another mixture and schedule
    more = ["--data", f"{draft},weight=0.1", "--schedule", "wsd", "--target", tiny_target_checkpoint]
    continued = _edgespec(capsys, *_pretrain(tmp_path / "pt" / "model", code, tmp_path / "cp", *more))
    assert continued["finished"] and read_curve(tmp_path / "cp")[0][1] < read_curve(tmp_path / "pt")[0][1] - 1


def test_ctrl_c_stops_with_130_and_the_same_command_goes_on(
    draft: Path, code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _edgespec(capsys, *_pretrain(draft, code, tmp_path / "whole"))
    step = loop_module._Run._step
    calls = 0

    def interrupted(self: Any, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 7:
            signal.raise_signal(signal.SIGINT)
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop_module._Run, "_step", interrupted)
        stopped = _edgespec(capsys, *_pretrain(draft, code, tmp_path / "run"), code=130)
    assert not stopped["finished"] and stopped["step"] == 7 and not (tmp_path / "run" / "model").exists()
    assert _edgespec(capsys, *_pretrain(draft, code, tmp_path / "run"))["heldout_loss"] == whole["heldout_loss"]
    assert read_curve(tmp_path / "run") == read_curve(tmp_path / "whole")
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("run", "whole")]
    assert weights[0] == weights[1]


def test_other_files_than_those_of_the_checkpoint_are_refused(
    draft: Path, code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "code"
    shutil.copytree(code, own)
    _edgespec(capsys, *_pretrain(draft, own, tmp_path / "run"))
    (own / "new.py").write_text("x = 1\n")
    refused = _edgespec(capsys, *_pretrain(draft, own, tmp_path / "run"), code=2)
    assert f"data.{own}.files was" in refused["error"]


def test_another_vocabulary_is_refused_with_the_difference(
    draft: Path, code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "target"
    make_tokenizer(target)
    document = json.loads((target / "tokenizer.json").read_text(encoding="utf-8"))
    document["model"]["vocab"].pop("Ġi", None)
    token = next(iter(sorted(document["model"]["vocab"])))
    document["model"]["vocab"][token + "x"] = document["model"]["vocab"].pop(token)
    (target / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    refused = _edgespec(capsys, *_pretrain(draft, code, tmp_path / "run", "--target", target), code=2)
    assert "do not share a vocabulary" in refused["error"] and repr(token + "x") in refused["error"]


def test_ids_beyond_the_embedding_are_refused(
    draft: Path, code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong"
    shutil.copytree(draft, wrong)
    model = AutoModelForCausalLM.from_pretrained(wrong)
    model.resize_token_embeddings(250)
    model.save_pretrained(wrong)
    refused = _edgespec(capsys, *_pretrain(wrong, code, tmp_path / "run"), code=2)
    assert "has ids up to 299 and the model's embedding has 250 rows: they do not belong together" in refused["error"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("--tokens", "many"), "--tokens is 'many'; give a number above 0, such as"),
        (("--length", "4"), "rows of 4 tokens are too short"),
        (("--length", "1024"), "do not fit into the context"),
        (("--data", "/nowhere/text.txt"), "there is no file or folder '/nowhere/text.txt'"),
        (("--warmup", "3"), "the schedule's warmup is 3.0"),
    ],
)
def test_a_slip_is_a_sentence(
    change: tuple[str, str], sentence: str, draft: Path, code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence in _edgespec(capsys, *_pretrain(draft, code, tmp_path / "run", *change), code=2)["error"]


def test_a_run_folder_is_no_checkpoint_but_its_model_is_named(
    draft: Path, code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pt" / "model").mkdir(parents=True)
    refused = _edgespec(capsys, *_pretrain(tmp_path / "pt", code, tmp_path / "cp"), code=2)
    assert "has no config.json; its model is" in refused["error"]


def test_an_empty_corpus_is_refused(draft: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.py").write_text("\n")
    refused = _edgespec(capsys, *_pretrain(draft, tmp_path / "empty", tmp_path / "run"), code=2)
    assert "is empty: none of its 1 files holds UTF-8 text" in refused["error"]
