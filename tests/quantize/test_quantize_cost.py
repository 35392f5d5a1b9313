"""What compression cost: figures against ones computed here, the pair's four combinations, and where they are kept."""

from __future__ import annotations

import json
import shutil
import weakref
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax

from edgespec import resources
from edgespec.commands.quantize import run
from edgespec.errors import EdgespecError
from edgespec.pair import Pair, read_manifest
from edgespec.progress import SILENT
from edgespec.quantize import Ask, Request, footprint, measure_cost, quantize, quantize_pair
from edgespec.quantize.cost import COMBINATIONS, held_out
from edgespec.quantize.reading import Reader
from edgespec.quantize.texts import Tokens
from edgespec.staging import staged_directory

ASKS = [Ask("def add(a, b):\n    return", False), Ask("class Stack:\n    def push(self", False)]


def test_quality_is_what_the_logits_say(tmp_path: Path, tiny_pair: Path) -> None:
    before = Pair.open(tiny_pair)
    after, _ = quantize_pair(tiny_pair, tmp_path / "out", target="int4", draft="none")
    found = measure_cost(before, after, ASKS, SILENT, max_new_tokens=8)["quality"]["target"]["q"]
    fp, q = Reader(before.target), Reader(after.target)
    texts = [fp.answer(prompt, 8) for prompt in held_out(before, ASKS, 0).ids]
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
    for mode in ("acceptance", "acceptance_temperature_1"):
        assert found[mode]["q/fp"] == found[mode]["fp/fp"]
        assert found[mode]["q/q"] == found[mode]["fp/q"]


def test_a_pair_that_drafts_with_its_target_accepts_everything_until_one_is_compressed(
    tmp_path: Path, tiny_target_checkpoint: Path
) -> None:
    from edgespec.export import export_pair

    pair = export_pair(tiny_target_checkpoint, tiny_target_checkpoint, tmp_path / "self")
    after, _ = quantize_pair(pair.root, tmp_path / "out", target="none", draft="int4")
    found = measure_cost(pair, after, ASKS, SILENT, max_new_tokens=16)
    assert found["acceptance"]["fp/fp"]["acceptance_rate"] == 1.0
    assert found["acceptance"]["fp/q"]["acceptance_rate"] < 1.0
    assert found["acceptance_temperature_1"]["fp/fp"]["acceptance_rate"] == pytest.approx(1.0, abs=1e-4)
    assert 0.5 < found["acceptance_temperature_1"]["fp/q"]["acceptance_rate"] < 1.0
    assert found["check"]["decoded"] == {key: found["check"]["computed"][key] for key in ("acceptance_rate", "tau")}
    assert found["check"]["same_answers"] == found["check"]["texts"] == 2


def test_the_manifest_and_the_json_have_it_all(
    tmp_path: Path, tiny_pair: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "held.jsonl"
    text.write_text("\n".join(json.dumps({"prompt": ask.text * 4}) for ask in ASKS))
    run(tiny_pair, tmp_path / "out", eval_text=text, json_output=True)
    document = json.loads(capfd.readouterr().out.splitlines()[-1])
    checks = read_manifest(tmp_path / "out").made[-1].checks
    for key in ("quality", "acceptance", "acceptance_temperature_1", "check", "texts"):
        assert document[key] == checks[key]
    for mode in ("acceptance", "acceptance_temperature_1"):
        assert tuple(document[mode]) == COMBINATIONS == ("fp/fp", "q/fp", "fp/q", "q/q")
    peaks = [checks[f"{doing}_peak_anonymous_bytes"] for doing in ("compressing", "measuring")]
    assert 10**8 < max(peaks) <= document["peak_anonymous_bytes"]
    assert set(document["quality"]) == {"target", "draft"}
    Pair.open(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["draft", "edgespec.json", "target"]


def test_the_tables_say_it(
    tmp_path: Path, tiny_pair: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "held.txt"
    text.write_text(ASKS[0].text * 4)
    monkeypatch.setenv("COLUMNS", "120")
    run(tiny_pair, tmp_path / "out", eval_text=text)
    told = capfd.readouterr()
    assert told.out.strip() == f"pair ready: {tmp_path / 'out'}"
    words = " ".join(told.err.split())
    for part in (
        "same top-1 token",
        "KL, nats/token",
        "greedy: accepted",
        "temperature 1: accepted",
        "uncompressed + compressed",
        "GB of own memory while compressing",
        "GB while measuring",
        "texts greedily for real",
        "cost is measured on 1 window, ",
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


def test_text_that_a_calibration_saw_is_not_held_out(tmp_path: Path, tiny_pair: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("def add(a, b): return a + b\n" * 20)
    same = tmp_path / ".." / tmp_path.name / text.name
    with pytest.raises(EdgespecError, match=r"--eval-text and --dataset are both .* text that no calibration saw"):
        run(tiny_pair, tmp_path / "out", awq=True, dataset=str(text), eval_text=same)


@pytest.mark.parametrize("sweep", [False, True], ids=["cost", "sweep"])
@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (
            "short.txt",
            "ab cd",
            r"the text of '.*short\.txt' has \d tokens, and at least 32 in one text are needed to mea",
        ),
        (
            "short.jsonl",
            '{"prompt": "ab"}\n' * 40,
            r"the longest text of '.*short\.jsonl' has \d tokens, and at least 32",
        ),
    ],
)
def test_too_short_a_text_is_refused_before_anything_is_read_through(
    tmp_path: Path, tiny_pair: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str, says: str, sweep: bool
) -> None:
    def late(*_: Any, **__: Any) -> None:
        raise AssertionError("a hash was taken, or something was compressed")

    monkeypatch.setattr("edgespec.pair.Verified", late)
    monkeypatch.setattr("edgespec.quantize.assemble.compress_ir", late)
    text = tmp_path / name
    text.write_text(content)
    with pytest.raises(EdgespecError, match=says):
        run(tiny_pair, tmp_path / "out", eval_text=text, sweep=sweep)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_text_is_read_no_further_than_it_takes(tiny_pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(tiny_pair / "target")
    read: list[int] = []
    encode = tokens._words.encode
    monkeypatch.setattr(
        tokens._words, "encode", lambda piece, special: (read.append(len(piece)), encode(piece, special=special))[1]
    )
    long = Ask("def add(a, b): return a + b\n" * 10_000, chat=False)
    assert tokens.reach(long, 32)
    assert sum(read) <= 20_000
    assert not tokens.reach(Ask("a b", chat=False), 32)


def test_cost_without_any_text_is_refused(tiny_pair: Path) -> None:
    pair = Pair.open(tiny_pair)
    with pytest.raises(EdgespecError, match="there is no text to measure the cost on; give --eval-text FILE, or --no-"):
        measure_cost(pair, pair, [Ask("", chat=False)], SILENT)


def test_cost_that_does_not_fit_is_refused_where_it_was_asked_for_and_left_out_where_not(
    tmp_path: Path, tiny_pair: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room to compress these, not to run them."""
    monkeypatch.setattr(footprint, "MODEL_BYTES", 5_000_000_000)
    monkeypatch.setattr(resources, "available_memory_bytes", lambda: 4_000_000_000)
    says = (
        r"measuring what compression costs, for which the uncompressed models run here, needs about 15\.3 GB of memory "
        r"and 4\.0 of \d+\.\d GB are free; .*; or leave it out with --no-cost"
    )
    with pytest.raises(EdgespecError, match=says):
        run(tiny_pair, tmp_path / "out", cost=True)
    assert not list(tmp_path.iterdir())
    run(tiny_pair, tmp_path / "out")
    assert "what it costs is not measured: measuring what compression costs" in " ".join(capfd.readouterr().err.split())
    assert "quality" not in read_manifest(tmp_path / "out").made[-1].checks


def test_the_logits_kept_on_disk_count(tmp_path: Path, tiny_pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def staged(out: Path, need_bytes: int, progress: object) -> AbstractContextManager[Path]:
        asked.append(need_bytes)
        return staged_directory(out)

    monkeypatch.setattr("edgespec.quantize.assemble.staged_directory", staged)
    quantize(tiny_pair, tmp_path / "out", Request())
    quantize(tiny_pair, tmp_path / "measured", Request(), measure=lambda *_: {})
    assert asked[1] - asked[0] == 16 * (256 + 64) * 320 * 4


def test_a_model_is_gone_before_the_next_is_opened(
    tmp_path: Path, tiny_pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: set[int] = set()
    most: list[int] = []
    init = Reader.__init__

    def opened(self: Reader, folder: Path, vocabulary: int | None = None) -> None:
        init(self, folder, vocabulary)
        alive.add(id(self))
        weakref.finalize(self, alive.discard, id(self))
        most.append(len(alive))

    monkeypatch.setattr(Reader, "__init__", opened)
    after, _ = quantize_pair(tiny_pair, tmp_path / "out")
    measure_cost(Pair.open(tiny_pair), after, ASKS, SILENT, max_new_tokens=4)
    assert most == [1] * 5  # target and draft before and after, and the compressed draft again for the check


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
