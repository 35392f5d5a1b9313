from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgespec.engine.genai import GenaiEngine, open_engine
from edgespec.engine.passes import measure_passes
from edgespec.engine.stateful import StatefulModel
from edgespec.engine.step import acceptance_rate, block_efficiency
from edgespec.errors import EdgespecError
from edgespec.pair import Pair, record_files, write_manifest
from edgespec.sampling import Sampling
from edgespec.settings import EXACT

PROMPT = "def add(a, b):\n    return"


def greedy_by_hand(pair: Pair, prompt: Sequence[int], count: int) -> list[int]:
    """The target's argmax, one pass a token, straight from the IR: what every mode must say."""
    model = StatefulModel(str(pair.target / "openvino_model.xml"), "CPU", EXACT)
    tokens: list[int] = []
    logits = model.feed(np.asarray(prompt))
    while len(tokens) < count:
        tokens.append(int(logits[-1].argmax()))
        if tokens[-1] == 0:
            break
        logits = model.feed(np.asarray(tokens[-1:]))
    return tokens


@pytest.fixture(scope="module")
def pair(tiny_pair: Path) -> Pair:
    return Pair.open(tiny_pair)


@pytest.fixture(scope="module", params=["plain", "draft", "lookup"])
def engine(request: pytest.FixtureRequest, pair: Pair) -> Iterator[GenaiEngine]:
    engine = open_engine(pair, device="CPU", mode=request.param, settings=EXACT)
    yield engine
    engine.close()


def test_every_mode_says_what_the_target_says(engine: GenaiEngine, pair: Pair) -> None:
    for text in (PROMPT, "class Stack:\n    def push", "for i in range(10):\n    print(i, i * i)\nfor i in"):
        ids = engine.encode(text)
        generation = engine.generate(ids, 40)
        assert generation.token_ids == greedy_by_hand(pair, ids, 40)
        assert [token for step in generation.steps for token in step.tokens] == generation.token_ids
        assert 0 < generation.ttft_s <= generation.wall_s


def test_encode_and_decode_are_inverse(engine: GenaiEngine) -> None:
    for text in (PROMPT, "tabs\tand  spaces\n\n", "naïve 🙂 日本"):
        assert engine.decode(engine.encode(text)) == text


@pytest.mark.parametrize(("gamma", "count"), [(1, 20), (3, 20), (3, 21), (5, 20), (5, 7)])
def test_a_self_draft_accepts_everything(self_draft_pair: Pair, gamma: int, count: int) -> None:
    engine = open_engine(self_draft_pair, device="CPU", mode="draft", settings=EXACT)
    generation = engine.generate(engine.encode(PROMPT), count, gamma=gamma)
    assert len(generation.token_ids) == count, "the tiny model must not end its text here"
    assert acceptance_rate(generation.steps) == 1
    assert all(len(step.tokens) == (step.proposed or 0) + 1 for step in generation.steps)
    full = [step for step in generation.steps[1:-1]]
    assert all(step.proposed == gamma for step in full)


def test_a_hostile_draft_accepts_next_to_nothing_and_changes_nothing(pair: Pair) -> None:
    engine = open_engine(pair, device="CPU", mode="draft", settings=EXACT)
    ids = engine.encode(PROMPT)
    generation = engine.generate(ids, 40, gamma=4)
    assert generation.token_ids == greedy_by_hand(pair, ids, 40)
    tau = block_efficiency(generation.steps)
    assert tau is not None and 1 <= tau < 2


@pytest.mark.parametrize("mode", ["plain", "draft", "lookup"])
def test_the_end_of_text_ends_the_answer(pair: Pair, tmp_path: Path, mode: str) -> None:
    engine = open_engine(pair, device="CPU", mode="plain", settings=EXACT)
    ids = engine.encode(PROMPT)
    answer = greedy_by_hand(pair, ids, 40)
    place = next(i for i in range(4, 40) if answer[i] not in answer[:i])  # this token shall end the text from now on
    root = Path(shutil.copytree(pair.root, tmp_path / "ends"))
    config = {"eos_token_id": [299, answer[place]], "bos_token_id": 0, "pad_token_id": 0}
    for role in ("target", "draft"):
        (root / role / "generation_config.json").write_text(json.dumps(config), encoding="utf-8")
    manifest = pair.manifest
    records = {
        role: getattr(manifest, role).model_copy(update={"files": record_files(root / role)})
        for role in ("target", "draft")
    }
    write_manifest(root, manifest.model_copy(update=records))
    engine = open_engine(Pair.open(root), device="CPU", mode=mode, settings=EXACT)  # type: ignore[arg-type]
    assert engine.stop_ids == {299, answer[place]}
    generation = engine.generate(ids, 40, gamma=None)
    assert generation.finish_reason == "stop"
    assert generation.token_ids == answer[: place + 1]
    assert [token for step in generation.steps for token in step.tokens] == generation.token_ids
    more = engine.generate(ids, 40, sampling=Sampling(stop_token_ids=(298,)))
    assert more.token_ids == generation.token_ids, "a request's own stop tokens come beside the model's"


def test_on_tokens_sees_everything_and_can_stop(engine: GenaiEngine) -> None:
    seen: list[int] = []
    generation = engine.generate(engine.encode(PROMPT), 30, on_tokens=lambda tokens: bool(seen.extend(tokens)))
    assert seen == generation.token_ids
    short = engine.generate(engine.encode(PROMPT), 200, on_tokens=lambda _: True)
    assert len(short.token_ids) < 100


def test_an_exception_in_the_callback_reaches_the_caller(engine: GenaiEngine) -> None:
    def broken(_: Sequence[int]) -> bool:
        raise RuntimeError("from the callback")

    with pytest.raises(RuntimeError, match="from the callback"):
        engine.generate(engine.encode(PROMPT), 30, on_tokens=broken)
    assert engine.generate(engine.encode(PROMPT), 5).token_ids, "the engine must survive it"


def test_refusals(pair: Pair, engine: GenaiEngine) -> None:
    with pytest.raises(EdgespecError, match="the prompt is empty"):
        engine.generate([], 5)
    with pytest.raises(EdgespecError, match="max_new_tokens must be at least 1"):
        engine.generate([1], 0)
    with pytest.raises(EdgespecError, match="there is no device 'TPU' on this machine; OpenVINO finds CPU"):
        open_engine(pair, device="TPU")
    if engine.mode == "draft":
        with pytest.raises(EdgespecError, match=r"does not follow the target's distribution"):
            engine.generate([1], 5, sampling=Sampling(temperature=0.7))
    if engine.mode != "plain":
        with pytest.raises(EdgespecError, match="gamma must be at least 1"):
            engine.generate([1], 5, gamma=0)


def test_a_pair_without_a_draft_cannot_run_draft_mode(pair: Pair, tmp_path: Path) -> None:
    root = tmp_path / "alone"
    shutil.copytree(pair.target, root / "target")
    write_manifest(root, pair.manifest.model_copy(update={"draft": None}))
    with pytest.raises(EdgespecError, match=r"needs a draft and the pair .* has none"):
        open_engine(Pair.open(root), device="CPU", mode="draft")


def test_sampling_with_a_seed_repeats_itself(pair: Pair) -> None:
    engine = open_engine(pair, device="CPU", mode="plain", settings=EXACT)
    ids = engine.encode(PROMPT)
    runs = [engine.generate(ids, 20, sampling=Sampling(1.0, seed=seed)).token_ids for seed in (1, 1, 2, 3)]
    assert runs[0] == runs[1]
    assert len({tuple(run) for run in runs}) > 1


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [({"temperature": -1}, "temperature"), ({"top_p": 0}, "top_p"), ({"top_k": -2}, "top_k")],
)
def test_sampling_out_of_range_is_refused(wrong: dict[str, float], sentence: str) -> None:
    with pytest.raises(EdgespecError, match=sentence):
        Sampling(**wrong)  # type: ignore[arg-type]


def test_passes_are_timed_for_every_length_of_both_models(pair: Pair) -> None:
    times = measure_passes(pair, device="CPU", lengths=(2, 4), drafting=True, context=16, repetitions=2)
    assert {role: sorted(found) for role, found in times.items()} == {"target": [1, 2, 4], "draft": [1, 3]}
    assert all(seconds > 0 for found in times.values() for seconds in found.values())
    alone = measure_passes(pair, device="CPU", lengths=(2,), context=16, repetitions=1)
    assert {role: sorted(found) for role, found in alone.items()} == {"target": [1, 2]}
    without = replace(pair, manifest=pair.manifest.model_copy(update={"draft": None}))
    with pytest.raises(EdgespecError, match="has no draft to measure"):
        measure_passes(without, device="CPU", drafting=True)


def test_a_threshold_drafts_while_the_draft_is_confident(pair: Pair) -> None:
    plain = GenaiEngine(pair, device="CPU", settings=EXACT)
    draft = GenaiEngine(pair, device="CPU", mode="draft", settings=EXACT)
    ids = plain.encode("def add(a, b):")
    found = draft.generate(ids, 24, threshold=0.01)
    assert found.token_ids == plain.generate(ids, 24).token_ids
    assert all(step.proposed is None for step in found.steps[1:]), "how much it proposed is not told"
    with pytest.raises(EdgespecError, match="a threshold is for mode 'draft'"):
        plain.generate(ids, 4, threshold=0.4)
    with pytest.raises(EdgespecError, match="instead of a gamma"):
        draft.generate(ids, 4, gamma=2, threshold=0.4)


def test_record_files_lists_below_the_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_text("abc")
    files = record_files(tmp_path)
    assert list(files) == ["sub/file"] and files["sub/file"].bytes == 3
