"""`edgespec export --weights`: one command, one pair, compressed, and nothing uncompressed left."""

from __future__ import annotations

import errno
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgespec import resources, staging
from edgespec.commands.export import run
from edgespec.errors import EdgespecError
from edgespec.export import assemble
from edgespec.pair import Pair
from edgespec.quantize import Options, Request, foresee


def test_export_goes_straight_to_compressed_weights(
    tmp_path: Path, tiny_target_checkpoint: Path, tiny_draft_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pair"
    draft = str(tiny_draft_checkpoint)
    run(str(tiny_target_checkpoint), out, draft=draft, weights="int8_sym", draft_weights="int8", json_output=True)
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    pair = Pair.open(out)
    assert pair.manifest.draft is not None
    assert (document["target"]["precision"], document["draft"]["precision"]) == ("int8_sym", "int8_asym")
    assert (pair.manifest.target.precision, pair.manifest.draft.precision) == ("int8_sym", "int8_asym")
    assert pair.manifest.target.source.id == str(tiny_target_checkpoint)
    assert sorted(path.name for path in out.iterdir()) == ["draft", "edgespec.json", "target"]
    assert [path.name for path in tmp_path.iterdir()] == ["pair"]
    (made,) = pair.manifest.made
    assert made.command.endswith("--weights int8_sym --draft-weights int8 --for cpu")
    assert "partial" not in made.command  # no path that is gone
    assert {"nncf", "optimum-intel"} <= set(made.versions)
    assert made.checks["tokenizer"]["draft"]["differences"] == []
    assert made.peak_anonymous_bytes == document["peak_anonymous_bytes"]


def test_an_uncompressed_pair_that_is_held_open_does_not_cost_the_compressed_one(
    tmp_path: Path,
    tiny_target_checkpoint: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on Windows, while a virus scanner reads what was just exported."""
    patiently, remove = staging._patiently, shutil.rmtree

    def held(folder: Path, **options: Any) -> None:
        if str(folder).endswith("whole"):
            raise PermissionError(errno.EACCES, "The process cannot access the file")
        remove(folder, **options)

    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(shutil, "rmtree", held)
    monkeypatch.setattr(staging, "_patiently", lambda act, _, refusal: patiently(act, 0.0, refusal))
    run(str(tiny_target_checkpoint), tmp_path / "pair", weights="int8")
    said = " ".join(capfd.readouterr().err.split())
    assert "whole' in the output is held open and stays; it belongs to nothing, delete it later" in said
    pair = Pair.open(tmp_path / "pair")
    assert pair.manifest.target.precision == "int8_asym"
    left = [path.name for path in pair.root.iterdir() if path.name not in ("target", "edgespec.json")]
    assert left == [f"{staging.SCRATCH_MARK}whole"]
    assert [path.name for path in tmp_path.iterdir()] == ["pair"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"draft_weights": "int8"},
            "--draft-weights and --for are for a pair that is compressed at once; add --weights int4",
        ),
        ({"device": "gpu"}, "--draft-weights and --for are for a pair that is compressed at once"),
        ({"weights": "int8", "draft_weights": "int8"}, "--draft-weights got a format and there is no draft"),
        ({"weights": "int3"}, "'int3' is not a weight format for the target; choose int4, "),
        ({"weights": "int8", "device": "tpu"}, "there is no preset for 'tpu'; choose cpu, gpu, npu"),
        ({"weights": "int8", "device": "npu"}, "'int8' for the target does not run on an NPU; choose int4_sym"),
        ({"weights": "none"}, "there is nothing to compress when every model is to be kept"),
        ({"early_exit": 2}, "--early-exit got 2 and '.*' has 2 layers; give a number from 1 to 1"),
        ({"early_exit": 1, "draft": "x"}, "a draft and an early exit were both given"),
    ],
)
def test_options_are_obeyed_or_refused(
    tmp_path: Path, tiny_target_checkpoint: Path, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(EdgespecError, match=says):
        run(str(tiny_target_checkpoint), tmp_path / "pair", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("lacks", ["memory", "nncf"])
def test_what_compression_would_refuse_is_refused_before_a_model_is_converted(
    tmp_path: Path, tiny_target_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    monkeypatch.setattr(assemble.conversion, "convert", lambda *_, **__: pytest.fail("a model was converted"))
    if lacks == "memory":
        monkeypatch.setattr(assemble, "BASE_BYTES", 0)  # so that the export itself fits
        monkeypatch.setattr(resources, "available_memory_bytes", lambda: 100_000_000)
        says = "compressing the target to int8_asym needs about 0.3 GB of memory and 0.1 of"
    else:
        found = importlib.util.find_spec
        monkeypatch.setattr(
            "importlib.util.find_spec", lambda name, *more: None if name == "nncf" else found(name, *more)
        )
        says = "quantize needs nncf, not installed here"
    with pytest.raises(EdgespecError, match=says):
        run(str(tiny_target_checkpoint), tmp_path / "pair", weights="int8")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_the_disk_for_both_is_asked_for_before_anything_is_written(
    tmp_path: Path, tiny_target_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, weights: str
) -> None:
    """What export asks for ahead is what it needs and what quantize asks for once the model is there."""
    asked: list[int] = []
    monkeypatch.setattr("edgespec.staging.require_disks", lambda needs: asked.append(sum(need.bytes for need in needs)))
    run(str(tiny_target_checkpoint), tmp_path / "pair", weights=weights, draft_weights=None, json_output=True)
    _, ahead, later = asked
    checkpoint = assemble.open_checkpoint(str(tiny_target_checkpoint))
    exported = checkpoint.exported_bytes("fp16")
    assert later <= ahead - exported
    slack = exported - 2 * checkpoint.weight_count  # the small files are a guess, of a megabyte and the tokenizer
    assert ahead - exported - later <= slack


def test_an_eagle_head_is_refused_text_before_it_is_exported(tmp_path: Path, tiny_target_checkpoint: Path) -> None:
    model = assemble.open_checkpoint(str(tiny_target_checkpoint))
    head = assemble._foreseen(model, "fp16").model_copy(update={"kind": "eagle3"})
    awq = Request(draft="int4", own={"draft": Options(awq=True)}, dataset="self")
    with pytest.raises(EdgespecError, match="the draft is an EAGLE draft: it reads the target's hidden states"):
        foresee({"draft": (head, model.folder)}, awq)


def test_verification_is_of_the_weights_before_compression(
    tmp_path: Path, tiny_target_checkpoint: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    run(str(tiny_target_checkpoint), tmp_path / "small", weights="int8", verify=True)
    assert "before compression" in " ".join(capfd.readouterr().err.split())
    run(str(tiny_target_checkpoint), tmp_path / "whole", verify=True)
    assert "before compression" not in capfd.readouterr().err
