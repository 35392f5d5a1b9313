"""Everyone who asks a model asks it in the same ids: those of transformers, and of an app with a SpecPipeline.

The pair's tokenizer begins a text that stands alone with a BOS, and its chat template brings one of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgespec import Pair, SpecPipeline
from edgespec.bench.auto import AutoEngine
from edgespec.bench.cases import PromptBook, cases_of, first_turn
from edgespec.bench.isolation import IsolatedEngine
from edgespec.bench.prompts import Prompt
from edgespec.bench.tuning import workshop
from edgespec.bench.verify.world import World
from edgespec.engine.genai import GenaiEngine
from edgespec.engine.native import NativeEngine
from edgespec.engine.reading import Reading, start_ids
from edgespec.engine.step import Generation
from edgespec.errors import EdgespecError
from edgespec.progress import SILENT
from edgespec.quantize import cost
from edgespec.quantize.calibration import text_of_target
from edgespec.quantize.texts import Ask, Tokens, Windows, read_texts, windows
from edgespec.runtime.text import Words
from edgespec.settings import EXACT

BOS = 1
RAW = Prompt("raw", "code", ("def add(a, b):\n    return",), False)
CHAT = Prompt("chat", "code", ("write add", "now subtract"), True)

Ids = dict[str, list[int]]


@pytest.fixture(scope="module")
def expected(beginning_checkpoint: Path) -> Ids:
    """By transformers: of the prompt that stands alone, and of the chat's first turn."""
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(beginning_checkpoint)
    said = [{"role": "user", "content": CHAT.text}]
    templated = theirs.apply_chat_template(said, add_generation_prompt=True, tokenize=False)
    found = {"raw": theirs(RAW.text).input_ids, "chat": theirs(templated, add_special_tokens=False).input_ids}
    for ids in found.values():
        assert ids[0] == BOS and ids.count(BOS) == 1
    return found


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The prompts that the native engine was given."""
    prompts: list[list[int]] = []
    generate = NativeEngine.generate

    def listening(self: NativeEngine, prompt_ids: Any, *args: Any, **options: Any) -> Generation:
        prompts.append(list(prompt_ids))
        return generate(self, prompt_ids, *args, **options)

    monkeypatch.setattr(NativeEngine, "generate", listening)
    return prompts


def test_an_app_that_generates_and_chats(beginning_pair: Pair, expected: Ids, heard: list[list[int]]) -> None:
    with SpecPipeline(beginning_pair, mode="native-plain", settings=EXACT) as pipeline:
        pipeline.generate(RAW.text, max_new_tokens=1)
        pipeline.chat().ask(CHAT.text, max_new_tokens=1)
    assert heard == [expected["raw"], expected["chat"]]


OPENERS: dict[str, Callable[[Pair], Any]] = {
    "plain": lambda pair: GenaiEngine(pair, device="CPU", mode="plain", settings=EXACT),
    "native-plain": lambda pair: NativeEngine(pair, device="CPU", mode="plain", settings=EXACT),
    "auto": lambda pair: AutoEngine(pair, device="CPU", settings=EXACT),
    "plain, in a process of its own": lambda pair: IsolatedEngine(
        pair, engine="genai", device="CPU", draft_device=None, mode="plain", settings=EXACT
    ),
}


@pytest.mark.parametrize("name", OPENERS)
def test_every_arm_of_the_bench(beginning_pair: Pair, expected: Ids, name: str) -> None:
    """Whichever arm's engine is asked first makes the ids of a case for all arms."""
    engine = OPENERS[name](beginning_pair)
    try:
        assert [first_turn(RAW, engine), first_turn(CHAT, engine)] == [expected["raw"], expected["chat"]]
        book = PromptBook([RAW, CHAT])
        book.answers[CHAT.id, 1] = engine.encode("def add", special=False)
        for case in cases_of([RAW, CHAT], contexts=[96]):
            ids = book.ids(case, engine)
            assert ids[0] == BOS and ids.count(BOS) == 1, "before the text that fills the context, and only there"
            assert case.prompt != "raw" or (len(ids) == 96 and ids[-8:] == expected["raw"][-8:])
        assert start_ids(engine) == (BOS,) and engine.encode("") == [BOS] and Reading("").ids(engine) == []
    finally:
        engine.close()


def test_verify(beginning_pair: Pair, expected: Ids) -> None:
    world = World.real(beginning_pair, "CPU", None, EXACT, None)
    assert [world.encode(RAW), world.encode(CHAT)] == [expected["raw"], expected["chat"]]


def test_tune(beginning_pair: Pair, expected: Ids, tmp_path: Path) -> None:
    suite = tmp_path / "suite.jsonl"
    suite.write_text(
        '{"id": "raw", "category": "code", "prompt": "def add(a, b):\\n    return"}\n'
        '{"id": "chat", "category": "code", "turns": ["write add"]}\n'
    )
    engine = OPENERS["native-plain"](beginning_pair)
    asked = workshop(beginning_pair, str(suite)).asks(engine)
    engine.close()
    assert {ask.id: list(ask.ids) for ask in asked.prompts} == expected


def test_train_evaluate_and_the_trial_of_a_draft_in_training(
    beginning_checkpoint: Path, beginning_pair: Pair, expected: Ids, heard: list[list[int]]
) -> None:
    from edgespec.train.drafting import service_on
    from edgespec.train.evaluate import HeldOut, evaluate_pair
    from edgespec.train.models import load_model, load_tokenizer
    from edgespec.train.recipe import EvaluateSection

    prompts = [HeldOut("code", RAW.text), HeldOut("code", CHAT.text, chat=True)]
    evaluate_pair(beginning_pair, prompts, gamma=1, max_new_tokens=1)
    assert heard == [expected["raw"], expected["chat"]]
    target, tokenizer = load_model(beginning_checkpoint), load_tokenizer(beginning_checkpoint)
    service = service_on(target, tokenizer, prompts, EvaluateSection(), 0)
    assert [ids for _, ids in service._prompts] == [expected["raw"], expected["chat"]]


def test_calibration_that_the_target_writes(beginning_pair: Pair, expected: Ids) -> None:
    tokens = Tokens(beginning_pair.target)
    assert tokens.prompt(Ask(RAW.text, chat=False), 100) == expected["raw"]
    assert tokens.prompt(Ask(CHAT.text, chat=True), 100) == expected["chat"]
    assert tokens.prompt(Ask(RAW.text, chat=False), 5) == [BOS, *expected["raw"][-4:]], "cut, it begins like a text"
    assert tokens.prompt(Ask(CHAT.text, chat=True), 5) == [BOS, *expected["chat"][-4:]], "and so does a chat"
    text = text_of_target(beginning_pair, [Ask(RAW.text, chat=False)], count=3, tokens=24, seed=0, progress=SILENT)
    assert [len(window) for window in text.windows.ids] == [24] * 3
    assert {window[0] for window in text.windows.ids} == {BOS}


def test_text_that_compression_is_calibrated_or_measured_with(
    beginning_checkpoint: Path, beginning_pair: Pair, expected: Ids, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a pair with a chat template, and of one without: there, what a user says is a text that stands alone."""
    from edgespec.train.generate.prompts import Prompt as Asked
    from edgespec.train.generate.prompts import encode
    from edgespec.train.models import load_tokenizer

    raw, chat = Ask(RAW.text, chat=False), Ask(CHAT.text, chat=True)
    tokens, theirs = Tokens(beginning_pair.target), load_tokenizer(beginning_checkpoint)
    assert [tokens.read(raw), tokens.read(chat)] == [expected["raw"], expected["chat"]]
    assert [encode(Asked(ask.text, ask.chat), theirs) for ask in (raw, chat)] == [expected["raw"], expected["chat"]]
    assert tokens.read(Ask("", chat=False)) == [] and not tokens.reach(Ask("", chat=False), 1)
    for ask, ids in ((raw, expected["raw"]), (chat, expected["chat"])):
        assert tokens.reach(ask, len(ids)) and not tokens.reach(ask, len(ids) + 1), "what it begins with counts"
        assert windows(tokens, [ask], 1, 256, 0) == Windows((tuple(ids),), 1)

    said = tmp_path / "said.jsonl"
    said.write_text(json.dumps({"turns": [RAW.text]}) + "\n")
    monkeypatch.setattr(Words, "has_chat_template", False)
    tokens = Tokens(beginning_pair.target)
    (ask,) = read_texts(said)
    assert ask.chat and tokens.read(ask) == expected["raw"] == tokens.prompt(ask, 100)
    assert windows(tokens, [ask], 1, 256, 0) == Windows((tuple(expected["raw"]),), 1)
    monkeypatch.setattr(cost, "FEWEST_TOKENS", len(expected["raw"]))
    cost.require_held_out(beginning_pair, [ask], said)
    monkeypatch.setattr(cost, "FEWEST_TOKENS", len(expected["raw"]) + 1)
    with pytest.raises(EdgespecError, match=f"said.jsonl' has {len(expected['raw'])} tokens, and at least"):
        cost.require_held_out(beginning_pair, [ask], said)
