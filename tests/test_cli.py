"""Bad input as a user gives it: a sentence on stderr, exit code 2, nothing half-written."""

from __future__ import annotations

import errno
import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from edgespec import cli, resources
from edgespec.cli import VERBS, main

Usage = namedtuple("Usage", "total used free")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit code of `edgespec ARGUMENTS`, run in this process."""
    monkeypatch.setattr("sys.argv", ["edgespec", *map(str, arguments)])
    with pytest.raises(SystemExit) as leave:
        main()
    assert isinstance(leave.value.code, int)
    return leave.value.code


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path):  # type: ignore[no-untyped-def]
    """Run a command that must be refused; its one sentence. The working directory must stay as it was."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> str:
        before = sorted(tmp_path.rglob("*"))
        code = run(monkeypatch, *arguments)
        captured = capfd.readouterr()
        errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
        assert code == 2 and len(errors) == 1, captured.err
        assert "Traceback" not in captured.err
        assert sorted(tmp_path.rglob("*")) == before, "something half-written was left"
        return errors[0]

    return call


def test_help_lists_every_verb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--help") == 0
    out = capsys.readouterr().out
    assert all(verb in out for verb in VERBS)


@pytest.mark.parametrize("verb", list(VERBS))
def test_each_verb_has_help_that_begins_as_the_list_says(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, verb, "--help") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert VERBS[verb] in out


def test_usage_errors(refused) -> None:  # type: ignore[no-untyped-def]
    assert "No such command 'fly'" in refused("fly")
    assert "Missing argument" in refused("generate")
    assert "No such option" in refused("devices", "--loud")


def test_a_missing_directory(refused) -> None:  # type: ignore[no-untyped-def]
    for arguments in (("bench", "nowhere"), ("quantize", "nowhere", "-o", "out"), ("generate", "nowhere", "hi")):
        assert "there is no directory 'nowhere'" in refused(*arguments)
    assert "nowhere" in refused("export", "./nowhere", "-o", "out")


def test_a_pair_without_its_tokenizer(refused, tiny_pair: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pair = Path(shutil.copytree(tiny_pair, tmp_path / "pair"))
    (pair / "target" / "openvino_tokenizer.xml").unlink()
    for arguments in (("bench", pair), ("generate", pair, "hi"), ("quantize", pair, "-o", "out")):
        assert "openvino_tokenizer.xml' is missing" in refused(*arguments)


def test_a_truncated_bin(refused, tiny_pair: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pair = Path(shutil.copytree(tiny_pair, tmp_path / "pair"))
    path = pair / "draft" / "openvino_model.bin"
    path.write_bytes(path.read_bytes()[:1000])
    for arguments in (("bench", pair), ("generate", pair, "hi"), ("quantize", pair, "-o", "out")):
        assert "truncated or was altered" in refused(*arguments)


def test_different_vocabularies(  # type: ignore[no-untyped-def]
    refused, tiny_target_checkpoint: Path, tiny_draft_checkpoint: Path, tmp_path: Path
) -> None:
    draft = Path(shutil.copytree(tiny_draft_checkpoint, tmp_path / "draft"))
    tokenizer = json.loads((draft / "tokenizer.json").read_text(encoding="utf-8"))
    ids = tokenizer["model"]["vocab"]
    ids["a"], ids["b"] = ids["b"], ids["a"]
    (draft / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    sentence = refused("export", tiny_target_checkpoint, "--draft", draft, "-o", "out")
    assert "vocabular" in sentence and "'a'" in sentence


def test_an_unknown_device(refused, tiny_pair: Path) -> None:  # type: ignore[no-untyped-def]
    for arguments in (("bench", tiny_pair), ("generate", tiny_pair, "hi"), ("demo",)):
        assert "there is no device 'TPU' on this machine; OpenVINO finds CPU" in refused(*arguments, "--device", "TPU")


def test_an_output_that_exists(refused, tiny_pair: Path, tiny_target_checkpoint: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("precious")
    for arguments in (
        ("export", tiny_target_checkpoint, "-o", "out"),
        ("quantize", tiny_pair, "-o", "out"),
        ("bench", tiny_pair, "--out", "out"),
        ("demo", "--out", "out"),
    ):
        assert "out' exists already" in refused(*arguments)


def test_a_missing_parent_folder(refused, tiny_pair: Path, tiny_target_checkpoint: Path) -> None:  # type: ignore[no-untyped-def]
    for arguments in (
        ("export", tiny_target_checkpoint, "-o", "no/out"),
        ("quantize", tiny_pair, "-o", "no/out"),
        ("bench", tiny_pair, "--out", "no/out"),
        ("demo", "--out", "no/out"),
    ):
        assert "does not exist; create it first" in refused(*arguments)


def test_a_demo_that_fails_leaves_nothing(refused, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "openvino_model.bin")

    monkeypatch.setattr("edgespec.export.export_pair", full)
    assert "the disk is full" in refused("demo", "--out", "out")


def test_a_full_disk_is_seen_before_anything_is_written(  # type: ignore[no-untyped-def]
    refused, tiny_pair: Path, tiny_target_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 1000))
    for arguments in (
        ("export", tiny_target_checkpoint, "-o", "out"),
        ("quantize", tiny_pair, "-o", "out"),
        ("demo", "--out", "out"),
    ):
        assert "GB free and about" in refused(*arguments)


def test_a_disk_that_fills_up_midway(refused, tiny_pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "openvino_model.bin")

    monkeypatch.setattr("edgespec.pair.write_atomically", full)
    assert "the disk is full at 'openvino_model.bin'" in refused("quantize", tiny_pair, "-o", "out")


def test_a_path_that_no_file_system_takes(refused) -> None:  # type: ignore[no-untyped-def]
    assert "ong" in refused("generate", "x" * 400, "hi")


def test_a_negative_seed_is_refused_before_anything_is_measured(refused, tiny_pair: Path) -> None:  # type: ignore[no-untyped-def]
    assert "seed" in refused("bench", tiny_pair, "--seed", "-1", "--out", "out")
    assert "seed" in refused("generate", tiny_pair, "hi", "--seed", "-1")


def test_no_verb_shows_the_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch) == 2
    captured = capsys.readouterr()
    assert "demo" in captured.err + captured.out and "error:" not in captured.err


def test_an_interrupt_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "edgespec", interrupted)
    assert run(monkeypatch, "demo") == 130
    assert capsys.readouterr().err.startswith("interrupted")


def test_json_is_the_last_line_of_stdout(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tiny_pair: Path
) -> None:
    assert run(monkeypatch, "devices", "--json") == 0
    assert json.loads(capfd.readouterr().out.splitlines()[-1])["devices"][0]["name"] == "CPU"
    assert run(monkeypatch, "generate", tiny_pair, "def add(a,", "--max-new-tokens", 4, "--json") == 0
    document = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert set(document) == {"text", "token_ids", "finish_reason", "metrics"}


def test_generate_streams_the_text_alone_to_stdout(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tiny_pair: Path
) -> None:
    assert run(monkeypatch, "generate", tiny_pair, "def add(a,", "--max-new-tokens", 6, "--json") == 0
    text = json.loads(capfd.readouterr().out.splitlines()[-1])["text"]
    assert run(monkeypatch, "generate", tiny_pair, "def add(a,", "--max-new-tokens", 6) == 0
    captured = capfd.readouterr()
    assert captured.out == text + "\n"
    assert "tokens/s" in captured.err
