"""What a tokenizer adds by itself: a prompt that stands alone has it, in both engines, as transformers gives it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgespec import EdgespecError, Pair, SpecPipeline
from edgespec.engine.genai import GenaiEngine
from edgespec.engine.native import NativeEngine
from edgespec.settings import EXACT

TEXTS = ("def add(a, b):\n    return", "naïve 🙂 日本", " x", "<|endoftext|>def")
TEMPLATE = "{{ bos_token }}{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
BOS = 1
"""The tiny tokenizer's second token, taken for a BOS that is not its end of text."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_target_checkpoint: Path) -> Path:
    """The tiny target with a tokenizer that begins every text with a BOS, as a Llama's does."""
    folder = Path(shutil.copytree(tiny_target_checkpoint, tmp_path_factory.mktemp("bos") / "target"))
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    token = next(text for text, number in tokenizer["model"]["vocab"].items() if number == BOS)
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {token: {"id": token, "ids": [BOS], "tokens": [token]}},
    }
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"chat_template": TEMPLATE, "bos_token": token}
    path.write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def pair(checkpoint: Path) -> Iterator[Pair]:
    from edgespec.export import export_pair

    yield export_pair(checkpoint, None, checkpoint.parent / "pair")


def test_both_engines_add_what_transformers_adds(checkpoint: Path, pair: Pair) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(checkpoint)
    for kind in (GenaiEngine, NativeEngine):
        engine = kind(pair, device="CPU", mode="plain", settings=EXACT)
        for text in TEXTS:
            assert engine.encode(text, special=True) == theirs(text).input_ids
            assert engine.encode(text) == theirs(text, add_special_tokens=False).input_ids
            assert engine.encode(text, special=True)[0] == BOS
        engine.close()


@pytest.mark.parametrize("mode", ["plain", "native-plain"])
def test_a_raw_prompt_begins_with_it_and_a_chats_template_has_its_own(pair: Pair, mode: str) -> None:
    with SpecPipeline(pair, mode=mode, settings=EXACT) as opened:
        words, engine = opened._the_words(), opened._the_engines.opened[0].engine
        ids = words.encode(TEXTS[0], special=True)
        result = opened.generate(TEXTS[0], max_new_tokens=12)
        assert result.metrics.prompt_tokens == len(ids) == len(words.encode(TEXTS[0])) + 1
        assert result.token_ids == engine.generate(ids, 12).token_ids
        raw = opened.chat(raw=True)
        assert raw.ask(TEXTS[0], max_new_tokens=12).token_ids == result.token_ids
        chat = opened.chat()
        chat.ask("hi", max_new_tokens=2)
        prompt = chat._prompt_ids([{"role": "user", "content": "hi"}])
        assert prompt.count(BOS) == 1 and prompt[0] == BOS, "the template's alone"
        with pytest.raises(EdgespecError, match="the prompt is empty"):
            opened.generate("")
