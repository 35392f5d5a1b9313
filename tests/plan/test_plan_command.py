"""`edgespec plan` as a user types it: refusals, and a whole plan of tiny twins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgespec.cache import cache_folder
from edgespec.cli import main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["edgespec", "plan", *map(str, arguments)])
    with pytest.raises(SystemExit) as leave:
        main()
    assert isinstance(leave.value.code, int)
    return leave.value.code


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["no-such-shape"], "'no-such-shape' is no shape; give LAYERSxHIDDEN"),
        (["llama-3.1-8b", "--drafts", "abc"], "'abc' is no shape"),
        (["llama-3.1-8b", "--drafts", " , "], "--drafts names no shape; give some"),
        (["llama-3.2-1b", "--drafts", "qwen3-8b"], "a draft has to be smaller"),
        (["qwen3-8b", "--drafts", "2x512", "--draft-parameters", "50M"], "drop one of them"),
        (
            ["qwen3-8b", "--draft-parameters", "lots"],
            "--draft-parameters is 'lots'; give a number above 0, such as 300k, 50M or 2.5B",
        ),
        (["qwen3-8b", "--memory", "16 apples"], "--memory is '16 apples'; give a size above 0, such as 500MB or 16GB"),
        (["qwen3-8b", "--hardware", "abacus"], "'abacus' is no hardware known here"),
        (["qwen3-8b", "--settings", "fastest"], "there are no settings 'fastest'; choose auto, default"),
        (["qwen3-8b", "--acceptance", "absent.json"], "'absent.json' cannot be read"),
        (["qwen3-8b", "--drafts", "2x512", "--device", "ABACUS"], "ABACUS"),
        (["qwen3-8b", "--drafts", "2x512", "--minutes", "0"], "minutes to measure in must be above 0"),
        (["qwen3-8b", "--drafts", "2x512", "--cache-limit", "1GB"], "cache keeps at most 1.0 GB"),
        (["qwen3-8b", "--drafts", "2x512", "--precision", "int7"], "int7"),
    ],
)
def test_what_cannot_be_planned_is_refused_with_a_sentence_and_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGESPEC_CACHE", str(tmp_path / "cache"))
    assert run(monkeypatch, *arguments) == 2
    (error,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert sentence in error
    assert not list(tmp_path.iterdir())


def test_a_plan_of_tiny_twins(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Everything for real: built, weighed, timed, decoded, answered; a second run measures nothing anew."""
    config = {
        "model_type": "llama", "vocab_size": 8192, "hidden_size": 192, "intermediate_size": 512,
        "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 6, "tie_word_embeddings": False,
        "max_position_embeddings": 2048, "rope_theta": 10000.0, "rms_norm_eps": 1e-5, "hidden_act": "silu",
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    given = [tmp_path / "config.json", "--drafts", "1x128", "--minutes", "0.05", "--settings", "f32"]
    given += ["--out", tmp_path / "plan", "--memory", "2GB", "--hardware", "10", "--json"]
    assert run(monkeypatch, *given) == 0
    said = capfd.readouterr()
    document = json.loads(said.out.splitlines()[-1])
    (draft,) = document["drafts"]
    assert draft["shape"] == "1x128" and draft["c"] > 0 and draft["best_gamma"] in range(9)
    assert {"shape", "c", "breakeven_acceptance", "best_gamma"} <= set(draft)
    held = [point for point in document["validation"] if point["held_back"]]
    assert len(held) >= 3 and all(point["measured_speedup"] > 0 and point["predicted_speedup"] > 0 for point in held)
    assert document["target"]["rss_bytes"] > 0 and document["target"]["load_s"] > 0
    assert Path(document["page"]).read_text(encoding="utf-8").count("(twin)") > 3
    kept = cache_folder() / "twins"
    assert document["cache"]["bytes"] == sum(file.stat().st_size for file in kept.rglob("*") if file.is_file())
    before = (tmp_path / "plan" / "measured.jsonl").read_bytes()
    assert run(monkeypatch, *given) == 0
    again = capfd.readouterr()
    assert "Going on with what was measured before" in again.err
    assert json.loads(again.out.splitlines()[-1])["validation"] == document["validation"]
    assert (tmp_path / "plan" / "measured.jsonl").read_bytes() == before
