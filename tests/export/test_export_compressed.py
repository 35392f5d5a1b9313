"""`edgespec export --weights`: one command, one pair, compressed, and nothing uncompressed left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgespec.commands.export import run
from edgespec.errors import EdgespecError
from edgespec.pair import Pair


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


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"draft_weights": "int8"},
            "--draft-weights and --for are for a pair that is compressed at once; add --weights int4",
        ),
        ({"device": "gpu"}, "--draft-weights and --for are for a pair that is compressed at once"),
        ({"weights": "int8", "draft_weights": "int8"}, "--draft-weights got a format and there is no draft"),
        ({"weights": "int3"}, "--weights got 'int3'; choose int4, "),
        ({"weights": "int8", "device": "tpu"}, "--for got 'tpu'; choose cpu, gpu, npu"),
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


def test_the_disk_is_asked_for_both_before_anything_is_written(
    tmp_path: Path, tiny_target_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgespec.export import assemble

    asked: list[int] = []

    def enough(_: Path, need_bytes: int) -> None:
        asked.append(need_bytes)
        if need_bytes:
            raise EdgespecError("no room")

    monkeypatch.setattr("edgespec.staging.require_disk", enough)
    sizes = []
    for room in (False, True):
        with pytest.raises(EdgespecError, match="no room"):
            assemble.export_pair(tiny_target_checkpoint, None, tmp_path / "pair", room_to_compress=room)
        sizes.append(asked.pop())
    weights = assemble.open_checkpoint(str(tiny_target_checkpoint)).weight_count
    assert sizes[1] - sizes[0] == weights * 12 // 10
