"""What compression cost: figures against ones computed here, the pair's four combinations, and where they are kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax

from edgespec.commands.quantize import run
from edgespec.errors import EdgespecError
from edgespec.pair import Pair, read_manifest
from edgespec.progress import SILENT
from edgespec.quantize import Ask, Request, measure_cost, quantize, quantize_pair
from edgespec.quantize.cost import Reader

ASKS = [Ask("def add(a, b):\n    return", False), Ask("class Stack:\n    def push(self", False)]


def test_quality_is_what_the_logits_say(tmp_path: Path, tiny_pair: Path) -> None:
    before = Pair.open(tiny_pair)
    after, _ = quantize_pair(tiny_pair, tmp_path / "out", target="int4", draft="none")
    found = measure_cost(before, after, ASKS, SILENT, max_new_tokens=8)["quality"]["target"]["q"]
    fp, q = Reader(before.target), Reader(after.target)
    from edgespec.quantize.cost import encoded

    texts = [fp.answer(prompt, 8) for prompt in encoded(before, ASKS)]
    p = [log_softmax(fp.logits(text.ids).astype(np.float64), axis=-1) for text in texts]
    r = [log_softmax(q.logits(text.ids).astype(np.float64), axis=-1) for text in texts]
    kl = np.concatenate([(np.exp(a) * (a - b)).sum(-1) for a, b in zip(p, r, strict=True)])
    same = np.concatenate([a.argmax(-1) == b.argmax(-1) for a, b in zip(p, r, strict=True)])
    said = [
        b[np.arange(len(text.prompt) - 1), text.prompt[1:]] for b, text in zip(r, texts, strict=True)
    ]  # only what a person wrote
    assert found["kl"] == pytest.approx(kl.mean())
    assert found["top1"] == same.mean()
    assert found["perplexity"] == pytest.approx(np.exp(-np.concatenate(said).mean()))
    assert found["positions"] == len(kl)
    assert found["kl"] > 0


@pytest.mark.parametrize(
    ("which", "says"),
    [("before", "the uncompressed model computes NaN or infinity"), ("after", "the compressed model computes NaN")],
)
def test_logits_that_are_no_numbers_are_refused(
    tmp_path: Path, tiny_pair: Path, monkeypatch: pytest.MonkeyPatch, which: str, says: str
) -> None:
    before = Pair.open(tiny_pair)
    after, _ = quantize_pair(tiny_pair, tmp_path / "out", target="int8", draft="none")
    broken = {"before": before, "after": after}[which].target
    init, logits = Reader.__init__, Reader.logits

    def remember(self: Reader, folder: Path, vocabulary: int | None = None) -> None:
        init(self, folder, vocabulary)
        self.folder = folder  # type: ignore[attr-defined]

    def overflow(self: Reader, ids: np.ndarray) -> np.ndarray:
        found = logits(self, ids).copy()
        if self.folder == broken:  # type: ignore[attr-defined]
            found[0, 3] = np.inf
        return found

    monkeypatch.setattr(Reader, "__init__", remember)
    monkeypatch.setattr(Reader, "logits", overflow)
    with pytest.raises(EdgespecError, match=says):
        measure_cost(before, after, ASKS, SILENT, max_new_tokens=8)


def test_a_model_that_is_kept_costs_nothing(tmp_path: Path, tiny_pair: Path) -> None:
    before = Pair.open(tiny_pair)
    after, _ = quantize_pair(tiny_pair, tmp_path / "out", target="none", draft="int8")
    found = measure_cost(before, after, ASKS, SILENT, max_new_tokens=8)
    assert found["quality"]["target"]["q"] == found["quality"]["target"]["fp"]
    assert found["quality"]["target"]["fp"]["top1"] == 1.0
    assert found["quality"]["target"]["fp"]["kl"] == 0.0
    assert found["acceptance"]["q/fp"] == found["acceptance"]["fp/fp"]


def test_a_pair_that_drafts_with_its_target_accepts_everything_until_one_is_compressed(
    tmp_path: Path, tiny_target_checkpoint: Path
) -> None:
    from edgespec.export import export_pair

    pair = export_pair(tiny_target_checkpoint, tiny_target_checkpoint, tmp_path / "self")
    after, _ = quantize_pair(pair.root, tmp_path / "out", target="none", draft="int4")
    found = measure_cost(pair, after, ASKS, SILENT, max_new_tokens=16)
    assert found["acceptance"]["fp/fp"]["acceptance_rate"] == 1.0
    assert found["acceptance"]["fp/q"]["acceptance_rate"] < 1.0
    assert found["check"]["decoded"] == {key: found["check"]["computed"][key] for key in ("acceptance_rate", "tau")}
    assert found["check"]["same_answers"] == found["check"]["texts"] == 2


def test_the_manifest_and_the_json_have_it_all(
    tmp_path: Path, tiny_pair: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "held.jsonl"
    text.write_text("\n".join(json.dumps({"prompt": ask.text}) for ask in ASKS))
    run(tiny_pair, tmp_path / "out", eval_text=text, json_output=True)
    document = json.loads(capfd.readouterr().out.splitlines()[-1])
    checks = read_manifest(tmp_path / "out").made[-1].checks
    for key in ("quality", "acceptance", "check", "texts"):
        assert document[key] == checks[key]
    assert set(document["acceptance"]) == {"fp/fp", "q/fp", "fp/q", "q/q"}
    assert set(document["quality"]) == {"target", "draft"}
    Pair.open(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["draft", "edgespec.json", "target"]


def test_the_tables_say_it(tmp_path: Path, tiny_pair: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "held.txt"
    text.write_text(ASKS[0].text)
    run(tiny_pair, tmp_path / "out", eval_text=text)
    told = capfd.readouterr()
    assert told.out.strip() == f"pair ready: {tmp_path / 'out'}"
    words = " ".join(told.err.split())
    for part in (
        "same top-1 token",
        "KL, nats/token",
        "acceptance rate",
        "uncompressed",
        "GB of own memory",
        "for real",
    ):
        assert part in words


def test_large_pairs_are_measured_only_when_asked(
    tmp_path: Path, tiny_pair: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgespec.commands.quantize.CHEAP_BYTES", 1000)
    run(tiny_pair, tmp_path / "out")
    said = " ".join(capfd.readouterr().err.split())
    assert "was not measured: the uncompressed pair has 0.0 GB of weights and would have to run here; --cost" in said


def test_text_for_a_measurement_that_is_left_out_is_refused(tmp_path: Path, tiny_pair: Path) -> None:
    with pytest.raises(EdgespecError, match="--eval-text is for measuring the cost, and --no-cost leaves that out"):
        run(tiny_pair, tmp_path / "out", eval_text=tmp_path / "x.txt", cost=False)


def test_a_failure_while_measuring_leaves_no_pair(tmp_path: Path, tiny_pair: Path) -> None:
    def measure(*_: object) -> dict[str, object]:
        raise EdgespecError("in the middle")

    with pytest.raises(EdgespecError, match="in the middle"):
        quantize(tiny_pair, tmp_path / "out", Request(), measure=measure)
    assert not list(tmp_path.iterdir())


def test_without_a_draft_there_is_no_acceptance(tmp_path: Path, tiny_target_checkpoint: Path) -> None:
    from edgespec.export import export_pair

    alone = export_pair(tiny_target_checkpoint, None, tmp_path / "alone")
    after, _ = quantize_pair(alone.root, tmp_path / "out")
    found = measure_cost(alone, after, ASKS, SILENT, max_new_tokens=4)
    assert set(found) == {"quality", "texts"}
    shutil.rmtree(alone.root)
